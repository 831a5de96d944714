import Foundation

extension Tensor: CustomStringConvertible {
    /// Nested brackets in row-major order, columns aligned; the middle of an axis with more than six entries is
    /// left out when the tensor has more than a thousand elements.
    public var description: String {
        let formatted = TensorFormatter(self)
        var text = formatted.body
        if rank > 0 && count == 0 { text += ", shape: \(shape)" }
        if let node { text += node is Leaf ? ", requiresGrad" : ", computed by \(node.operation)" }
        return "Tensor(\(text))"
    }
}

private struct TensorFormatter {
    private let tensor: Tensor
    private let summarize: Bool
    private let scientific: Bool
    private let integral: Bool
    private let edge = 3

    init(_ tensor: Tensor) {
        self.tensor = tensor
        summarize = tensor.count > 1000
        let finite = tensor.scalars.filter { $0.isFinite }
        integral = finite.allSatisfy { $0 == $0.rounded() && abs($0) < 1e7 }
        let magnitudes = finite.map { abs($0) }.filter { $0 > 0 }
        let largest = magnitudes.max() ?? 0
        let smallest = magnitudes.min() ?? 0
        scientific = !integral && (largest >= 1e7 || smallest < 1e-4 || largest / smallest > 1e6)
    }

    private func format(_ value: Float) -> String {
        if value.isNaN { return "nan" }
        if value.isInfinite { return value < 0 ? "-inf" : "inf" }
        if integral { return String(format: "%.0f.", Double(value)) }
        return String(format: scientific ? "%.4e" : "%.4f", Double(value))
    }

    private func shown(_ extent: Int) -> [Int?] {
        guard summarize, extent > 2 * edge else { return (0..<extent).map { $0 } }
        return (0..<edge).map { $0 } + [nil] + (extent - edge..<extent).map { $0 }
    }

    var body: String {
        guard tensor.rank > 0 else { return format(tensor.item()) }
        guard tensor.count > 0 else { return "[]" }
        let strides = tensor.shape.denseStrides.map { Int($0) }
        var width = 0
        func measure(_ axis: Int, _ offset: Int) {
            for case let i? in shown(tensor.shape[axis]) {
                let next = offset + i * strides[axis]
                if axis == tensor.rank - 1 {
                    width = max(width, format(tensor.storage.pointer[next]).count)
                } else {
                    measure(axis + 1, next)
                }
            }
        }
        measure(0, 0)
        func render(_ axis: Int, _ offset: Int, indent: Int) -> String {
            let isLast = axis == tensor.rank - 1
            let entries = shown(tensor.shape[axis]).map { i -> String in
                guard let i else { return "..." }
                let next = offset + i * strides[axis]
                guard isLast else { return render(axis + 1, next, indent: indent + 1) }
                let text = format(tensor.storage.pointer[next])
                return String(repeating: " ", count: width - text.count) + text
            }
            let lineBreaks = String(repeating: "\n", count: tensor.rank - 1 - axis)
            let separator = isLast ? ", " : "," + lineBreaks + String(repeating: " ", count: indent + 1)
            return "[" + entries.joined(separator: separator) + "]"
        }
        // "Tensor(" is seven columns wide: later rows stand under the first.
        return render(0, 0, indent: 7)
    }
}
