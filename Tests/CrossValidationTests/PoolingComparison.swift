import Permafrost
import Testing

/// Maximum pooling exactly, ties and all; average pooling within the bound of a sum.
func comparePooling(_ goldens: Goldens) throws {
    for golden in try goldens.cases("pooling") {
        let input = try golden.tensor("input", requiresGrad: true)
        let gradient = try golden.tensor("output_gradient")
        let operation = try golden.text("operation")
        let output: Tensor
        switch operation {
        case "max":
            output = try maxPool2d(
                input, kernelSize: golden.pair("kernel_size"), stride: golden.pair("stride"),
                padding: golden.pair("padding"), dilation: golden.pair("dilation"), ceilMode: golden.flag("ceil_mode"))
        case "average":
            output = try avgPool2d(
                input, kernelSize: golden.pair("kernel_size"), stride: golden.pair("stride"),
                padding: golden.pair("padding"), ceilMode: golden.flag("ceil_mode"),
                countIncludePad: golden.flag("count_include_pad"))
        default:
            output = try adaptiveAvgPool2d(input, outputSize: golden.pair("output_size"))
        }
        try output.backward(gradient: gradient)

        let windows = try windows(golden, input: input.shape, output: golden.tensor("output").shape)
        let x = input.scalars, g = gradient.scalars
        var contributions = [[Bounded]](repeating: [], count: x.count)
        var y: [Bounded] = []
        for (window, upstream) in zip(windows, g) {
            if operation == "max" {
                let first = window.elements.reduce(window.elements[0]) { x[$1] > x[$0] ? $1 : $0 }
                y.append(Bounded(x[first]))
                contributions[first].append(Bounded(upstream))
            } else {
                let divisor = Bounded(Double(window.divisor))
                y.append(.sum(window.elements.map { Bounded(x[$0]) }) / divisor)
                for element in window.elements { contributions[element].append(Bounded(upstream) / divisor) }
            }
        }
        if operation == "max" {
            expectEqual(output, try golden.tensor("output"), "output", of: golden)
        }
        expect(output, and: try golden.tensor("output"), within: y, "output", of: golden)
        expect(
            input.grad, and: try golden.tensor("input_gradient"), within: contributions.map(Bounded.sum),
            "input gradient", of: golden)
    }
}

private struct Window {
    /// Positions in the input, row by row.
    var elements: [Int]
    var divisor: Int
}

/// The window of each element of the output, in order.
private func windows(_ golden: GoldenCase, input: Shape, output: Shape) throws -> [Window] {
    let planes = input[0] * input[1]
    let rows = try (0..<output[2]).map { try span(golden, axis: 0, at: $0, extent: input[2], outputs: output[2]) }
    let columns = try (0..<output[3]).map { try span(golden, axis: 1, at: $0, extent: input[3], outputs: output[3]) }
    return (0..<planes).flatMap { plane in
        rows.flatMap { row in
            columns.map { column in
                Window(
                    elements: row.positions.flatMap { y in
                        column.positions.map { x in (plane * input[2] + y) * input[3] + x }
                    },
                    divisor: row.divisor * column.divisor)
            }
        }
    }
}

/// What a window covers along one axis (0 is height), and its share of the divisor.
private func span(
    _ golden: GoldenCase, axis: Int, at index: Int, extent: Int, outputs: Int
) throws -> (positions: [Int], divisor: Int) {
    if try golden.text("operation") == "adaptive" {
        let positions = Array(index * extent / outputs..<((index + 1) * extent + outputs - 1) / outputs)
        return (positions, positions.count)
    }
    let kernel = try golden.integers("kernel_size")[axis], padding = try golden.integers("padding")[axis]
    let isMaximum = try golden.text("operation") == "max"
    let dilation = isMaximum ? try golden.integers("dilation")[axis] : 1
    let start = try index * golden.integers("stride")[axis] - padding
    let positions = (0..<kernel).map { start + $0 * dilation }.filter { (0..<extent).contains($0) }
    // A window that ceil mode lets reach beyond the padding counts no further than its end.
    let covered = min(start + kernel, extent + padding) - start
    let countsPadding = try !isMaximum && golden.flag("count_include_pad")
    return (positions, countsPadding ? covered : positions.count)
}
