import CKernels
import Testing

/// Memory for each tensor of a convolution problem: ones to read, and outputs that hold `untouched` before each call.
final class ConvolutionOperands {
    static let untouched: Float = -12345

    let problem: pf_convolution2d
    let input, weight, bias, outputGradient: [Float]
    let weightMask, biasMask: [UInt8]
    private let longest: Int

    /// For a problem that is in order, operands that fit it; else `minimum` elements each, which a call that checks its
    /// arguments doesn't touch.
    init(_ problem: pf_convolution2d, minimum: Int = 64) {
        self.problem = problem
        var (height, width): (Int64, Int64) = (0, 0)
        let inOrder = withUnsafePointer(to: problem) { pf_convolution2d_output_size($0, &height, &width) } == pf_ok
        func count(_ extents: Int64...) -> Int { inOrder ? max(Int(extents.reduce(1, *)), minimum) : minimum }
        let channels = problem.input_channels
        let inputs = count(problem.batch, channels, problem.input_height, problem.input_width)
        let outputs = count(problem.batch, problem.output_channels, height, width)
        let groupChannels = inOrder ? channels / problem.groups : 1
        let weights = count(problem.output_channels, groupChannels, problem.kernel_height, problem.kernel_width)
        let biases = count(problem.output_channels)
        input = [Float](repeating: 1, count: inputs)
        weight = [Float](repeating: 1, count: weights)
        bias = [Float](repeating: 1, count: biases)
        outputGradient = [Float](repeating: 1, count: outputs)
        weightMask = [UInt8](repeating: 1, count: weights)
        biasMask = [UInt8](repeating: 1, count: biases)
        longest = max(inputs, outputs, weights, biases)
    }

    /// Calls one function with a fresh output; when it fails, the output must be untouched.
    func call(
        sourceLocation: SourceLocation = #_sourceLocation,
        _ function: (UnsafePointer<pf_convolution2d>, UnsafeMutablePointer<Float>) -> pf_status
    ) -> pf_status {
        var output = [Float](repeating: Self.untouched, count: longest)
        let status = withUnsafePointer(to: problem) { function($0, &output) }
        if status != pf_ok {
            #expect(output.allSatisfy { $0 == Self.untouched }, "wrote, and failed", sourceLocation: sourceLocation)
        }
        return status
    }

    /// Calls a pass, without a mask.
    func call(_ pass: pf_convolution_pass, context: pf_context) -> pf_status {
        var context = context
        return call { problem, output in
            switch pass {
            case pf_pass_forward:
                pf_convolution2d_forward(&context, problem, pf_activation_none, input, weight, bias, output)
            case pf_pass_input_gradient:
                pf_convolution2d_input_gradient(&context, problem, outputGradient, weight, pf_overwrite, output)
            case pf_pass_weight_gradient:
                pf_convolution2d_weight_gradient(&context, problem, input, outputGradient, nil, pf_overwrite, output)
            default: backward(&context, problem, nil, pf_overwrite, output)
            }
        }
    }

    /// All gradients in one call, the weight's into `output`.
    private func backward(
        _ context: UnsafePointer<pf_context>, _ problem: UnsafePointer<pf_convolution2d>, _ mask: [UInt8]?,
        _ writing: pf_writing, _ output: UnsafeMutablePointer<Float>
    ) -> pf_status {
        var inputGradient = input, biasGradient = bias
        let status = pf_convolution2d_backward(
            context, problem, input, weight, outputGradient, mask, biasMask, writing, writing, &inputGradient, output,
            &biasGradient)
        if status != pf_ok { #expect(inputGradient == input && biasGradient == bias, "wrote, and failed") }
        return status
    }

    /// The statuses of forward, input, weight and bias gradient, and of all gradients in one call.
    func callAll(
        context: pf_context, writing: pf_writing = pf_overwrite, sourceLocation: SourceLocation = #_sourceLocation
    ) -> [pf_status] {
        var context = context
        return [
            call(sourceLocation: sourceLocation) {
                pf_convolution2d_forward(&context, $0, pf_activation_none, input, weight, bias, $1)
            },
            call(sourceLocation: sourceLocation) {
                pf_convolution2d_input_gradient(&context, $0, outputGradient, weight, writing, $1)
            },
            call(sourceLocation: sourceLocation) {
                pf_convolution2d_weight_gradient(&context, $0, input, outputGradient, weightMask, writing, $1)
            },
            call(sourceLocation: sourceLocation) {
                pf_convolution2d_bias_gradient(&context, $0, outputGradient, biasMask, writing, $1)
            },
            call(sourceLocation: sourceLocation) { backward(&context, $0, weightMask, writing, $1) },
        ]
    }
}

/// Expects every pass, the output size and the workspace of `problem` to report `status`. (The output size and the bias
/// know no context; they are expected to succeed where the context alone is wrong.)
func expectConvolutionStatus(
    _ status: pf_status, _ problem: pf_convolution2d,
    context: pf_context = pf_context(threads: 1, numerics: pf_exact, isa: pf_isa_auto), _ comment: Comment? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let statuses = ConvolutionOperands(problem).callAll(context: context, sourceLocation: sourceLocation)
    #expect(statuses == Array(repeating: status, count: 5), comment, sourceLocation: sourceLocation)
    var context = context
    var bytes = 77
    let workspace = withUnsafePointer(to: problem) {
        pf_convolution2d_workspace(&context, $0, pf_pass_weight_gradient, &bytes)
    }
    #expect(workspace == status, comment, sourceLocation: sourceLocation)
    if status != pf_ok { #expect(bytes == 77, comment, sourceLocation: sourceLocation) }
}
