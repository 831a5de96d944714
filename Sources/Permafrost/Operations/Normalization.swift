import CKernels

private final class BatchNormNode: Node {
    private var problem: pf_batch_normalization
    private let statisticsDependOnInput: Bool
    private var x: Tensor?, scale: Tensor?, mean: Tensor?, variance: Tensor?
    private let inputShape: Shape

    init(
        _ problem: pf_batch_normalization, _ x: Tensor, _ scale: Tensor?, _ shift: Tensor?, mean: Tensor,
        variance: Tensor,
        statisticsDependOnInput: Bool
    ) {
        self.problem = problem
        self.statisticsDependOnInput = statisticsDependOnInput
        self.x = x.detached()
        self.scale = scale?.detached()
        self.mean = mean.detached()
        self.variance = variance.detached()
        inputShape = x.shape
        super.init(x.node, scale?.node, shift?.node)
    }

    override var operation: String { "batchNorm" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        let channels: Shape = [Int(problem.channels)]
        let xGradient = input0.map { _ in Tensor.uninitialized(inputShape) }
        let scaleGradient = input1.map { _ in Tensor.uninitialized(channels) }
        let shiftGradient = input2.map { _ in Tensor.uninitialized(channels) }
        try requireKernel(
            withKernelContext {
                pf_batch_normalization_backward(
                    $0, &problem, statisticsDependOnInput, x!.storage.pointer, gradient!.storage.pointer,
                    scale?.storage.pointer, mean!.storage.pointer, variance!.storage.pointer,
                    (input1 as? Leaf)?.gradientMask?.pointer, (input2 as? Leaf)?.gradientMask?.pointer,
                    xGradient?.storage.pointer, scaleGradient?.storage.pointer, shiftGradient?.storage.pointer)
            }, operation)
        pass.send(xGradient, to: input0)
        pass.send(scaleGradient, to: input1)
        pass.send(shiftGradient, to: input2)
    }

    override func releaseSaved() {
        x = nil
        scale = nil
        mean = nil
        variance = nil
        isReleased = true
    }
}

private func batchNormProblem(
    _ input: Tensor, _ epsilon: Float, _ vectors: [(String, Tensor?)]
) throws -> pf_batch_normalization {
    guard input.rank >= 2 else {
        throw TensorError("batchNorm: the input must be [batch, channels, ...], not \(input.shape)")
    }
    let channels = input.shape[1]
    for case (let name, let vector?) in vectors where vector.shape != [channels] {
        throw TensorError("batchNorm: the \(name) must be of shape [\(channels)], not \(vector.shape)")
    }
    return pf_batch_normalization(
        batch: Int64(input.shape[0]), channels: Int64(channels), spatial: Int64(input.shape[2...].reduce(1, *)),
        epsilon: epsilon)
}

/// Normalises each channel by its own mean and variance in the batch (Ioffe and Szegedy, 2015), then scales and
/// shifts.
///
/// - Parameters:
///   - input: [batch, channels, ...]
///   - scale: [channels], or nil for 1
///   - shift: [channels], or nil for 0
/// - Returns: the output, and each channel's mean and biased variance, [channels] each.
/// - Throws: `TensorError` when shapes don't fit or there is but one value a channel.
public func batchNorm(
    _ input: Tensor, scale: Tensor?, shift: Tensor?, epsilon: Float = 1e-5
) throws -> (output: Tensor, mean: Tensor, variance: Tensor) {
    var problem = try batchNormProblem(input, epsilon, [("scale", scale), ("shift", shift)])
    guard problem.batch * problem.spatial > 1 else {
        throw TensorError(
            "batchNorm: needs more than one value a channel in training, got an input of shape \(input.shape)")
    }
    let mean = Tensor.uninitialized([input.shape[1]])
    let variance = Tensor.uninitialized([input.shape[1]])
    var result = Tensor.uninitialized(input.shape)
    try requireKernel(
        withKernelContext {
            pf_batch_normalization_forward(
                $0, &problem, input.storage.pointer, scale?.storage.pointer, shift?.storage.pointer,
                mean.storage.pointer,
                variance.storage.pointer, result.storage.pointer)
        }, "batchNorm")
    if Tensor.records(input, scale, shift) {
        result.node = BatchNormNode(
            problem, input, scale, shift, mean: mean, variance: variance, statisticsDependOnInput: true)
    }
    return (result, mean, variance)
}

/// The same with a given mean and variance, [channels] each: evaluation mode.
public func batchNorm(
    _ input: Tensor, mean: Tensor, variance: Tensor, scale: Tensor?, shift: Tensor?, epsilon: Float = 1e-5
) throws -> Tensor {
    var problem = try batchNormProblem(
        input, epsilon, [("scale", scale), ("shift", shift), ("mean", mean), ("variance", variance)])
    var result = Tensor.uninitialized(input.shape)
    try requireKernel(
        withKernelContext {
            pf_batch_normalization_apply(
                $0, &problem, input.storage.pointer, scale?.storage.pointer, shift?.storage.pointer,
                mean.storage.pointer,
                variance.storage.pointer, result.storage.pointer)
        }, "batchNorm")
    if Tensor.records(input, scale, shift) {
        result.node = BatchNormNode(
            problem, input, scale, shift, mean: mean, variance: variance, statisticsDependOnInput: false)
    }
    return result
}
