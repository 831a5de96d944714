extension Module {
    /// Runs a call's hooks around `forward`, for modules whose call takes something beside tensors.
    ///
    /// # Everything that fires in a training step
    ///
    /// At each point global hooks fire first, then the module's own, each group in the order of registration, prepended
    /// ones in front. What a hook returns takes the place of what it got, for the hooks after it too.
    ///
    /// *Forward*, at each call of a module, outside in:
    /// 1. forward pre-hooks
    /// 2. `forward`, and in it the calls of the modules below
    /// 3. forward hooks; when 1, 2 or 3 throws, those with `alwaysCall` that haven't had their turn
    ///
    /// *Backward*, calls in reverse order of their beginning and end:
    /// 1. full backward pre-hooks, when the gradients of all outputs of the call are complete
    /// 2. the operations inside, last first, with gradient masks applied; before each, the tensor hooks on its result
    /// 3. for each parameter or leaf, as soon as its last contribution came: tensor hooks on the sum, accumulation into
    ///    `grad`, post-accumulate hooks
    /// 4. full backward hooks, when the gradients of all inputs are complete and 3 is over for every parameter whose
    ///    last contribution came from this call, whether or not an input needs a gradient. A module called k times in
    ///    one forward pass fires k times, last call first; the hooks of the first call find the sums.
    /// 5. at the end of `backward()`, after every hook: frozen elements of `grad` become +0.0
    ///
    /// *Optimizer step*: step pre-hooks, the update, constraints, frozen values, step post-hooks.
    ///
    /// Inside `noGrad` nothing is recorded, so that only the forward hooks fire. A call's backward hooks are those
    /// that were registered when it began and haven't been removed since. A hook that is registered while hooks of
    /// its kind fire waits for the next time; one that is removed meanwhile doesn't fire any more. What a hook throws
    /// comes out of the call or of `backward()`; the latter then leaves every `grad` as it was before.
    ///
    /// - Parameters:
    ///   - inputs: what the hooks get as the call's inputs.
    ///   - forward: gets the inputs as hooks left them, and computes the outputs.
    public final func callWithHooks(
        _ inputs: [Tensor], _ forward: ([Tensor]) throws -> [Tensor]
    ) throws -> [Tensor] {
        var inputs = inputs
        var outputs: [Tensor] = []
        var fired: [HookList<ForwardHook>.Entry] = []
        do {
            guard hooks != nil || GlobalHooks.areRegistered else { return try forward(inputs) }
            let call = isGradEnabled ? ModuleCall(self) : nil
            for entry in registered({ $0.forwardPre }) where entry.isActive {
                if let replacement = try entry.body(self, inputs) { inputs = replacement }
            }
            let entry = call?.enter(&inputs)
            outputs = try forward(inputs)
            for entry in registered({ $0.forward }) where entry.isActive {
                fired.append(entry)
                if let replacement = try entry.body(self, inputs, outputs) { outputs = replacement }
            }
            if let entry { call?.exit(&outputs, entry) }
            return outputs
        } catch {
            for entry in registered({ $0.forward }) where entry.isActive && entry.alwaysCall {
                guard !fired.contains(where: { $0 === entry }) else { continue }
                if let replacement = try? entry.body(self, inputs, outputs) { outputs = replacement }
            }
            guard let error = error as? ModuleError else { throw error }
            throw error.located(in: self)
        }
    }

    /// The global hooks of one kind, then the module's own.
    fileprivate final func registered<Body>(_ list: (ModuleHooks) -> HookList<Body>) -> [HookList<Body>.Entry] {
        let own = hooks.map { list($0).current } ?? []
        return GlobalHooks.hooks.map { list($0).current + own } ?? own
    }
}

/// One recorded call of a module with backward hooks.
///
/// On the tape the call lies between an entry node, created before everything inside it, and an exit node, created
/// after. Nodes are visited in reverse order of creation, so the exit comes first of the call and the entry last:
///
///     inputs <- entry <· each input's node <- … inside … <- exit <· each output's node
///
/// Gradients that arrive at an output's node are left here; the exit, whose inputs are what `forward` returned, runs
/// the pre-hooks and sends them on. Likewise the inputs' nodes leave theirs here, and the entry runs the full
/// backward hooks. `·` is a companion: the exit has one in the entry, so that it is visited also when no input needs
/// a gradient.
private final class ModuleCall {
    private let module: Module
    private let preHooks: [HookList<FullBackwardPreHook>.Entry]
    private let hooks: [HookList<FullBackwardHook>.Entry]
    private var inputs = Side(role: "input", hook: "full backward hook")
    private var outputs = Side(role: "output", hook: "full backward pre-hook")
    /// Whether the exit's hooks have run, so that the entry's are due.
    private var isOpen = false
    /// The pass that the gradients here belong to.
    private weak var pass: BackwardPass?

    /// One side of the call: the gradients of its tensors, and what they must look like.
    private struct Side {
        let role: String
        let hook: String
        var shapes: [Shape] = []
        var needsGradient: [Bool] = []
        var gradients: [Tensor?] = []

