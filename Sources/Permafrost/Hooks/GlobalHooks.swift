import Synchronization

/// The hooks that fire for every module, before its own.
///
/// They are shared by all threads and run on the thread that calls the module or `backward()`: what a hook captures
/// must bear that.
public enum GlobalHooks {
    private static let count = Atomic<Int>(0)
    fileprivate static let table = ModuleHooks { count.wrappingAdd($0, ordering: .relaxed) }

    /// Whether there are any: what a module's call pays when there are none.
    @inline(__always)
    static var areRegistered: Bool { count.load(ordering: .relaxed) != 0 }

    /// Nil when there are none.
    static var hooks: ModuleHooks? { areRegistered ? table : nil }

    /// The global hooks, by kind and then in firing order.
    ///
    /// - Parameter kind: only those of one kind.
    public static func registeredHooks(_ kind: HookKind? = nil) -> [RegisteredHook] {
        table.listing(kind)
    }

    /// Removes all global hooks, or all of one kind, as their handles would.
    public static func removeAllHooks(_ kind: HookKind? = nil) {
        for hook in registeredHooks(kind) { hook.handle.remove() }
    }
}

/// Adds a forward pre-hook to every module; see `Module.registerForwardPreHook`.
@discardableResult
public func registerModuleForwardPreHook(
    prepend: Bool = false, file: StaticString = #fileID, line: Int = #line,
    _ hook: @escaping (Module, [Tensor]) throws -> [Tensor]?
) -> HookHandle {
    GlobalHooks.table.forwardPre.add(hook, prepend: prepend, origin: HookOrigin(file: file, line: line))
}

/// Adds a forward hook to every module; see `Module.registerForwardHook`.
@discardableResult
public func registerModuleForwardHook(
    prepend: Bool = false, alwaysCall: Bool = false, file: StaticString = #fileID, line: Int = #line,
    _ hook: @escaping (Module, [Tensor], [Tensor]) throws -> [Tensor]?
) -> HookHandle {
    GlobalHooks.table.forward.add(
        hook, prepend: prepend, alwaysCall: alwaysCall, origin: HookOrigin(file: file, line: line))
}

/// Adds a full backward pre-hook to every module; see `Module.registerFullBackwardPreHook`.
@discardableResult
public func registerModuleFullBackwardPreHook(
    prepend: Bool = false, file: StaticString = #fileID, line: Int = #line,
    _ hook: @escaping (Module, [Tensor?]) throws -> [Tensor?]?
) -> HookHandle {
    GlobalHooks.table.fullBackwardPre.add(hook, prepend: prepend, origin: HookOrigin(file: file, line: line))
}

/// Adds a full backward hook to every module; see `Module.registerFullBackwardHook`.
@discardableResult
public func registerModuleFullBackwardHook(
    prepend: Bool = false, file: StaticString = #fileID, line: Int = #line,
    _ hook: @escaping (Module, [Tensor?], [Tensor?]) throws -> [Tensor?]?
) -> HookHandle {
    GlobalHooks.table.fullBackward.add(hook, prepend: prepend, origin: HookOrigin(file: file, line: line))
}
