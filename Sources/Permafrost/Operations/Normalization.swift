import CKernels

/// What normalises each channel: (x - mean - meanRemainder) / √(variance + epsilon) * scale + shift.
private struct Normalization {
    var problem: pf_batch_normalization
    let x: Storage
    let scale, shift: Storage?
    let mean: Storage
    let meanRemainder: Storage?
    let variance: Storage
}

/// A normalisation that hasn't been applied yet: an addition and an activation that follow go along in the same pass.
final class DeferredNormalization: DeferredElements {
    private var normalization: Normalization
    private var addend: Storage?
    private var activation = pf_activation_none

    fileprivate init(_ normalization: Normalization) {
        self.normalization = normalization
        _ = normalization.x.pointer
    }

    private init(_ other: DeferredNormalization) {
        normalization = other.normalization
        addend = other.addend
        super.init()
        context = other.context
    }

    /// With an activation of the result; nil when it has one.
    func activated(_ kind: pf_activation) -> DeferredNormalization? {
        guard activation == pf_activation_none else { return nil }
        let result = DeferredNormalization(self)
        result.activation = kind
        return result
    }

    /// With `storage` added to the result; nil when something was, or an activation comes first.
    func adding(_ storage: Storage) -> DeferredNormalization? {
        guard activation == pf_activation_none, addend == nil else { return nil }
        _ = storage.pointer
        let result = DeferredNormalization(self)
        result.addend = storage
        return result
    }

    override func compute(count: Int) -> UnsafeMutablePointer<Float> {
        let added = addend?.pointer
        let block = addend == nil ? Storage.allocate(count) : block(replacing: &addend!, count: count)
        checkKernel(
            pf_batch_normalization_apply(
                &context, &normalization.problem, activation, normalization.x.pointer, normalization.scale?.pointer,
                normalization.shift?.pointer, normalization.mean.pointer, normalization.meanRemainder?.pointer,
                normalization.variance.pointer, added, block), "batchNorm")
        return block
    }
}

extension Tensor {
    /// a + b, not computed yet, where a is a deferred normalisation of b's shape; else nil.
    static func normalizedSum(_ a: Tensor, _ b: Tensor) -> Tensor? {
        guard a.shape == b.shape, let normalization = a.storage.deferred as? DeferredNormalization,
            let sum = normalization.adding(b.storage)
        else { return nil }
        return Tensor(shape: a.shape, storage: Storage(count: a.count, deferred: sum))
    }
}

private final class BatchNormNode: Node {
    private var saved: Normalization?
    private let statisticsDependOnInput: Bool
    private let inputShape: Shape

    init(_ saved: Normalization, _ x: Tensor, _ scale: Tensor?, _ shift: Tensor?, statisticsDependOnInput: Bool) {
        self.saved = saved
        self.statisticsDependOnInput = statisticsDependOnInput
        inputShape = x.shape
        super.init(x.node, scale?.node, shift?.node)
    }

    override var operation: String { "batchNorm" }
    override var differentiatesActivations: Bool { tensorHooks == nil }

    override func propagate(_ pass: BackwardPass) throws {
        var gradient = gradient.take()!
        let activation = gradientAwaits.take()?.kind ?? pf_activation_none
        let channels: Shape = [inputShape[1]]
        let scaleGradient = input1.map { _ in Tensor.uninitialized(channels) }
        let shiftGradient = input2.map { _ in Tensor.uninitialized(channels) }
        // In place of the output's gradient where that isn't shared.
        let isShared = !isKnownUniquelyReferenced(&gradient.storage)
        let xGradient = input0.map { _ in isShared ? Tensor.uninitialized(inputShape) : gradient.withShape(inputShape) }
        try requireKernel(
            withKernelContext {
                pf_batch_normalization_backward(
                    $0, &saved!.problem, statisticsDependOnInput, activation, saved!.x.pointer,
                    gradient.storage.pointer, saved!.scale?.pointer, saved!.shift?.pointer, saved!.mean.pointer,
                    saved!.meanRemainder?.pointer, saved!.variance.pointer, (input1 as? Leaf)?.gradientMask?.pointer,
                    (input2 as? Leaf)?.gradientMask?.pointer, xGradient?.storage.pointer,
                    scaleGradient?.storage.pointer, shiftGradient?.storage.pointer)
            }, operation)
        pass.send(xGradient, to: input0)
        pass.send(scaleGradient, to: input1)
        pass.send(shiftGradient, to: input2)
    }

    override func releaseSaved() {
        saved = nil
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
    let channels: Shape = [input.shape[1]]
    let (mean, meanRemainder, variance) = (
        Tensor.uninitialized(channels), Tensor.uninitialized(channels), Tensor.uninitialized(channels)
    )
    try requireKernel(
        withKernelContext {
            pf_batch_normalization_statistics(
                $0, &problem, input.storage.pointer, mean.storage.pointer, meanRemainder.storage.pointer,
                variance.storage.pointer)
        }, "batchNorm")
    let output = normalized(
        Normalization(
            problem: problem, x: input.storage, scale: scale?.storage, shift: shift?.storage, mean: mean.storage,
            meanRemainder: meanRemainder.storage, variance: variance.storage), input, scale, shift,
        statisticsDependOnInput: true)
    return (output, mean, variance)
}

/// The same with a given mean and variance, [channels] each: evaluation mode.
public func batchNorm(
    _ input: Tensor, mean: Tensor, variance: Tensor, scale: Tensor?, shift: Tensor?, epsilon: Float = 1e-5
) throws -> Tensor {
    let problem = try batchNormProblem(
        input, epsilon, [("scale", scale), ("shift", shift), ("mean", mean), ("variance", variance)])
    return normalized(
        Normalization(
            problem: problem, x: input.storage, scale: scale?.storage, shift: shift?.storage, mean: mean.storage,
            meanRemainder: nil, variance: variance.storage), input, scale, shift, statisticsDependOnInput: false)
}

private func normalized(
    _ normalization: Normalization, _ input: Tensor, _ scale: Tensor?, _ shift: Tensor?, statisticsDependOnInput: Bool
) -> Tensor {
    let deferred = DeferredNormalization(normalization)
    var result = Tensor(shape: input.shape, storage: Storage(count: input.count, deferred: deferred))
    if Tensor.records(input, scale, shift) {
        result.node = BatchNormNode(
            normalization, input, scale, shift, statisticsDependOnInput: statisticsDependOnInput)
    }
    return result
}