        /// Wraps each tensor that needs a gradient in a node; returns the nodes that they had.
        mutating func wrap(_ tensors: inout [Tensor], _ makeNode: (Int) -> Node) -> [Node] {
            shapes = tensors.map(\.shape)
            needsGradient = tensors.map { $0.node != nil }
            clear()
            var sources: [Node] = []
            for index in tensors.indices {
                guard let source = tensors[index].node else { continue }
                sources.append(source)
                tensors[index].node = makeNode(index)
            }
            return sources
        }

        mutating func clear() {
            gradients = Array(repeating: nil, count: shapes.count)
        }

        /// Takes what a hook returned; throws when it doesn't fit.
        mutating func replace(_ replacements: [Tensor?]?, by module: Module) throws {
            guard let replacements else { return }
            guard replacements.count == shapes.count else {
                throw ModuleError(
                    module,
                    "a \(hook) returned \(replacements.count) gradients, but the call has \(shapes.count) \(role)s")
            }
            for (index, replacement) in replacements.enumerated() {
                guard let replacement else { continue }
                guard needsGradient[index] else {
                    throw ModuleError(
                        module,
                        "a \(hook) returned a gradient for \(role) \(index), which needs none: return nil there")
                }
                guard replacement.shape == shapes[index] else {
                    throw ModuleError(
                        module,
                        "a \(hook) returned a gradient of shape \(replacement.shape) for \(role) \(index) of shape "
                            + "\(shapes[index])")
                }
            }
            gradients = replacements.map { $0?.detached() }
        }

        /// Sends each gradient to the node that its tensor had.
        func send(to node: Node, _ pass: BackwardPass) {
            var index = 0
            node.forEachInput { source in
                while !needsGradient[index] { index += 1 }
                pass.send(gradients[index], to: source)
                index += 1
            }
        }
    }

    /// Nil when there are no backward hooks.
    init?(_ module: Module) {
        preHooks = module.registered { $0.fullBackwardPre }
        hooks = module.registered { $0.fullBackward }
        guard !preHooks.isEmpty || !hooks.isEmpty else { return nil }
        self.module = module
    }

    /// Marks the beginning of the call on the tape.
    func enter(_ tensors: inout [Tensor]) -> EntryNode {
        let entry = EntryNode(self)
        entry.setInputs(inputs.wrap(&tensors) { InputNode(self, $0, entry) })
        return entry
    }

    /// Marks its end.
    func exit(_ tensors: inout [Tensor], _ entry: EntryNode) {
        let exit = ExitNode(self, entry)
        exit.setInputs(outputs.wrap(&tensors) { OutputNode(self, $0, exit) })
    }

    private func begin(_ pass: BackwardPass) {
        guard self.pass !== pass else { return }
        self.pass = pass
        isOpen = false
        inputs.clear()
        outputs.clear()
    }

    func arrived(_ gradient: Tensor?, output index: Int, _ pass: BackwardPass) {
        begin(pass)
        outputs.gradients[index] = gradient
    }

    func arrived(_ gradient: Tensor?, input index: Int, _ pass: BackwardPass) {
        begin(pass)
        inputs.gradients[index] = gradient
    }

    func runPreHooks(_ node: Node, _ pass: BackwardPass) throws {
        begin(pass)
        guard outputs.gradients.contains(where: { $0 != nil }) else { return }
        isOpen = true
        for entry in preHooks where entry.isActive {
            try outputs.replace(entry.body(module, outputs.gradients), by: module)
        }
        outputs.send(to: node, pass)
    }

    func runHooks(_ node: Node, _ pass: BackwardPass) throws {
        begin(pass)
        // Gradients that came by a way around the outputs pass through, as in PyTorch.
        if isOpen {
            for entry in hooks where entry.isActive {
                try inputs.replace(entry.body(module, inputs.gradients, outputs.gradients), by: module)
            }
        }
        inputs.send(to: node, pass)
        self.pass = nil
        inputs.clear()
        outputs.clear()
    }
}

private class CallNode: Node {
    let call: ModuleCall

    init(_ call: ModuleCall) {
        self.call = call
        super.init()
    }

    override var operation: String { "module call" }

    func setInputs(_ nodes: [Node]) {
        input0 = nodes.first
        moreInputs = Array(nodes.dropFirst())
    }
}

private final class EntryNode: CallNode {
    override var runsWithoutGradient: Bool { true }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        try call.runHooks(self, pass)
    }
}

private final class ExitNode: CallNode {
    init(_ call: ModuleCall, _ entry: EntryNode) {
        super.init(call)
        companion = entry
    }

    override var runsWithoutGradient: Bool { true }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        try call.runPreHooks(self, pass)
    }
}

private final class InputNode: CallNode {
    private let index: Int

    init(_ call: ModuleCall, _ index: Int, _ entry: EntryNode) {
        self.index = index
        super.init(call)
        companion = entry
    }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        call.arrived(gradient, input: index, pass)
    }
}

private final class OutputNode: CallNode {
    private let index: Int

    init(_ call: ModuleCall, _ index: Int, _ exit: ExitNode) {
        self.index = index
        super.init(call)
        companion = exit
    }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        call.arrived(gradient, output: index, pass)
    }
}
