extension Module {
    /// A new module with this one's state: values of parameters and buffers, freezes, constraints, `requiresGrad`, and
    /// training mode, by name. Gradients and hooks stay behind.
    ///
    ///     let copy = try net.copied(by: { Net() })
    ///
    /// - Parameter make: makes a module of the same structure. What it draws from `Generator.default` is put back, so
    ///   that a copy doesn't change the numbers that come after.
    /// - Throws: `ModuleError` when the structures differ, naming the first entry that does.
    public final func copied<Copy: Module>(by make: () throws -> Copy) throws -> Copy {
        let random = Generator.default.state
        defer { Generator.default.state = random }
        let copy = try make()
        let sources = namedState(), targets = copy.namedState()
        guard sources.map(\.name) == targets.map(\.name) else {
            let difference = Set(sources.map(\.name)).symmetricDifference(targets.map(\.name)).min() ?? "the order"
            throw ModuleError(self, "the module made for a copy differs in its state: \(difference)")
        }
        for (source, target) in zip(sources, targets) {
            guard source.value.shape == target.value.shape else {
                throw ModuleError(
                    self,
                    "the module made for a copy has a \(source.name) of shape \(target.value.shape), not "
                        + "\(source.value.shape)")
            }
            switch (source.content, target.content) {
            case (.parameter(let from), .parameter(let to)):
                try to.copyState(of: from)
                to.constraints = from.constraints
            case (.buffer(let from), .buffer(let to)): to.value = from.value
            default: throw ModuleError(self, "'\(source.name)' is a parameter in one of copy and original only")
            }
        }
        let modes = Dictionary(uniqueKeysWithValues: namedModules().map { ($0.name, $0.module.training) })
        for (name, module) in copy.namedModules() { module.training = modes[name] ?? training }
        return copy
    }
}
