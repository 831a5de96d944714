/// What may stand for one axis in a tensor's subscript: an `Int` (negative counts from the end; the axis is
/// dropped), a range of `Int` (open ends allowed), `.all`, or `.every(step)`.
public protocol AxisIndex {
    /// The positions that this index selects on an axis of `extent`.
    func resolved(extent: Int) throws(AxisIndexError) -> AxisPositions
}

/// An index that doesn't fit its axis; `Selection` adds which axis and which tensor.
public struct AxisIndexError: Error {
    let message: String
}

/// Positions on an axis: `first`, `first + step`, …, `count` of them.
public struct AxisPositions: Hashable, Sendable {
    public var first: Int
    public var step: Int
    public var count: Int
    /// Whether the axis disappears from the result, as with an `Int`.
    public var dropsAxis: Bool

    public init(first: Int, step: Int, count: Int, dropsAxis: Bool) {
        self.first = first
        self.step = step
        self.count = count
        self.dropsAxis = dropsAxis
    }
}

extension Int: AxisIndex {
    public func resolved(extent: Int) throws(AxisIndexError) -> AxisPositions {
        guard self >= -extent && self < extent else {
            throw AxisIndexError(message: "index \(self) is out of range")
        }
        return AxisPositions(first: self < 0 ? self + extent : self, step: 1, count: 1, dropsAxis: true)
    }
}

private func positions(_ lower: Int, _ upper: Int, extent: Int) throws(AxisIndexError) -> AxisPositions {
    let first = lower < 0 ? lower + extent : lower
    let end = upper < 0 ? upper + extent : upper
    guard first >= 0, end <= extent, first <= end else {
        throw AxisIndexError(message: "range \(lower)..<\(upper) is out of range")
    }
    return AxisPositions(first: first, step: 1, count: end - first, dropsAxis: false)
}

extension Range<Int>: AxisIndex {
    public func resolved(extent: Int) throws(AxisIndexError) -> AxisPositions {
        try positions(lowerBound, upperBound, extent: extent)
    }
}

extension ClosedRange<Int>: AxisIndex {
    public func resolved(extent: Int) throws(AxisIndexError) -> AxisPositions {
        try positions(lowerBound, upperBound + 1, extent: extent)
    }
}

extension PartialRangeFrom<Int>: AxisIndex {
    public func resolved(extent: Int) throws(AxisIndexError) -> AxisPositions {
        try positions(lowerBound, extent, extent: extent)
    }
}

extension PartialRangeUpTo<Int>: AxisIndex {
    public func resolved(extent: Int) throws(AxisIndexError) -> AxisPositions {
        try positions(0, upperBound, extent: extent)
    }
}

extension PartialRangeThrough<Int>: AxisIndex {
    public func resolved(extent: Int) throws(AxisIndexError) -> AxisPositions {
        try positions(0, upperBound + 1, extent: extent)
    }
}

/// `.all`: the whole axis.
public struct AllIndices: AxisIndex, Hashable, Sendable {
    public func resolved(extent: Int) throws(AxisIndexError) -> AxisPositions {
        AxisPositions(first: 0, step: 1, count: extent, dropsAxis: false)
    }
}

/// `.every(step)`: each step-th position from 0, or NumPy's `start:stop:step`.
public struct StridedIndices: AxisIndex, Hashable, Sendable {
    var start: Int?, stop: Int?, step: Int

    /// NumPy's slice `start:stop:step`: open ends are nil, negative bounds count from the end, bounds beyond the
    /// axis are clipped.
    public init(from start: Int? = nil, to stop: Int? = nil, by step: Int = 1) {
        self.start = start
        self.stop = stop
        self.step = step
    }

    public func resolved(extent: Int) throws(AxisIndexError) -> AxisPositions {
        guard step != 0 else { throw AxisIndexError(message: "a slice's step can't be 0") }
        func bound(_ value: Int?, ifOpen open: Int) -> Int {
            guard let value else { return open }
            let fromStart = value < 0 ? value + extent : value
            return step > 0 ? min(max(fromStart, 0), extent) : min(max(fromStart, -1), extent - 1)
        }
        let first = bound(start, ifOpen: step > 0 ? 0 : extent - 1)
        let end = bound(stop, ifOpen: step > 0 ? extent : -1)
        let count = step > 0 ? max(0, (end - first + step - 1) / step) : max(0, (first - end - step - 1) / -step)
        return AxisPositions(first: first, step: step, count: count, dropsAxis: false)
    }
}

extension AxisIndex where Self == AllIndices {
    public static var all: AllIndices { AllIndices() }
}

extension AxisIndex where Self == StridedIndices {
    public static func every(_ step: Int) -> StridedIndices { StridedIndices(by: step) }
}

/// The elements of a tensor that a list of indices selects: indices resolved against a shape.
public struct Selection: Hashable, Sendable {
    /// The shape that was indexed.
    public let source: Shape
    /// The shape of what is selected: axes indexed by an `Int` are dropped, axes that no index names are whole.
    public let shape: Shape
    private let axes: [AxisPositions]

    /// - Throws: `TensorError` that names the axis and its size when an index is out of range, or when there are more
    ///   indices than axes.
    public init(_ indices: [any AxisIndex], in shape: Shape) throws {
        guard indices.count <= shape.rank else {
            throw TensorError("\(indices.count) indices for a tensor of shape \(shape), which has \(shape.rank) axes")
        }
        var axes: [AxisPositions] = []
        axes.reserveCapacity(shape.rank)
        var selected = Shape([])
        for axis in 0..<shape.rank {
            let positions: AxisPositions
            if axis < indices.count {
                do throws(AxisIndexError) {
                    positions = try indices[axis].resolved(extent: shape[axis])
                } catch {
                    throw TensorError(
                        "\(error.message) for axis \(axis) of size \(shape[axis]) of a tensor of shape \(shape)")
                }
            } else {
                positions = AxisPositions(first: 0, step: 1, count: shape[axis], dropsAxis: false)
            }
            if !positions.dropsAxis { selected.append(positions.count) }
            axes.append(positions)
        }
        source = shape
        self.shape = selected
        self.axes = axes
    }

    public var count: Int { axes.reduce(1) { $0 * $1.count } }

    /// The offset of the first selected element, and the strides of the selection, in elements of the source.
    var view: (offset: Int, strides: [Int64]) {
        var offset = 0
        var strides: [Int64] = []
        for (axis, dense) in zip(axes, source.denseStrides) {
            offset += axis.first * Int(dense)
            if !axis.dropsAxis { strides.append(Int64(axis.step) * dense) }
        }
        return (offset, strides)
    }

    /// Row-major positions in the source of all selected elements, in the selection's row-major order.
    public var offsets: [Int] {
        var result = [0]
        for (axis, dense) in zip(axes, source.denseStrides) {
            let steps = (0..<axis.count).map { (axis.first + $0 * axis.step) * Int(dense) }
            result = result.flatMap { base in steps.map { base + $0 } }
        }
        return result
    }
}
