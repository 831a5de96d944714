import Synchronization

/// The points at which hooks fire; `Module.callWithHooks` documents their order in a training step.
public enum HookKind: String, CaseIterable, Sendable {
    case forwardPre, forward, fullBackwardPre, fullBackward
    case tensor, postAccumulateGrad
    case optimizerStepPre, optimizerStepPost
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

/// Where a hook was registered.
struct HookOrigin {
    let file: StaticString
    let line: Int

    var description: String { "\(file):\(line)" }
}

/// Hooks of one kind in firing order.
///
/// The list itself may be used from several threads, since global hooks are.
final class HookList<Body>: @unchecked Sendable {
    /// One registration.
    final class Entry {
        let body: Body
        let alwaysCall: Bool
        let origin: HookOrigin
        fileprivate var handle: HookHandle?
        private let active = Atomic<Bool>(true)

        init(_ body: Body, alwaysCall: Bool, origin: HookOrigin) {
            self.body = body
            self.alwaysCall = alwaysCall
            self.origin = origin
        }

        /// False from `remove()` on, also for whoever is firing a list that was taken before.
        var isActive: Bool { active.load(ordering: .acquiring) }
        fileprivate func deactivate() { active.store(false, ordering: .releasing) }
    }

    private struct Contents: @unchecked Sendable {
        var entries: [Entry] = []
    }

    private let contents = Mutex(Contents())
    private let countChanged: (Int) -> Void

    /// - Parameter countChanged: gets 1 when a hook was added and -1 when one was removed.
    init(countChanged: @escaping (Int) -> Void = { _ in }) {
        self.countChanged = countChanged
    }

    /// The hooks now: what is added or removed later doesn't change the array.
    var current: [Entry] { contents.withLock { $0 }.entries }
    var isEmpty: Bool { current.isEmpty }

    func add(
        _ body: Body, prepend: Bool = false, alwaysCall: Bool = false, origin: HookOrigin
    ) -> HookHandle {
        nonisolated(unsafe) let entry = Entry(body, alwaysCall: alwaysCall, origin: origin)
        let handle = HookHandle { [weak self, weak entry] in
            guard let entry else { return }
            entry.deactivate()
            self?.remove(entry)
        }
        entry.handle = handle
        contents.withLock { $0.entries.insert(entry, at: prepend ? 0 : $0.entries.count) }
        countChanged(1)
        return handle
    }

    private func remove(_ entry: Entry) {
        nonisolated(unsafe) let entry = entry
        contents.withLock { $0.entries.removeAll { $0 === entry } }
        countChanged(-1)
    }

    /// Removes every hook, as the handles would.
    func removeAll() {
        for entry in current { entry.handle?.remove() }
    }

    func listing(_ kind: HookKind) -> [RegisteredHook] {
        current.compactMap { entry in
            entry.handle.map {
                RegisteredHook(
                    kind: kind, alwaysCall: entry.alwaysCall, origin: entry.origin.description, handle: $0)
            }
        }
    }

    /// Calls `body` with each hook that was registered at the start and hasn't been removed by the time its turn comes.
    func forEach(_ body: (Body) throws -> Void) rethrows {
        for entry in current where entry.isActive {
            try body(entry.body)
        }
    }
}

/// Gets a gradient; returns its replacement or nil.
typealias TensorHook = (Tensor) throws -> Tensor?
