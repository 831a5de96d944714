import CKernels

/// A convolution that hasn't run yet: an activation that follows goes along in the same pass.
///
/// Who reads its elements can't be told that the system has no memory left: as for every tensor, it traps. For the
/// workspace, which may be large, `conv2d` has asked before it returned; the arena keeps it, unless something else has
/// taken it when the convolution runs.
final class DeferredConvolution: DeferredElements {
    private var problem: pf_convolution2d
    private let input, weight: Storage
    private let bias: Storage?

    fileprivate init(_ problem: pf_convolution2d, _ input: Storage, _ weight: Storage, _ bias: Storage?) {
        self.problem = problem
        self.input = input
        self.weight = weight
        self.bias = bias
        for operand in [input, weight, bias] { _ = operand?.pointer }
    }

    override func compute(count: Int) -> UnsafeMutablePointer<Float> {
        compute(pf_activation_none, count: count)
    }

    /// An activation of what `compute` gives.
    func compute(_ activation: pf_activation, count: Int) -> UnsafeMutablePointer<Float> {
        let block = Storage.allocate(count)
        checkKernel(
            pf_convolution2d_forward(
                &context, &problem, activation, input.pointer, weight.pointer, bias?.pointer, block), "conv2d")
        return block
    }
}

private final class Convolution2dNode: Node {
    private var problem: pf_convolution2d
    private var input: Tensor?, weight: Tensor?
    private let inputShape: Shape, weightShape: Shape

    init(_ problem: pf_convolution2d, _ input: Tensor, _ weight: Tensor, _ bias: Tensor?) {
        self.problem = problem
        if weight.node != nil { self.input = input.detached() }
        if input.node != nil { self.weight = weight.detached() }
        inputShape = input.shape
        weightShape = weight.shape
        super.init(input.node, weight.node, bias?.node)
    }

    override var operation: String { "conv2d" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        let weightGradient = input1.map { _ in Tensor.uninitialized(weightShape) }
        let biasGradient = input2.map { _ in Tensor.uninitialized([weightShape[0]]) }
        func run(_ inputGradient: UnsafeMutablePointer<Float>?, _ writing: pf_writing) throws {
            try requireKernel(
                withKernelContext {
                    pf_convolution2d_backward(
                        $0, &problem, input?.storage.pointer, weight?.storage.pointer, gradient!.storage.pointer,
                        (input1 as? Leaf)?.gradientMask?.pointer, (input2 as? Leaf)?.gradientMask?.pointer, writing,
                        pf_overwrite, inputGradient, weightGradient?.storage.pointer, biasGradient?.storage.pointer)
                }, "conv2d, backward")
        }
        if let input0 {
            try pass.send(inputShape, to: input0, run)
        } else {
            try run(nil, pf_overwrite)
        }
        pass.send(weightGradient, to: input1)
        pass.send(biasGradient, to: input2)
    }

    override func releaseSaved() {
        input = nil
        weight = nil
        isReleased = true
    }
}

/// 2-D cross-correlation, as neural networks call convolution.
///
/// - Parameters:
///   - input: [batch, inputChannels, height, width]
///   - weight: [outputChannels, inputChannels / groups, kernelHeight, kernelWidth]
///   - bias: [outputChannels], or nil
/// - Returns: [batch, outputChannels, outputHeight, outputWidth], where each output extent is
///   ⌊(extent + padding on both sides - dilation * (kernel - 1) - 1) / stride⌋ + 1.
/// - Throws: `TensorError` when shapes or parameters don't fit, or the output would be empty; `KernelError` when there
///   is no memory for the workspace.
public func conv2d(
    _ input: Tensor, _ weight: Tensor, bias: Tensor? = nil, stride: Pair = 1, padding: Padding = 0, dilation: Pair = 1,
    groups: Int = 1
) throws -> Tensor {
    guard weight.rank == 4, weight.count > 0 else {
        throw TensorError(
            "conv2d: the weight must be [output channels, input channels / groups, height, width], not \(weight.shape)")
    }
    guard groups >= 1, weight.shape[0] % groups == 0 else {
        throw TensorError("conv2d: \(groups) groups can't divide \(weight.shape[0]) output channels")
    }
    let channels = weight.shape[1] * groups
    guard input.rank == 4, input.shape[1] == channels else {
        throw TensorError(
            "conv2d: the input must be [batch, \(channels), height, width] for a weight of shape \(weight.shape) and "
                + "\(groups) group\(groups == 1 ? "" : "s"), not \(input.shape)")
    }
    if let bias, bias.shape != [weight.shape[0]] {
        throw TensorError("conv2d: the bias must be of shape [\(weight.shape[0])], not \(bias.shape)")
    }
    guard min(stride.height, stride.width, dilation.height, dilation.width) >= 1 else {
        throw TensorError("conv2d: stride \(stride) and dilation \(dilation) must be at least 1")
    }
    guard min(padding.top, padding.bottom, padding.left, padding.right) >= 0 else {
        throw TensorError("conv2d: padding \(padding) must not be negative")
    }
    var problem = pf_convolution2d(
        batch: Int64(input.shape[0]), input_channels: Int64(channels), input_height: Int64(input.shape[2]),
        input_width: Int64(input.shape[3]), output_channels: Int64(weight.shape[0]),
        kernel_height: Int64(weight.shape[2]), kernel_width: Int64(weight.shape[3]),
        stride_height: Int64(stride.height), stride_width: Int64(stride.width), padding_top: Int64(padding.top),
        padding_bottom: Int64(padding.bottom), padding_left: Int64(padding.left), padding_right: Int64(padding.right),
        dilation_height: Int64(dilation.height), dilation_width: Int64(dilation.width), groups: Int64(groups))
    var height: Int64 = 0
    var width: Int64 = 0
    guard pf_convolution2d_output_size(&problem, &height, &width) == pf_ok else {
        throw TensorError(
            "conv2d: a kernel of \(weight.shape[2])x\(weight.shape[3]) with stride \(stride), padding \(padding) and "
                + "dilation \(dilation) gives no output on an input of shape \(input.shape)")
    }
    var workspaceBytes = 0
    try requireKernel(
        withKernelContext { pf_convolution2d_workspace($0, &problem, pf_pass_forward, &workspaceBytes) }, "conv2d")
    // Only to throw here what couldn't be thrown where the result is read.
    let workspace = pf_memory_allocate(workspaceBytes)
    try requireKernel(workspace == nil ? pf_error_memory : pf_ok, "conv2d")
    pf_memory_release(workspace)
    let shape: Shape = [input.shape[0], weight.shape[0], Int(height), Int(width)]
    let deferred = DeferredConvolution(problem, input.storage, weight.storage, bias?.storage)
    var result = Tensor(shape: shape, storage: Storage(count: shape.elementCount, deferred: deferred))
    if Tensor.records(input, weight, bias) { result.node = Convolution2dNode(problem, input, weight, bias) }
    return result
}
