typealias ForwardPreHook = (Module, [Tensor]) throws -> [Tensor]?
typealias ForwardHook = (Module, [Tensor], [Tensor]) throws -> [Tensor]?
typealias FullBackwardPreHook = (Module, [Tensor?]) throws -> [Tensor?]?
typealias FullBackwardHook = (Module, [Tensor?], [Tensor?]) throws -> [Tensor?]?

/// The hooks of one module, or the global ones.
final class ModuleHooks: Sendable {
    let forwardPre: HookList<ForwardPreHook>
    let forward: HookList<ForwardHook>
    let fullBackwardPre: HookList<FullBackwardPreHook>
    let fullBackward: HookList<FullBackwardHook>

    /// - Parameter countChanged: gets 1 when a hook was added and -1 when one was removed.
    init(countChanged: @escaping (Int) -> Void) {
        forwardPre = HookList(countChanged: countChanged)
        forward = HookList(countChanged: countChanged)
        fullBackwardPre = HookList(countChanged: countChanged)
        fullBackward = HookList(countChanged: countChanged)
    }

    var isEmpty: Bool { forwardPre.isEmpty && forward.isEmpty && fullBackwardPre.isEmpty && fullBackward.isEmpty }

    /// The hooks by kind and then in firing order, or those of one kind.
    func listing(_ kind: HookKind?) -> [RegisteredHook] {
        switch kind {
        case .forwardPre: forwardPre.listing(.forwardPre)
        case .forward: forward.listing(.forward)
        case .fullBackwardPre: fullBackwardPre.listing(.fullBackwardPre)
        case .fullBackward: fullBackward.listing(.fullBackward)
        case .tensor, .postAccumulateGrad, .optimizerStepPre, .optimizerStepPost: []
        case nil: HookKind.allCases.flatMap { listing($0) }
        }
    }
}
