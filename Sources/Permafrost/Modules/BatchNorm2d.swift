/// Normalises each channel of [batch, features, height, width] (Ioffe and Szegedy, 2015): in training by the batch's
/// own mean and variance, in evaluation by their running averages.
open class BatchNorm2d: Module {
    /// The scale, [features]; nil without `affine`.
    public let weight: Parameter?
    /// The shift, [features]; nil without `affine`.
    public let bias: Parameter?
    /// [features]; nil without `trackRunningStats`.
    public let runningMean: Buffer?
    /// Of the unbiased variance, [features]; nil without `trackRunningStats`.
    public let runningVariance: Buffer?
    /// Training batches seen, a scalar; nil without `trackRunningStats`.
    public let batchesTracked: Buffer?
    public let features: Int
    /// Added to the variance under the root.
    public let epsilon: Float
    /// The weight of a new batch in the running averages; nil: all batches weigh the same.
    public let momentum: Double?

    /// - Parameters:
    ///   - affine: scale and shift by trained parameters, 1 and 0 at first.
    ///   - trackRunningStats: keep running averages; without them evaluation uses the batch's statistics too.
    public init(
        _ features: Int, epsilon: Float = 1e-5, momentum: Double? = 0.1, affine: Bool = true,
        trackRunningStats: Bool = true
    ) {
        precondition(features > 0, "BatchNorm2d: the number of features must be positive, not \(features)")
        self.features = features
        self.epsilon = epsilon
        self.momentum = momentum
        weight = affine ? Parameter(.ones([features])) : nil
        bias = affine ? Parameter(.zeros([features])) : nil
        runningMean = trackRunningStats ? Buffer(.zeros([features])) : nil
        runningVariance = trackRunningStats ? Buffer(.ones([features])) : nil
        batchesTracked = trackRunningStats ? Buffer(0, storage: .int64) : nil
        super.init()
    }

    open override func forward(_ input: Tensor) throws -> Tensor {
        guard input.rank == 4, input.shape[1] == features else {
            throw ModuleError(
                self, "expected an input of shape [batch, \(features), height, width], got \(input.shape)")
        }
        if !training, let runningMean, let runningVariance {
            return try naming {
                try batchNorm(
                    input, mean: runningMean.value, variance: runningVariance.value, scale: weight?.tensor,
                    shift: bias?.tensor, epsilon: epsilon)
            }
        }
        let (output, mean, variance) = try naming {
            try batchNorm(input, scale: weight?.tensor, shift: bias?.tensor, epsilon: epsilon)
        }
        if training { track(mean, variance, count: input.count / features) }
        return output
    }

    /// Moves the running averages towards the statistics of a batch with `count` values a channel; in double precision
    /// up to the last rounding, as PyTorch does.
    private func track(_ mean: Tensor, _ variance: Tensor, count: Int) {
        guard let runningMean, let runningVariance, let batchesTracked else { return }
        batchesTracked.value = Tensor(batchesTracked.value.item() + 1)
        let weight = momentum ?? 1 / Double(batchesTracked.value.item())
        func move(_ running: Buffer, towards batch: Tensor, times factor: Double) {
            running.value = Tensor(
                zip(running.value.scalars, batch.scalars).map { old, new in
                    Float(weight * (Double(new) * factor) + (1 - weight) * Double(old))
                })
        }
        move(runningMean, towards: mean, times: 1)
        move(runningVariance, towards: variance, times: Double(count) / Double(count - 1))
    }

    open override func stateEntries() -> [StateEntry] {
        let buffers: [StateEntry?] = [
            runningMean.map { .buffer("running_mean", $0) }, runningVariance.map { .buffer("running_var", $0) },
            batchesTracked.map { .buffer("num_batches_tracked", $0) },
        ]
        return affineEntries(weight, bias) + buffers.compactMap(\.self) + reflectedEntries(below: BatchNorm2d.self)
    }

    open override var extraDescription: String {
        let momentum = momentum.map { "\($0)" } ?? "nil"
        return "\(features), epsilon: \(epsilon), momentum: \(momentum), affine: \(weight != nil), "
            + "trackRunningStats: \(runningMean != nil)"
    }
}
