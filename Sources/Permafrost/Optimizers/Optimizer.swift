import CKernels

/// Why an optimizer can't be made or its state not loaded.
public struct OptimizerError: Error, Equatable, CustomStringConvertible {
    public let message: String

    public init(_ message: String) {
        self.message = message
    }

    public var description: String { message }
}

/// Parameters that an optimizer treats alike, and how they differ from the optimizer's own settings:
///
///     try SGD(groups: [
///         ParameterGroup(net.features.parameters()) { $0.learningRate = 0.001 },
///         ParameterGroup(net.head.parameters()),
///     ], learningRate: 0.1, momentum: 0.9)
public struct ParameterGroup<Options> {
    public let parameters: [Parameter]
    let configure: (inout Options) -> Void

    public init(_ parameters: [Parameter], configure: @escaping (inout Options) -> Void = { _ in }) {
        self.parameters = parameters
        self.configure = configure
    }
}

/// What an optimizer remembers of one parameter.
public struct ParameterState {
    /// How many updates there have been.
    public var step = 0
    /// One tensor of the parameter's shape for each of the optimizer's `bufferNames`; nil until its first use.
    public var buffers: [Tensor?]
}

/// Changes parameters by their gradients. Subclasses say how, in `update`.
///
/// `step()` leaves every frozen element's bits alone and keeps its state at +0.0, so that after a thaw an element
/// starts anew, while its parameter's count of steps goes on. A parameter without a gradient, or that requires none,
/// isn't touched, nor is one that is wholly frozen. The order of a step: pre-hooks; for each parameter its update,
/// its constraints and its frozen values; post-hooks.
open class Optimizer: FreezeObserver {
    /// The parameters of each group.
    public final let groups: [[Parameter]]
    private let parameters: [(parameter: Parameter, group: Int)]
    private var states: [ParameterState]
    private let positions: [ObjectIdentifier: Int]
    let preHooks = HookList<(Optimizer) throws -> Void>()
    let postHooks = HookList<(Optimizer) throws -> Void>()

    /// - Throws: `OptimizerError` when there is no parameter, or one twice.
    public init(groups: [[Parameter]]) throws {
        self.groups = groups
        parameters = groups.enumerated().flatMap { group, members in members.map { ($0, group) } }
        guard !parameters.isEmpty else { throw OptimizerError("an optimizer needs at least one parameter") }
        var positions: [ObjectIdentifier: Int] = [:]
        for (position, entry) in parameters.enumerated() {
            if positions.updateValue(position, forKey: ObjectIdentifier(entry.parameter)) != nil {
                throw OptimizerError("\(entry.parameter.label) was given to the optimizer twice")
            }
        }
        self.positions = positions
        states = []
        let empty = ParameterState(buffers: Array(repeating: nil, count: bufferNames.count))
        states = Array(repeating: empty, count: parameters.count)
        for (parameter, _) in parameters { parameter.add(observer: self) }
    }

    // MARK: For subclasses

    /// What the optimizer remembers for each element; PyTorch's names.
    open var bufferNames: [String] { [] }

    /// Whether `update` itself writes neither frozen elements nor their state, as the kernels do given a mask. When it
    /// doesn't, `step()` puts them right afterwards.
    open var sparesFrozenElements: Bool { false }

    /// The learning rate of each group: what schedules set.
    open var learningRates: [Double] {
        get { fatalError("\(type(of: self)) must override learningRates") }
        set { fatalError("\(type(of: self)) must override learningRates, to set \(newValue)") }
    }

    /// The momentum (or its like, such as Adam's beta1) of each group, for schedules that move it against the
    /// learning rate. Nil where there is none.
    open var momenta: [Double]? {
        get { nil }
        set {}
    }

    /// The settings of a group by name, as checkpoints save them; flags are 0 and 1.
    open func settings(ofGroup group: Int) -> [String: Double] { ["learningRate": learningRates[group]] }

    /// The inverse of `settings(ofGroup:)`; throws `OptimizerError` for a value out of its range.
    open func setSettings(_ settings: [String: Double], ofGroup group: Int) throws {
        if let rate = settings["learningRate"] { learningRates[group] = rate }
    }

    /// Updates one parameter's value and state from its gradient. `state.step` is 1 in the first update.
    open func update(
        _ value: inout Tensor, gradient: Tensor, mask: GradientMask?, state: inout ParameterState, group: Int
    ) throws {
        fatalError("\(type(of: self)) must override update(_:gradient:mask:state:group:)")
    }

    // MARK: Steps

    /// Updates every parameter that has a gradient.
    public final func step() throws {
        try preHooks.forEach { try $0(self) }
        for position in parameters.indices {
            try update(at: position)
        }
        try postHooks.forEach { try $0(self) }
    }

    private func update(at position: Int) throws {
        let (parameter, group) = parameters[position]
        let mask = parameter.gradientMask
        guard parameter.requiresGrad, let gradient = parameter.leaf.grad, mask?.trainableCount != 0 else { return }
        guard gradient.shape == parameter.shape else {
            throw OptimizerError(
                "\(parameter.label) has shape \(parameter.shape), but its gradient has shape \(gradient.shape)")
        }
        try parameter.withUnmaskedValue { value in
            defer { if !sparesFrozenElements || !parameter.constraints.isEmpty { mask?.frozen.assert(on: &value) } }
            states[position].step += 1
            try update(&value, gradient: gradient, mask: mask, state: &states[position], group: group)
            for constraint in parameter.constraints {
                try constraint.project(&value)
            }
        }
        if !sparesFrozenElements, let mask { clearState(mask.frozen, at: position) }
    }

