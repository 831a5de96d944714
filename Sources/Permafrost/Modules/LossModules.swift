/// Cross-entropy between logits, [batch, classes], and the index of each image's class: -log softmax(logits)[target].
public final class CrossEntropyLoss: Module {
    public let labelSmoothing: Float
    public let reduction: Reduction

    /// - Parameters:
    ///   - labelSmoothing: how much of the target's probability is spread over all classes, in 0 ... 1.
    ///   - reduction: the mean over the batch, the sum, or each image's loss, [batch].
    public init(labelSmoothing: Float = 0, reduction: Reduction = .mean) {
        precondition(
            (0...1).contains(labelSmoothing),
            "CrossEntropyLoss: the label smoothing must be in 0 ... 1, not \(labelSmoothing)")
        self.labelSmoothing = labelSmoothing
        self.reduction = reduction
        super.init()
    }

    /// The loss of a batch. Hooks get the logits as the only input.
    public func callAsFunction(_ logits: Tensor, _ targets: [Int32]) throws -> Tensor {
        try single(
            callWithHooks([logits]) { inputs in
                guard inputs.count == 1 else { throw ModuleError(self, "expected 1 input, got \(inputs.count)") }
                return try naming {
                    [try crossEntropy(inputs[0], targets, labelSmoothing: labelSmoothing, reduction: reduction)]
                }
            })
    }

    public override func forward(_ inputs: [Tensor]) throws -> [Tensor] {
        throw ModuleError(self, "must be called with logits and targets: loss(logits, targets)")
    }

    public override var extraDescription: String {
        (labelSmoothing == 0 ? "" : "labelSmoothing: \(labelSmoothing), ") + "reduction: \(reduction)"
    }

    public override func stateEntries() -> [StateEntry] { [] }
}

/// The squared difference between two tensors of the same shape.
public final class MSELoss: Module {
    public let reduction: Reduction

    /// - Parameter reduction: the mean over all elements, the sum, or each element's loss.
    public init(reduction: Reduction = .mean) {
        self.reduction = reduction
        super.init()
    }

    public func callAsFunction(_ input: Tensor, _ target: Tensor) throws -> Tensor {
        try single(self([input, target]))
    }

    public override func forward(_ inputs: [Tensor]) throws -> [Tensor] {
        guard inputs.count == 2 else {
            throw ModuleError(self, "expected an input and a target, got \(inputs.count) tensors")
        }
        return try naming { [try mseLoss(inputs[0], inputs[1], reduction: reduction)] }
    }

    public override var extraDescription: String { "reduction: \(reduction)" }

    public override func stateEntries() -> [StateEntry] { [] }
}
