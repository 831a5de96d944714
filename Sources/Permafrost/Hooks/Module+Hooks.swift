extension Module {
    /// Adds a hook that runs before `forward`.
    ///
    /// - Parameters:
    ///   - prepend: fire before the hooks that are registered already, instead of after them.
    ///   - hook: gets the module and the inputs; inputs it returns take their place, for later hooks too.
    /// - Returns: a handle that removes the hook. Dropping the handle leaves the hook in place.
    @discardableResult
    public func registerForwardPreHook(
        prepend: Bool = false, file: StaticString = #fileID, line: Int = #line,
        _ hook: @escaping (Self, [Tensor]) throws -> [Tensor]?
    ) -> HookHandle {
        table.forwardPre.add(
            { try hook(unsafeDowncast($0, to: Self.self), $1) }, prepend: prepend,
            origin: HookOrigin(file: file, line: line))
    }

    /// Adds a hook that runs after `forward`.
    ///
    /// - Parameters:
    ///   - prepend: fire before the hooks that are registered already, instead of after them.
    ///   - alwaysCall: fire also when the call throws before the hook's turn; outputs are then empty unless `forward`
    ///     had returned. What the hook itself throws then is dropped in favour of the first error.
    ///   - hook: gets the module, its inputs and its outputs; outputs it returns take their place, for later hooks too.
    /// - Returns: a handle that removes the hook. Dropping the handle leaves the hook in place.
    @discardableResult
    public func registerForwardHook(
        prepend: Bool = false, alwaysCall: Bool = false, file: StaticString = #fileID, line: Int = #line,
        _ hook: @escaping (Self, [Tensor], [Tensor]) throws -> [Tensor]?
    ) -> HookHandle {
        table.forward.add(
            { try hook(unsafeDowncast($0, to: Self.self), $1, $2) }, prepend: prepend, alwaysCall: alwaysCall,
            origin: HookOrigin(file: file, line: line))
    }

    /// Adds a hook that runs in `backward()` when the gradients of a call's outputs are complete.
    ///
    /// - Parameters:
    ///   - prepend: fire before the hooks that are registered already, instead of after them.
    ///   - hook: gets the module and the gradient of each output, nil for one that received none; gradients it returns,
    ///     as many and of the same shapes, take their place.
    /// - Returns: a handle that removes the hook. Dropping the handle leaves the hook in place.
    @discardableResult
    public func registerFullBackwardPreHook(
        prepend: Bool = false, file: StaticString = #fileID, line: Int = #line,
        _ hook: @escaping (Self, [Tensor?]) throws -> [Tensor?]?
    ) -> HookHandle {
        table.fullBackwardPre.add(
            { try hook(unsafeDowncast($0, to: Self.self), $1) }, prepend: prepend,
            origin: HookOrigin(file: file, line: line))
    }

    /// Adds a hook that runs in `backward()` when everything inside a call has been done: the gradients of its inputs
    /// are complete, and every parameter whose last contribution came from this call has its finished sum in `grad`.
    ///
    /// - Parameters:
    ///   - prepend: fire before the hooks that are registered already, instead of after them.
    ///   - hook: gets the module, the gradient of each input, nil for one that needs none, and those of the outputs.
    ///     Input gradients it returns, as many, of the same shapes, and nil where none is needed, take their place.
    /// - Returns: a handle that removes the hook. Dropping the handle leaves the hook in place.
    @discardableResult
    public func registerFullBackwardHook(
        prepend: Bool = false, file: StaticString = #fileID, line: Int = #line,
        _ hook: @escaping (Self, [Tensor?], [Tensor?]) throws -> [Tensor?]?
    ) -> HookHandle {
        table.fullBackward.add(
            { try hook(unsafeDowncast($0, to: Self.self), $1, $2) }, prepend: prepend,
            origin: HookOrigin(file: file, line: line))
    }

    /// The hooks of this module, by kind and then in firing order; without the global ones.
    ///
    /// - Parameter kind: only those of one kind.
    public final func registeredHooks(_ kind: HookKind? = nil) -> [RegisteredHook] {
        hooks?.listing(kind) ?? []
    }

    /// Removes this module's hooks, as their handles would.
    ///
    /// - Parameters:
    ///   - kind: only those of one kind.
    ///   - recursively: those of all modules below as well.
    public final func removeAllHooks(_ kind: HookKind? = nil, recursively: Bool = false) {
        for module in recursively ? modules() : [self] {
            for hook in module.registeredHooks(kind) { hook.handle.remove() }
        }
    }

    /// The table to register in, which goes away with its last hook.
    private var table: ModuleHooks {
        if let hooks { return hooks }
        let table = ModuleHooks { [weak self] change in
            if change < 0, let self, self.hooks?.isEmpty == true { self.hooks = nil }
        }
        hooks = table
        return table
    }
}
