import CKernels

private func poolingProblem(
    _ input: Tensor, kernelSize: Pair, stride: Pair?, padding: Pair, dilation: Pair, ceilMode: Bool,
    countIncludePad: Bool, name: String
) throws -> (problem: pf_pooling2d, shape: Shape) {
    let stride = stride ?? kernelSize
    guard input.rank == 4 else {
        throw TensorError("\(name): the input must be [batch, channels, height, width], not \(input.shape)")
    }
    guard min(kernelSize.height, kernelSize.width, stride.height, stride.width, dilation.height, dilation.width) >= 1
    else {
        throw TensorError("\(name): kernel \(kernelSize), stride \(stride) and dilation \(dilation) must be at least 1")
    }
    guard padding.height >= 0, padding.width >= 0, padding.height <= kernelSize.height / 2,
        padding.width <= kernelSize.width / 2
    else {
        throw TensorError("\(name): padding \(padding) must be between 0 and half of the kernel \(kernelSize)")
    }
    var problem = pf_pooling2d(
        batch: Int64(input.shape[0]), channels: Int64(input.shape[1]), input_height: Int64(input.shape[2]),
        input_width: Int64(input.shape[3]), kernel_height: Int64(kernelSize.height),
        kernel_width: Int64(kernelSize.width), stride_height: Int64(stride.height), stride_width: Int64(stride.width),
        padding_height: Int64(padding.height), padding_width: Int64(padding.width),
        dilation_height: Int64(dilation.height), dilation_width: Int64(dilation.width), ceil_mode: ceilMode,
        count_include_pad: countIncludePad)
    var height: Int64 = 0
    var width: Int64 = 0
    guard pf_pooling2d_output_size(&problem, &height, &width) == pf_ok else {
        throw TensorError(
            "\(name): a window of \(kernelSize) with stride \(stride), padding \(padding) and dilation \(dilation) gives "
                + "no output on an input of shape \(input.shape)")
    }
    return (problem, [input.shape[0], input.shape[1], Int(height), Int(width)])
}

private final class MaxPool2dNode: Node {
    private var problem: pf_pooling2d
    private var indices: [Int32]
    private let inputShape: Shape
    /// The maxima, of a pooled activation.
    private var activated: Tensor?

    init(_ problem: pf_pooling2d, _ input: Tensor, indices: [Int32], result: Tensor) {
        self.problem = problem
        self.indices = indices
        inputShape = input.shape
        if input.node is ActivationNode { activated = result.detached() }
        super.init(input.node)
    }

    override var operation: String { "maxPool2d" }

    override func propagate(_ pass: BackwardPass) throws {
        var gradient = gradient.take()!
        // A gradient passes the activation where the maxima do: over fewer elements.
        let activation = input0 as? ActivationNode
        let passes = activation != nil && activation!.tensorHooks == nil && activation!.gradient == nil
        if passes { gradient.pass(through: activation!.kind, result: activated!) }
        let part = Tensor.uninitialized(inputShape)
        try requireKernel(
            withKernelContext {
                pf_max_pool2d_backward($0, &problem, gradient.storage.pointer, indices, part.storage.pointer)
            }, operation)
        pass.send(part, to: input0)
        if passes { activation!.gradientHasPassed = true }
    }

    override func releaseSaved() {
        indices = []
        activated = nil
        isReleased = true
    }
}

/// The largest element of each window; padding counts as minus infinity.
///
/// - Parameters:
///   - input: [batch, channels, height, width]
///   - stride: the kernel's size when nil
///   - padding: zeros on both sides, at most half of the kernel
///   - ceilMode: round output extents up instead of down
/// - Throws: `TensorError` when shapes or parameters don't fit.
public func maxPool2d(
    _ input: Tensor, kernelSize: Pair, stride: Pair? = nil, padding: Pair = 0, dilation: Pair = 1,
    ceilMode: Bool = false
) throws -> Tensor {
    var (problem, shape) = try poolingProblem(
        input, kernelSize: kernelSize, stride: stride, padding: padding, dilation: dilation, ceilMode: ceilMode,
        countIncludePad: true, name: "maxPool2d")
    var result = Tensor.uninitialized(shape)
    let indices = try [Int32](unsafeUninitializedCapacity: result.count) { indices, count in
        try requireKernel(
            withKernelContext {
                pf_max_pool2d_forward(
                    $0, &problem, input.storage.pointer, result.storage.pointer, indices.baseAddress)
            }, "maxPool2d")
        count = result.count
    }
    if Tensor.records(input) { result.node = MaxPool2dNode(problem, input, indices: indices, result: result) }
    return result
}

