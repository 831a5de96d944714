extension Tensor {
    /// The hooks on this tensor's gradient, in firing order.
    public func registeredHooks() -> [RegisteredHook] { node?.tensorHooks?.listing(.tensor) ?? [] }

    /// Removes the hooks on this tensor's gradient, as their handles would.
    public func removeAllHooks() {
        node?.tensorHooks?.removeAll()
    }
}

extension Parameter {
    /// The hooks on the gradient, then those that run after its accumulation, in firing order.
    public func registeredHooks() -> [RegisteredHook] {
        (leaf.tensorHooks?.listing(.tensor) ?? []) + (leaf.postAccumulateHooks?.listing(.postAccumulateGrad) ?? [])
    }

    /// Removes these hooks, as their handles would. Freezes aren't hooks and stay.
    public func removeAllHooks() {
        leaf.tensorHooks?.removeAll()
        leaf.postAccumulateHooks?.removeAll()
    }
}

extension Optimizer {
    /// The hooks that run before a step, then those that run after it, in firing order.
    public final func registeredHooks() -> [RegisteredHook] {
        preHooks.listing(.optimizerStepPre) + postHooks.listing(.optimizerStepPost)
    }

    /// Removes these hooks, as their handles would.
    public final func removeAllHooks() {
        preHooks.removeAll()
        postHooks.removeAll()
    }
}
