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