private final class AvgPool2dNode: Node {
    private var problem: pf_pooling2d
    private let inputShape: Shape

    init(_ problem: pf_pooling2d, _ input: Tensor) {
        self.problem = problem
        inputShape = input.shape
        super.init(input.node)
    }

    override var operation: String { "avgPool2d" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        let part = Tensor.uninitialized(inputShape)
        try requireKernel(
            withKernelContext {
                pf_average_pool2d_backward($0, &problem, gradient!.storage.pointer, part.storage.pointer)
            }, operation)
        pass.send(part, to: input0)
    }
}

/// The mean of each window. Arguments as `maxPool2d`; with `countIncludePad` padding counts as zeros in the mean.
public func avgPool2d(
    _ input: Tensor, kernelSize: Pair, stride: Pair? = nil, padding: Pair = 0, ceilMode: Bool = false,
    countIncludePad: Bool = true
) throws -> Tensor {
    var (problem, shape) = try poolingProblem(
        input, kernelSize: kernelSize, stride: stride, padding: padding, dilation: 1, ceilMode: ceilMode,
        countIncludePad: countIncludePad, name: "avgPool2d")
    var result = Tensor.uninitialized(shape)
    try requireKernel(
        withKernelContext {
            pf_average_pool2d_forward($0, &problem, input.storage.pointer, result.storage.pointer)
        }, "avgPool2d")
    if Tensor.records(input) { result.node = AvgPool2dNode(problem, input) }
    return result
}

private final class AdaptiveAvgPool2dNode: Node {
    private let inputShape: Shape, outputSize: Pair

    init(_ input: Tensor, _ outputSize: Pair) {
        inputShape = input.shape
        self.outputSize = outputSize
        super.init(input.node)
    }

    override var operation: String { "adaptiveAvgPool2d" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        let part = Tensor.uninitialized(inputShape)
        try requireKernel(
            withKernelContext {
                pf_adaptive_average_pool2d_backward(
                    $0, Int64(inputShape[0] * inputShape[1]), Int64(inputShape[2]), Int64(inputShape[3]),
                    Int64(outputSize.height), Int64(outputSize.width), gradient!.storage.pointer, part.storage.pointer)
            }, operation)
        pass.send(part, to: input0)
    }
}

/// Means over windows that divide the image into `outputSize` cells: cell y covers rows ⌊y h / H⌋ to ⌈(y + 1) h /
/// H⌉ - 1.
/// - Throws: `TensorError` when the input isn't [batch, channels, height, width] or a size is less than 1.
public func adaptiveAvgPool2d(_ input: Tensor, outputSize: Pair) throws -> Tensor {
    guard input.rank == 4 else {
        throw TensorError("adaptiveAvgPool2d: the input must be [batch, channels, height, width], not \(input.shape)")
    }
    guard outputSize.height >= 1, outputSize.width >= 1 else {
        throw TensorError("adaptiveAvgPool2d: the output size must be at least 1, not \(outputSize)")
    }
    var result = Tensor.uninitialized([input.shape[0], input.shape[1], outputSize.height, outputSize.width])
    try requireKernel(
        withKernelContext {
            pf_adaptive_average_pool2d_forward(
                $0, Int64(input.shape[0] * input.shape[1]), Int64(input.shape[2]), Int64(input.shape[3]),
                Int64(outputSize.height), Int64(outputSize.width), input.storage.pointer, result.storage.pointer)
        }, "adaptiveAvgPool2d")
    if Tensor.records(input) { result.node = AdaptiveAvgPool2dNode(input, outputSize) }
    return result
}
