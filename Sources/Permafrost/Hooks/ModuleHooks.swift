import Synchronization

/// The points of a module's call at which hooks fire.
public enum HookKind: String, CaseIterable, Sendable {
    case forwardPre
    case forward
    case fullBackwardPre
    case fullBackward
}

/// A hook in a listing.
public struct RegisteredHook {
    public let kind: HookKind
    /// Whether a forward hook also fires when the call throws.
    public let alwaysCall: Bool
    /// Where it was registered, as in `Net/main.swift:12`.
    public let origin: String
    /// Removes it.
    public let handle: HookHandle
}

typealias ForwardPreHook = (Module, [Tensor]) throws -> [Tensor]?
typealias ForwardHook = (Module, [Tensor], [Tensor]) throws -> [Tensor]?
typealias FullBackwardPreHook = (Module, [Tensor?]) throws -> [Tensor?]?
typealias FullBackwardHook = (Module, [Tensor?], [Tensor?]) throws -> [Tensor?]?

/// One registration of a hook.
final class HookEntry<Body> {
    let body: Body
    let alwaysCall: Bool
    let origin: String
    /// False from `remove()` on, also for whoever fires a list that was taken before. Atomic because another thread may
    /// be firing a global hook.
    private let active = Atomic<Bool>(true)

    init(_ body: Body, alwaysCall: Bool, origin: String) {
        self.body = body
        self.alwaysCall = alwaysCall
        self.origin = origin
    }

    var isActive: Bool { active.load(ordering: .acquiring) }
    func deactivate() { active.store(false, ordering: .releasing) }
}

/// The hooks of one kind in firing order. A value: who fires a copy isn't disturbed by changes meanwhile.
struct HookSequence<Body> {
    private(set) var entries: [(entry: HookEntry<Body>, handle: HookHandle)] = []

    mutating func insert(_ entry: HookEntry<Body>, _ handle: HookHandle, prepend: Bool) {
        entries.insert((entry, handle), at: prepend ? 0 : entries.count)
    }

    mutating func remove(_ entry: HookEntry<Body>) {
        entries.removeAll { $0.entry === entry }
    }

    func listing(_ kind: HookKind) -> [RegisteredHook] {
        entries.map {
            RegisteredHook(kind: kind, alwaysCall: $0.entry.alwaysCall, origin: $0.entry.origin, handle: $0.handle)
        }
    }

    /// What to fire now: `self`, then those of `other`.
    func followed(by other: HookSequence?) -> [HookEntry<Body>] {
        entries.map(\.entry) + (other?.entries.map(\.entry) ?? [])
    }
}

/// The hooks of one module, or the global ones.
struct HookTable {
    var forwardPre = HookSequence<ForwardPreHook>()
    var forward = HookSequence<ForwardHook>()
    var fullBackwardPre = HookSequence<FullBackwardPreHook>()
    var fullBackward = HookSequence<FullBackwardHook>()

    var isEmpty: Bool {
        forwardPre.entries.isEmpty && forward.entries.isEmpty && fullBackwardPre.entries.isEmpty
            && fullBackward.entries.isEmpty
    }

    var hasBackwardHooks: Bool { !fullBackwardPre.entries.isEmpty || !fullBackward.entries.isEmpty }

    func listing(_ kind: HookKind) -> [RegisteredHook] {
        switch kind {
        case .forwardPre: forwardPre.listing(kind)
        case .forward: forward.listing(kind)
        case .fullBackwardPre: fullBackwardPre.listing(kind)
        case .fullBackward: fullBackward.listing(kind)
        }
    }
}

/// A module's optional table, boxed so that a module without hooks holds a nil.
final class ModuleHooks {
    var table = HookTable()
}

/// Where a hook was registered.
struct HookOrigin {
    let file: StaticString
    let line: Int

    var description: String { "\(file):\(line)" }
}