    /// Drops every gradient, or fills it with zeros.
    public final func zeroGrad(setToNil: Bool = true) {
        for (parameter, _) in parameters {
            parameter.zeroGrad(setToNil: setToNil)
        }
    }

    /// Adds a hook that runs before the updates of each step.
    @discardableResult
    public final func registerStepPreHook(
        file: StaticString = #fileID, line: Int = #line, _ hook: @escaping (Optimizer) throws -> Void
    ) -> HookHandle {
        preHooks.add(hook, origin: HookOrigin(file: file, line: line))
    }

    /// Adds a hook that runs after the updates of each step.
    @discardableResult
    public final func registerStepPostHook(
        file: StaticString = #fileID, line: Int = #line, _ hook: @escaping (Optimizer) throws -> Void
    ) -> HookHandle {
        postHooks.add(hook, origin: HookOrigin(file: file, line: line))
    }

    // MARK: State

    /// What is remembered of a parameter; nil for one that isn't among this optimizer's.
    public final func state(of parameter: Parameter) -> ParameterState? {
        positions[ObjectIdentifier(parameter)].map { states[$0] }
    }

    final func froze(_ elements: FrozenElements, of parameter: Parameter) {
        if let position = positions[ObjectIdentifier(parameter)] { clearState(elements, at: position) }
    }

    private func clearState(_ elements: FrozenElements, at position: Int) {
        for buffer in states[position].buffers.indices where states[position].buffers[buffer] != nil {
            elements.clear(in: &states[position].buffers[buffer]!)
        }
    }

    /// The state of all parameters and the settings of all groups: what a checkpoint saves.
    public final func stateDictionary() -> OptimizerState {
        var result = OptimizerState()
        for (key, state) in zip(keys, states) {
            result.numbers["\(key).step"] = Double(state.step)
            for (name, buffer) in zip(bufferNames, state.buffers) {
                if let buffer { result.tensors["\(key).\(name)"] = buffer }
            }
        }
        for group in groups.indices {
            for (name, value) in settings(ofGroup: group) {
                result.numbers["group\(group).\(name)"] = value
            }
        }
        return result
    }

    /// Takes over what `stateDictionary()` gave. Frozen elements' state is +0.0 afterwards, whatever was saved.
    ///
    /// - Throws: `OptimizerError` naming every key that is missing, unexpected or misshapen; nothing changes then.
    public final func load(stateDictionary saved: OptimizerState) throws {
        var problems: [String] = []
        var tensors = saved.tensors, numbers = saved.numbers
        var loaded = states
        for (position, key) in keys.enumerated() {
            let shape = parameters[position].parameter.shape
            if let step = numbers.removeValue(forKey: "\(key).step"), let count = Int(exactly: step), count >= 0 {
                loaded[position].step = count
            } else {
                problems.append("\(key).step is missing or not a count")
            }
            for (buffer, name) in bufferNames.enumerated() {
                let tensor = tensors.removeValue(forKey: "\(key).\(name)")
                if let tensor, tensor.shape != shape {
                    problems.append("\(key).\(name) has shape \(tensor.shape), expected \(shape)")
                }
                loaded[position].buffers[buffer] = tensor
            }
        }
        var settings: [[String: Double]] = []
        for group in groups.indices {
            let expected = self.settings(ofGroup: group)
            settings.append([:])
            for name in expected.keys.sorted() {
                if let value = numbers.removeValue(forKey: "group\(group).\(name)") {
                    settings[group][name] = value
                } else {
                    problems.append("group\(group).\(name) is missing")
                }
            }
        }
        problems += (tensors.keys.sorted() + numbers.keys.sorted()).map { "\($0) is unexpected" }
        guard problems.isEmpty else {
            throw OptimizerError("this state isn't one of this \(type(of: self)): " + problems.joined(separator: "; "))
        }
        let before = groups.indices.map { self.settings(ofGroup: $0) }
        do {
            for (group, values) in settings.enumerated() { try setSettings(values, ofGroup: group) }
        } catch {
            for (group, values) in before.enumerated() { try setSettings(values, ofGroup: group) }
            throw error
        }
        states = loaded
        for (position, entry) in parameters.enumerated() {
            if let mask = entry.parameter.gradientMask { clearState(mask.frozen, at: position) }
        }
    }

    /// The parameters' names where all have different ones, else their positions.
    private var keys: [String] {
        let names = parameters.compactMap(\.parameter.name)
        return Set(names).count == parameters.count ? names : parameters.indices.map(String.init)
    }
}

/// An optimizer's state as names with values: tensors (`conv1.weight.exp_avg`) and numbers (`conv1.weight.step`,
/// `group0.learningRate`).
public struct OptimizerState {
    public var tensors: [String: Tensor] = [:]
    public var numbers: [String: Double] = [:]

    public init(tensors: [String: Tensor] = [:], numbers: [String: Double] = [:]) {
        self.tensors = tensors
        self.numbers = numbers
    }
}
