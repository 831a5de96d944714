/// All that a training needs to go on as if it had never stopped, in one safetensors file: parameters and buffers,
/// freezes with their values, the state of optimizer, schedule and random numbers, and whatever the training loop adds,
/// such as its position in the data.
///
///     try Checkpoint(of: net, optimizer: optimizer, generator: .default, values: ["step": "100"]).write(to: path)
///     // later, with net and optimizer made anew:
///     let checkpoint = try Checkpoint.read(path)
///     try checkpoint.restore(net, optimizer: optimizer, generator: .default)
///
/// A file is written so that a crash at any moment leaves the old one or the new one, whole.
public struct Checkpoint {
    public var model = StateDictionary()
    /// The freezes of each parameter that has any, on and off.
    public var freezes: [String: [FreezeRecord]] = [:]
    public var optimizer: OptimizerState?
    /// The state of a schedule of learning rates.
    public var schedule: [String: Double]?
    public var generator: Generator.State?
    /// What the training loop wants to find again.
    public var values: [String: String] = [:]
    /// Tensors that the training loop wants to find again.
    public var tensors: [String: Tensor] = [:]

    /// Takes the present state of what is given.
    public init(
        of model: Module, optimizer: Optimizer? = nil, scheduler: (any LearningRateScheduler)? = nil,
        generator: Generator? = nil, values: [String: String] = [:], tensors: [String: Tensor] = [:]
    ) {
        self.model = model.stateDictionary()
        for (name, parameter) in model.namedParameters() where !parameter.freezes.isEmpty {
            freezes[name] = parameter.freezes.map(\.record)
        }
        self.optimizer = optimizer?.stateDictionary()
        schedule = scheduler?.stateDictionary()
        self.generator = generator?.state
        self.values = values
        self.tensors = tensors
    }

    /// Puts the saved state into place, all or nothing. Freezes that the model has are replaced by the saved ones, and
    /// their handles no longer do anything.
    ///
    /// - Throws: `StateDictionaryError`, `FreezeError`, `OptimizerError` or `CheckpointError`, naming what doesn't fit;
    ///   everything is as it was then.
    public func restore(
        _ module: Module, optimizer: Optimizer? = nil, scheduler: (any LearningRateScheduler)? = nil,
        generator: Generator? = nil
    ) throws {
        let before = Checkpoint(of: module, optimizer: optimizer, scheduler: scheduler, generator: generator)
        do {
            try apply(to: module, optimizer, scheduler, generator)
        } catch {
            // What was in place fits what it was taken from.
            trapping { try before.apply(to: module, optimizer, scheduler, generator) }
            throw error
        }
    }

    private func apply(
        to module: Module, _ optimizer: Optimizer?, _ scheduler: (any LearningRateScheduler)?, _ generator: Generator?
    ) throws {
        let parameters = module.namedParameters()
        if let unknown = Set(freezes.keys).subtracting(parameters.map(\.name)).min() {
            throw CheckpointError("there are freezes of '\(unknown)', which is no parameter of the module")
        }
        module.thaw()
        try module.load(stateDictionary: model)
        for (name, parameter) in parameters {
            try parameter.restore(freezes[name] ?? [])
        }
        if let optimizer { try optimizer.load(stateDictionary: present(self.optimizer, "optimizer")) }
        if let scheduler { try scheduler.load(stateDictionary: present(schedule, "schedule")) }
        if let generator { generator.state = try present(self.generator, "generator of random numbers") }
    }

    private func present<Part>(_ part: Part?, _ name: String) throws -> Part {
        guard let part else { throw CheckpointError("the checkpoint has no state of the \(name)") }
        return part
    }
}

/// What a checkpoint lacks or has too much.
public struct CheckpointError: Error, Equatable, CustomStringConvertible {
    public let message: String

    init(_ message: String) {
        self.message = message
    }

    public var description: String { message }
}
