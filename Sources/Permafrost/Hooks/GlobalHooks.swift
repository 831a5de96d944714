import Synchronization

/// The hooks that fire for every module, before its own.
///
/// They are shared by all threads and run on the thread that calls the module or `backward()`: what a hook captures must
/// bear that.
public enum GlobalHooks {
    private struct Shared: @unchecked Sendable {
        var table = HookTable()
    }

    private static let shared = Mutex(Shared())
    private static let registered = Atomic<Bool>(false)

    /// Whether there are any: what a module's call pays when there are none.
    @inline(__always)
    static var areRegistered: Bool { registered.load(ordering: .relaxed) }

    /// The hooks now; nil when there are none.
    static var current: HookTable? {
        areRegistered ? snapshot.table : nil
    }

    private static var snapshot: Shared { shared.withLock { $0 } }

    /// The global hooks, by kind and then in firing order.
    ///
    /// - Parameter kind: only those of one kind.
    public static func registeredHooks(_ kind: HookKind? = nil) -> [RegisteredHook] {
        let table = snapshot.table
        return (kind.map { [$0] } ?? HookKind.allCases).flatMap { table.listing($0) }
    }

    /// Removes all global hooks, or all of one kind, as their handles would.
    public static func removeAllHooks(_ kind: HookKind? = nil) {
        for hook in registeredHooks(kind) { hook.handle.remove() }
    }

    fileprivate static func add<Body>(
        _ sequence: WritableKeyPath<HookTable, HookSequence<Body>> & Sendable, _ prepend: Bool, _ origin: HookOrigin,
        alwaysCall: Bool = false, _ body: Body
    ) -> HookHandle {
        nonisolated(unsafe) let entry = HookEntry(body, alwaysCall: alwaysCall, origin: origin.description)
        nonisolated(unsafe) let handle = HookHandle {
            entry.deactivate()
            change { $0[keyPath: sequence].remove(entry) }
        }
        change { $0[keyPath: sequence].insert(entry, handle, prepend: prepend) }
        return handle
    }

    private static func change(_ body: (inout HookTable) -> Void) {
        shared.withLock {
            body(&$0.table)
            registered.store(!$0.table.isEmpty, ordering: .relaxed)
        }
    }
}

/// Adds a forward pre-hook to every module; see `Module.registerForwardPreHook`.
@discardableResult
public func registerModuleForwardPreHook(
    prepend: Bool = false, file: StaticString = #fileID, line: Int = #line,
    _ hook: @escaping (Module, [Tensor]) throws -> [Tensor]?
) -> HookHandle {
    GlobalHooks.add(\.forwardPre, prepend, HookOrigin(file: file, line: line), hook)
}

/// Adds a forward hook to every module; see `Module.registerForwardHook`.
@discardableResult
public func registerModuleForwardHook(
    prepend: Bool = false, alwaysCall: Bool = false, file: StaticString = #fileID, line: Int = #line,
    _ hook: @escaping (Module, [Tensor], [Tensor]) throws -> [Tensor]?
) -> HookHandle {
    GlobalHooks.add(\.forward, prepend, HookOrigin(file: file, line: line), alwaysCall: alwaysCall, hook)
}

/// Adds a full backward pre-hook to every module; see `Module.registerFullBackwardPreHook`.
@discardableResult
public func registerModuleFullBackwardPreHook(
    prepend: Bool = false, file: StaticString = #fileID, line: Int = #line,
    _ hook: @escaping (Module, [Tensor?]) throws -> [Tensor?]?
) -> HookHandle {
    GlobalHooks.add(\.fullBackwardPre, prepend, HookOrigin(file: file, line: line), hook)
}

/// Adds a full backward hook to every module; see `Module.registerFullBackwardHook`.
@discardableResult
public func registerModuleFullBackwardHook(
    prepend: Bool = false, file: StaticString = #fileID, line: Int = #line,
    _ hook: @escaping (Module, [Tensor?], [Tensor?]) throws -> [Tensor?]?
) -> HookHandle {
    GlobalHooks.add(\.fullBackward, prepend, HookOrigin(file: file, line: line), hook)
}
