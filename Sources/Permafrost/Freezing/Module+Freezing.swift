/// Gives a module's methods the static type of the module that they are called on, so that they can take key paths of
/// it.
public protocol ModuleWithKeyPaths: Module {}

extension Module: ModuleWithKeyPaths {}

extension ModuleWithKeyPaths {
    /// Writes a value into elements of a parameter before each forward pass of this module: the recipe with a forward
    /// pre-hook. Between passes the elements are free: after `step()` they are where the optimizer put them.
    ///
    ///     conv.pin(\.weight, at: [0, 1, 2, 1], to: 1)
    ///
    /// The forward pass throws `FreezeError` when an index is out of range.
    @discardableResult
    public func pin(_ path: KeyPath<Self, Parameter>, at indices: [any AxisIndex], to value: Float) -> HookHandle {
        pin(self[keyPath: path], at: .at(indices), to: value)
    }

    /// The same for a parameter that a module may lack, such as a bias; the forward pass throws when it does.
    @discardableResult
    public func pin(_ path: KeyPath<Self, Parameter?>, at indices: [any AxisIndex], to value: Float) -> HookHandle {
        guard let parameter = self[keyPath: path] else {
            return registerForwardPreHook { module, _ in
                throw FreezeError("\(type(of: module)) has no parameter at \(path) to pin")
            }
        }
        return pin(parameter, at: .at(indices), to: value)
    }
}

extension Module {
    /// Writes a value into a selection of a parameter before each forward pass of this module.
    @discardableResult
    public func pin(_ parameter: Parameter, at selection: ElementSelection, to value: Float) -> HookHandle {
        var offsets: [Int] = []
        return registerForwardPreHook { _, _ in
            if offsets.isEmpty { offsets = try selection.offsets(in: parameter.value, of: parameter.label) }
            parameter.value.withUnsafeMutableBufferPointer { elements in
                for offset in offsets { elements[offset] = value }
            }
            return nil
        }
    }

    /// Zeroes a selection of a parameter's gradient in a full backward hook of this module: the well-known recipe. It
    /// keeps the elements where they are only while a zero gradient does, as under SGD without decay and momentum.
    @discardableResult
    public func zeroGradient(of parameter: Parameter, at selection: ElementSelection) throws -> HookHandle {
        let offsets = try selection.offsets(in: parameter.value, of: parameter.label)
        return registerFullBackwardHook { _, _, _ in
            parameter.grad?.withUnsafeMutableBufferPointer { elements in
                for offset in offsets { elements[offset] = 0 }
            }
            return nil
        }
    }

    /// Freezes every parameter of this module and those below it where it is now, as for a pretrained part.
    ///
    /// - Returns: a handle for each parameter.
    @discardableResult
    public func freeze(route: FreezeRoute = .mask, name: String? = nil) throws -> [FreezeHandle] {
        try parameters().map { try $0.freeze(.all, route: route, name: name) }
    }

    /// Switches on every freeze of a name in this module and those below it, as for the next task.
    ///
    /// - Throws: `FreezeError` when there is none of this name, or when one of them and another that is on hold an
    ///   element at two values; all are as before then.
    public func enableFreezes(named name: String) throws {
        let parameters = parameters(), all = parameters.flatMap(\.freezes)
        guard all.contains(where: { $0.name == name }) else {
            throw noFreeze(named: name, among: all, of: "this \(type(of: self))")
        }
        for parameter in parameters { try parameter.checkEnabling(parameter.freezes(named: name)) }
        for parameter in parameters { try parameter.enable(parameter.freezes(named: name)) }
    }

    /// Switches off every freeze of a name in this module and those below it.
    public func disableFreezes(named name: String) {
        for parameter in parameters() { parameter.disableFreezes(named: name) }
    }

    /// Removes every freeze in this module and those below it.
    public func thaw() {
        for parameter in parameters() { parameter.thaw() }
    }
}

/// How the command line holds elements: two exact freezes, and the two recipes that hold where their mathematics do.
public enum FreezeMethod: String, CaseIterable, Sendable {
    /// A freeze whose gradient the backward kernel zeroes.
    case mask
    /// A freeze whose gradient a Swift callback zeroes.
    case callback
    /// The value is written once; a full backward hook zeroes the gradient.
    case recipe
    /// A forward pre-hook writes the value before each forward pass.
    case pin
}

extension Sequence<FreezeSpecification> {
    /// Applies these freezes to a model. Elements without a value stay, or are pinned, where they are.
    ///
    /// - Returns: handles that undo them, one a freeze.
    /// - Throws: `FreezeError` as `FreezeSpecification.apply(to:route:name:)` does, also for two values for one
    ///   element; none of the freezes is left then.
    @discardableResult
    public func apply(to model: Module, method: FreezeMethod) throws -> [HookHandle] {
        let parameters = model.namedParameters()
        var freezes: [FreezeHandle] = []
        do {
            for specification in self {
                try freezes.append(specification.apply(to: parameters, route: method == .callback ? .callback : .mask))
            }
        } catch {
            freezes.forEach { $0.remove() }
            throw error
        }
        guard method == .recipe || method == .pin else {
            return freezes.map { freeze in HookHandle { freeze.remove() } }
        }
        // Making the freezes has checked the selections and written the values; now the hooks take over.
        freezes.forEach { $0.remove() }
        let modules = model.namedModules()
        return try map { specification in
            let parameter = try specification.find(in: parameters)
            let selection = try specification.selection(in: parameter.shape)
            let name = specification.parameter.lastIndex(of: ".").map { specification.parameter[..<$0] } ?? ""
            guard let owner = modules.first(where: { $0.0 == name })?.1 else {
                throw FreezeError("'\(specification)': there is no module '\(name)' that could have the hook")
            }
            return method == .recipe
                ? try owner.zeroGradient(of: parameter, at: selection)
                : try owner.hold(parameter, at: selection)
        }
    }
}

extension Module {
    /// Writes the present values of a selection back before each forward pass.
    fileprivate func hold(_ parameter: Parameter, at selection: ElementSelection) throws -> HookHandle {
        let offsets = try selection.offsets(in: parameter.value, of: parameter.label)
        let values = parameter.value.withUnsafeBufferPointer { elements in offsets.map { elements[$0] } }
        return registerForwardPreHook { _, _ in
            parameter.value.withUnsafeMutableBufferPointer { elements in
                for (offset, value) in zip(offsets, values) { elements[offset] = value }
            }
            return nil
        }
    }
}
