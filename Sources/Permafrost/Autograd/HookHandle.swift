/// Detaches a hook. Dropping the handle leaves the hook in place.
public final class HookHandle {
    private var detach: (() -> Void)?

    init(detach: @escaping () -> Void) {
        self.detach = detach
    }

    /// Detaches the hook at once, also while hooks fire; a second call does nothing.
    public func remove() {
        detach?()
        detach = nil
    }

    /// Whether `remove()` hasn't been called.
    public var isActive: Bool { detach != nil }
}

/// Hooks of one kind in firing order.
final class HookList<Hook> {
    private final class Entry {
        let hook: Hook
        var isActive = true
        init(_ hook: Hook) { self.hook = hook }
    }

    private var entries: [Entry] = []

    var isEmpty: Bool { entries.isEmpty }
    var count: Int { entries.count }

    func add(_ hook: Hook, prepend: Bool = false) -> HookHandle {
        let entry = Entry(hook)
        entries.insert(entry, at: prepend ? 0 : entries.count)
        return HookHandle { [weak self, weak entry] in
            entry?.isActive = false
            self?.entries.removeAll { $0 === entry }
        }
    }

    func removeAll() {
        for entry in entries { entry.isActive = false }
        entries = []
    }

    /// Calls `body` with each hook that was registered at the start and hasn't been removed by the time its turn
    /// comes.
    func forEach(_ body: (Hook) throws -> Void) rethrows {
        for entry in entries where entry.isActive {
            try body(entry.hook)
        }
    }
}

/// Gets a gradient; returns its replacement or nil.
typealias TensorHook = (Tensor) throws -> Tensor?
