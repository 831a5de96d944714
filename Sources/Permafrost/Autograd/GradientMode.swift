import CThreadState

/// Runs `body` without recording: what is computed inside requires no gradient. Holds for the calling thread.
public func noGrad<R>(_ body: () throws -> R) rethrows -> R {
    try withGradient(enabled: false, body)
}

/// Runs `body` with recording switched on again inside `noGrad`.
public func enableGrad<R>(_ body: () throws -> R) rethrows -> R {
    try withGradient(enabled: true, body)
}

/// Whether operations called here are recorded.
public var isGradEnabled: Bool { !permafrost_thread_state_current()!.pointee.gradient_disabled }

private func withGradient<R>(enabled: Bool, _ body: () throws -> R) rethrows -> R {
    let state = permafrost_thread_state_current()!
    let outer = state.pointee.gradient_disabled
    state.pointee.gradient_disabled = !enabled
    defer { state.pointee.gradient_disabled = outer }
    return try body()
}
