extension Tensor {
    /// Whether gradients flow to this tensor. Setting it to true makes a leaf, whose `grad` `backward()` fills in;
    /// a tensor that was computed can't be set to false: take `detached()`.
    public var requiresGrad: Bool {
        get { node != nil }
        set {
            guard newValue != (node != nil) else { return }
            if newValue {
                node = Leaf()
            } else {
                precondition(
                    node is Leaf, "requiresGrad can be set to false on a leaf only; use detached() on a computed tensor"
                )
                node = nil
            }
        }
    }

    /// Whether this tensor wasn't computed from others on the tape.
    public var isLeaf: Bool { node == nil || node is Leaf }

    /// The same value without the tape.
    public func detached() -> Tensor {
        Tensor(shape: shape, storage: storage)
    }

    /// The gradient that `backward()` accumulated for this leaf, shared by its copies; nil for other tensors and
    /// before the first `backward()`. Traps when it is set on a tensor that isn't a leaf with `requiresGrad`.
    public var grad: Tensor? {
        get { (node as? Leaf)?.grad }
        nonmutating _modify {
            guard let leaf = node as? Leaf else {
                preconditionFailure("grad can be set on a leaf with requiresGrad only")
            }
            yield &leaf.grad
        }
    }

    /// Adds the gradient of this tensor with respect to every leaf that it was computed from to that leaf's `grad`.
    ///
    /// - Parameters:
    ///   - gradient: that of the final result with respect to this tensor, in its shape; may be left out for one
    /// element (1).
    ///   - retainGraph: keep what was saved, so that `backward()` may go through the same operations again.
    ///   - createGraph: must be false: there are no second-order gradients.
    /// - Throws: `AutogradError`, or what a hook throws; every `grad` is then what it was before.
    public func backward(gradient: Tensor? = nil, retainGraph: Bool = false, createGraph: Bool = false) throws {
        guard !createGraph else {
            throw AutogradError("backward(createGraph: true): second-order gradients are not supported")
        }
        guard let node else {
            throw AutogradError(
                "backward() on a tensor that requires no gradient: nothing it was computed from did, or it was "
                    + "computed inside noGrad")
        }
        guard let gradient else {
            guard count == 1 else {
                throw AutogradError(
                    "backward() without a gradient needs a tensor with one element, not one of shape \(shape)")
            }
            return try BackwardPass.run(from: node, gradient: .ones(shape), retainGraph: retainGraph)
        }
        guard gradient.shape == shape else {
            throw AutogradError("backward() got a gradient of shape \(gradient.shape) for a tensor of shape \(shape)")
        }
        try BackwardPass.run(from: node, gradient: gradient.detached(), retainGraph: retainGraph)
    }

    /// Calls `hook` with this tensor's gradient when `backward()` has it whole; what it returns replaces the
    /// gradient. On a leaf it gets the sum of this pass, before it is accumulated. Traps when the tensor requires
    /// no gradient.
    @discardableResult
    public func registerHook(
        file: StaticString = #fileID, line: Int = #line, _ hook: @escaping (Tensor) throws -> Tensor?
    ) -> HookHandle {
        guard let node else {
            preconditionFailure("registerHook on a tensor that requires no gradient")
        }
        if node.tensorHooks == nil { node.tensorHooks = HookList() }
        return node.tensorHooks!.add(hook, origin: HookOrigin(file: file, line: line))
    }
}
