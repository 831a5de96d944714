import CReference
import Permafrost
import Testing

/// Forward, and the gradients of input, weight and bias, of every case.
///
/// The bound is that of a sum of products in any order, gamma_n * sum of |a * b| (see `ref_error_bound`), where both
/// sums are the reference's, in double precision; in fast numerics it is raised to what fewer multiplications may cost
/// (`ref_fast_bound`).
func compareConvolutions(_ goldens: Goldens, numerics: Numerics) throws {
    let cases = try goldens.cases("convolution")
    #expect(cases.count >= 100)
    for golden in cases {
        let input = try golden.tensor("input", requiresGrad: true)
        let weight = try golden.tensor("weight", requiresGrad: true)
        let bias = golden.optionalTensor("bias", requiresGrad: true)
        let gradient = try golden.tensor("output_gradient")
        let padding = try golden.integers("padding")
        let output = try withExecution(numerics: numerics) {
            let output = try conv2d(
                input, weight, bias: bias, stride: golden.pair("stride"),
                padding: Padding(top: padding[0], bottom: padding[1], left: padding[2], right: padding[3]),
                dilation: golden.pair("dilation"), groups: Int(golden.number("groups")))
            try output.backward(gradient: gradient)
            return output
        }
        let reference = try ConvolutionReference(golden, numerics)
        expect(
            output, and: try golden.tensor("output"),
            within: reference.forward(input.scalars, weight.scalars, bias?.scalars), "output", of: golden)
        expect(
            input.grad, and: try golden.tensor("input_gradient"),
            within: reference.inputGradient(gradient.scalars, weight.scalars), "input gradient", of: golden)
        expect(
            weight.grad, and: try golden.tensor("weight_gradient"),
            within: reference.weightGradient(input.scalars, gradient.scalars), "weight gradient", of: golden)
        if let bias {
            expect(
                bias.grad, and: try golden.tensor("bias_gradient"),
                within: reference.biasGradient(gradient.scalars), "bias gradient", of: golden)
        }
    }
}

/// The passes of one problem in double precision, each element beside its bound.
private struct ConvolutionReference {
    private let problem: ref_convolution
    private let fast: ref_fast_bound

    init(_ golden: GoldenCase, _ numerics: Numerics) throws {
        let input = try golden.tensor("input").shape, weight = try golden.tensor("weight").shape
        let stride = try golden.pair("stride"), dilation = try golden.pair("dilation")
        let padding = try golden.integers("padding").map(Int64.init)
        problem = ref_convolution(
            batch: Int64(input[0]), input_channels: Int64(input[1]), input_height: Int64(input[2]),
            input_width: Int64(input[3]), output_channels: Int64(weight[0]), kernel_height: Int64(weight[2]),
            kernel_width: Int64(weight[3]), stride_height: Int64(stride.height), stride_width: Int64(stride.width),
            padding_top: padding[0], padding_bottom: padding[1], padding_left: padding[2], padding_right: padding[3],
            dilation_height: Int64(dilation.height), dilation_width: Int64(dilation.width),
            groups: Int64(try golden.number("groups")))
        fast = numerics == .fast ? withUnsafePointer(to: problem) { ref_fast_bound_of($0) } : ref_fast_bound()
    }

    /// Runs one pass on the operands, and once more on their absolute values for the bound's magnitude; `growth` times
    /// the operands' largest values is the least magnitude.
    private func bounded(
        count: Int64, growth: Double = 0, _ operands: [[Float]],
        _ pass: ([[Float]], UnsafeMutablePointer<Double>) -> Void
    ) -> [Bounded] {
        var values = [Double](repeating: 0, count: Int(count)), magnitudes = values
        pass(operands, &values)
        pass(operands.map { $0.map(abs) }, &magnitudes)
        let terms = withUnsafePointer(to: problem) { ref_longest_sum($0) } + 1 + fast.roundings
        let least = operands.prefix(2).reduce(growth) { $0 * Double($1.map(abs).max()!) }
        return zip(values, magnitudes).map { value, magnitude in
            Bounded(value: value, error: ref_error_bound(terms, max(magnitude, least)))
        }
    }

    func forward(_ input: [Float], _ weight: [Float], _ bias: [Float]?) -> [Bounded] {
        withUnsafePointer(to: problem) { problem in
            bounded(
                count: ref_output_count(problem), growth: fast.forward, [input, weight] + (bias.map { [$0] } ?? [])
            ) { operands, result in
                if operands.count == 3 {
                    ref_convolution_forward(problem, operands[0], operands[1], operands[2], result)
                } else {
                    ref_convolution_forward(problem, operands[0], operands[1], nil, result)
                }
            }
        }
    }

    func inputGradient(_ outputGradient: [Float], _ weight: [Float]) -> [Bounded] {
        withUnsafePointer(to: problem) { problem in
            bounded(count: ref_input_count(problem), growth: fast.input_gradient, [outputGradient, weight]) {
                ref_convolution_input_gradient(problem, $0[0], $0[1], $1)
            }
        }
    }

    func weightGradient(_ input: [Float], _ outputGradient: [Float]) -> [Bounded] {
        withUnsafePointer(to: problem) { problem in
            bounded(count: ref_weight_count(problem), growth: fast.weight_gradient, [input, outputGradient]) {
                ref_convolution_weight_gradient(problem, $0[0], $0[1], $1)
            }
        }
    }

    func biasGradient(_ outputGradient: [Float]) -> [Bounded] {
        withUnsafePointer(to: problem) { problem in
            bounded(count: problem.pointee.output_channels, [outputGradient]) {
                ref_convolution_bias_gradient(problem, $0[0], $1)
            }
        }
    }
}
