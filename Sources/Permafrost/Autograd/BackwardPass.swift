import CKernels
import CThreadState

/// What is wrong with a request for gradients, or with a gradient that a hook returned.
public struct AutogradError: Error, Equatable, CustomStringConvertible {
    public let message: String

    public init(_ message: String) {
        self.message = message
    }

    public var description: String { message }
}

/// One run of `backward()`.
///
/// Nodes are visited in reverse order of creation, which is a topological order: every consumer of a value was
/// created after it. For each node: hooks on its gradient, its backward, and then, for each leaf whose last
/// contribution this was, the leaf's tensor hooks on the sum, accumulation into `grad`, and its post-accumulate
/// hooks. `Leaf.afterBackward` of every leaf that was touched runs at the end. When anything throws, every `grad`
/// is put back.
final class BackwardPass {
    private let identifier = Node.nextSequence()
    private let retainGraph: Bool
    private var order: [Node] = []
    private var touched: [(leaf: Leaf, before: Tensor?)] = []

    private init(retainGraph: Bool) {
        self.retainGraph = retainGraph
    }

    static func run(from root: Node, gradient: Tensor, retainGraph: Bool) throws {
        let state = permafrost_thread_state_current()!
        guard !state.pointee.in_backward else {
            throw AutogradError("backward() was called by a hook while another backward() runs on this thread")
        }
        state.pointee.in_backward = true
        defer { state.pointee.in_backward = false }
        try noGrad {
            try BackwardPass(retainGraph: retainGraph).run(root, gradient)
        }
    }

    /// Adds a part of the gradient of a node's output; nil for the node or the gradient: nothing to do.
    func send(_ gradient: Tensor?, to node: Node?) {
        guard let node, let gradient else { return }
        guard node.gradient != nil else {
            node.gradient = gradient
            return
        }
        node.settleGradient()
        node.gradient!.accumulate(gradient)
    }

    /// Has a kernel compute a part of the gradient of a node's output. `body` gets the memory and how to write it:
    /// where another part has come already, the kernel adds to it.
    func send(
        _ shape: Shape, to node: Node, _ body: (UnsafeMutablePointer<Float>, pf_writing) throws -> Void
    ) rethrows {
        if node.gradient?.shape == shape, isKnownUniquelyReferenced(&node.gradient!.storage) {
            node.settleGradient()
            try body(node.gradient!.storage.pointer, pf_accumulate)
        } else {
            let part = Tensor.uninitialized(shape)
            try body(part.storage.pointer, pf_overwrite)
            send(part, to: node)
        }
    }

    private func run(_ root: Node, _ gradient: Tensor) throws {
        try collect(root)
        do {
            root.gradient = gradient
            if let leaf = root as? Leaf { try finalize(leaf) }
            for node in order { try visit(node) }
            for (leaf, _) in touched {
                if let freeze = leaf.afterBackward, leaf.grad != nil { try freeze(&leaf.grad!) }
            }
        } catch {
            for (leaf, before) in touched {
                leaf.grad = before
                // A hook may have frozen some of it meanwhile.
                if let freeze = leaf.afterBackward, before != nil { try? freeze(&leaf.grad!) }
            }
            for node in order {
                node.dropGradient()
                node.forEachInput { $0.dropGradient() }
            }
            root.dropGradient()
            throw error
        }
    }

    /// Finds every node that the root depends on and counts what each leaf will receive.
    private func collect(_ root: Node) throws {
        guard !(root is Leaf) else { return }
        var stack = [root]
        root.reachedBy = identifier
        while let node = stack.popLast() {
            guard !node.isReleased else {
                throw AutogradError(
                    "backward() goes through \(node.operation) a second time, and the values it saved were released by "
                        + "the first: pass retainGraph: true to the first call")
            }
            order.append(node)
            node.forEachInput { input in
                let isNew = input.reachedBy != identifier
                input.reachedBy = identifier
                if let leaf = input as? Leaf {
                    if isNew { leaf.resetContributions() }
                    leaf.expectContribution()
                } else if isNew {
                    stack.append(input)
                }
            }
            if let companion = node.companion, companion.reachedBy != identifier {
                companion.reachedBy = identifier
                stack.append(companion)
            }
        }
        order.sort { $0.sequence > $1.sequence }
    }

    private func visit(_ node: Node) throws {
        if node.gradient != nil, let hooks = node.tensorHooks {
            node.settleGradient()
            // The engine's own reference goes first, so that what a hook changes in place isn't copied.
            var gradient = node.gradient.take()!
            try apply(hooks, to: &gradient)
            node.gradient = consume gradient
        }
        if node.gradient != nil || node.runsWithoutGradient {
            try node.propagate(self)
        }
        if !retainGraph { node.releaseSaved() }
        try node.forEachInput { input in
            if let leaf = input as? Leaf, leaf.contributionCame() { try finalize(leaf) }
        }
    }

    private func finalize(_ leaf: Leaf) throws {
        guard var sum = leaf.gradient.take() else { return }
        if let hooks = leaf.tensorHooks { try apply(hooks, to: &sum) }
        touched.append((leaf, leaf.grad))
        if let before = leaf.grad {
            // Into the new sum, not into `before`: that must survive a hook that throws.
            sum.accumulate(before)
        }
        leaf.grad = consume sum
        try leaf.postAccumulateHooks?.forEach { try $0() }
    }

    private func apply(_ hooks: HookList<TensorHook>, to gradient: inout Tensor) throws {
        let shape = gradient.shape
        try hooks.forEach { hook in
            guard let replacement = try hook(gradient) else { return }
            guard replacement.shape == shape else {
                throw AutogradError(
                    "a tensor hook returned a gradient of shape \(replacement.shape) for a tensor of shape \(shape)")
            }
            gradient = replacement.detached()
        }
    }
}

extension Tensor {
    /// Adds in place; used on gradients, which no tape sees.
    mutating func accumulate(_ other: Tensor) {
        addScaled(other, by: 1)
    }
}
