import CKernels
import Synchronization

/// One recorded operation: what it was computed from, and how a gradient flows back through it.
///
/// A subclass an operation, with fixed fields for what its backward needs. What is saved is detached, so that
/// writing to a tensor later copies it and leaves the saved value alone. A node has one output; module calls with
/// several outputs are bracketed by several nodes (see `Hooks`).
class Node {
    /// Creation order: larger than that of everything this node was computed from.
    final let sequence: UInt64
    /// The nodes of the operands; nil where no gradient is needed.
    final var input0: Node?
    final var input1: Node?
    final var input2: Node?
    /// Operands beyond the third.
    final var moreInputs: [Node] = []
    /// A node that must be visited when this one is, though no gradient flows to it.
    final var companion: Node?
    /// What has arrived of the gradient with respect to the output, in the backward pass under way.
    final var gradient: Tensor?
    /// An activation of the output that `gradient` hasn't passed yet: it is the gradient of the activation's result,
    /// its only part so far. Set on nodes that `differentiatesActivations`.
    final var gradientAwaits: AwaitedActivation?
    /// Whether `gradient` is what this node, an activation, would make of it: the part of a consumer that did its work.
    final var gradientHasPassed = false
    /// The last backward pass that reached this node.
    final var reachedBy: UInt64 = 0
    /// Whether what was saved has been given up, so that a second backward is impossible.
    final var isReleased = false
    /// Hooks on the output's gradient.
    final var tensorHooks: HookList<TensorHook>?

    private static let counter = Atomic<UInt64>(0)

    static func nextSequence() -> UInt64 {
        counter.wrappingAdd(1, ordering: .relaxed).newValue
    }

    init(_ input0: Node? = nil, _ input1: Node? = nil, _ input2: Node? = nil) {
        sequence = Node.nextSequence()
        self.input0 = input0
        self.input1 = input1
        self.input2 = input2
    }

    /// The operation's name, for messages and printing.
    var operation: String { "\(type(of: self))" }

    /// Whether `backward` runs even when no gradient has arrived.
    var runsWithoutGradient: Bool { false }

    /// Whether `backward` deals with `gradientAwaits`.
    var differentiatesActivations: Bool { false }

    /// Makes `gradient` that of the output, whole: before another part is added, or a hook sees it.
    final func settleGradient() {
        gradientHasPassed = false
        guard let awaited = gradientAwaits.take() else { return }
        gradient?.pass(through: awaited.kind, result: awaited.result)
    }

    /// Forgets what has arrived.
    final func dropGradient() {
        gradient = nil
        gradientAwaits = nil
        gradientHasPassed = false
    }

    /// Sends to each operand's node its part of the gradient. `gradient` is what arrived; it is nil only for a node
    /// that asks to run without.
    func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {}

    /// Calls `backward` with what arrived. A node that changes the gradient in place overrides this: taken from
    /// `gradient`, it is the only reference, unless the tensor is shared.
    func propagate(_ pass: BackwardPass) throws {
        try backward(gradient.take(), pass)
    }

    /// Gives up what was saved for the backward and sets `isReleased`; a node that saved nothing leaves both alone.
    func releaseSaved() {}

    final func forEachInput(_ body: (Node) throws -> Void) rethrows {
        if let input0 { try body(input0) }
        if let input1 { try body(input1) }
        if let input2 { try body(input2) }
        for node in moreInputs { try body(node) }
    }

    private func moveDependencies(to list: inout [Node]) {
        if let node = input0 {
            list.append(node)
            input0 = nil
        }
        if let node = input1 {
            list.append(node)
            input1 = nil
        }
        if let node = input2 {
            list.append(node)
            input2 = nil
        }
        if let node = companion {
            list.append(node)
            companion = nil
        }
        if !moreInputs.isEmpty {
            list += moreInputs
            moreInputs = []
        }
    }

    deinit {
        // Long chains are released by a worklist: recursion would overflow the stack.
        guard input0 != nil || input1 != nil || input2 != nil || companion != nil || !moreInputs.isEmpty else { return }
        var list: [Node] = []
        moveDependencies(to: &list)
        while var node = list.popLast() {
            if isKnownUniquelyReferenced(&node) { node.moveDependencies(to: &list) }
        }
    }
}

/// An activation between a gradient and the node that has it.
struct AwaitedActivation {
    let kind: pf_activation
    let result: Tensor
}

/// The node of a tensor that wasn't computed: a parameter, or an input that a gradient is wanted for.
final class Leaf: Node {
    /// The accumulated gradient.
    var grad: Tensor?
    /// Read by kernels that write this leaf's gradient: frozen elements get +0.0 there.
    var gradientMask: MaskBytes?
    /// Run on `grad` last of all in a backward pass, after every user hook.
    var afterBackward: ((inout Tensor) throws -> Void)?
    /// Run after `grad` was updated.
    var postAccumulateHooks: HookList<() throws -> Void>?
    /// Contributions still to come in the backward pass under way.
    fileprivate(set) var pending = 0

    override var operation: String { "leaf" }

    func expectContribution() { pending += 1 }
    func contributionCame() -> Bool {
        pending -= 1
        return pending == 0
    }
    func resetContributions() { pending = 0 }
}

/// One byte an element of a gradient: 0 = frozen, 1 = trainable.
final class MaskBytes {
    let count: Int
    let pointer: UnsafeMutablePointer<UInt8>

    /// All trainable.
    init(count: Int) {
        self.count = count
        pointer = .allocate(capacity: max(count, 1))
        pointer.initialize(repeating: 1, count: max(count, 1))
    }

    deinit {
        pointer.deallocate()
    }
}
