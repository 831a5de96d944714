import Testing

@testable import Permafrost

/// value - gradient, masks or not.
private final class PlainDescent: Optimizer {
    var note: (String, Tensor) -> Void = { _, _ in }
    override var learningRates: [Double] {
        get { [1] }
        set {}
    }

    override func update(
        _ value: inout Tensor, gradient: Tensor, mask: GradientMask?, state: inout ParameterState, group: Int
    ) throws {
        value = noGrad { value - gradient - 1 }
        note("update", value)
    }
}

private struct Noting: Constraint {
    let note: (String, Tensor) -> Void

    func project(_ value: inout Tensor) {
        note("constraint", value)
        value = value * 2
    }
}

/// What comes between a training step's hooks: freezes and constraints. The order of the hooks themselves is that of
/// `HookTraceTests`, beside PyTorch's.
@Suite struct HookOrderTests {
    @Test(arguments: FreezeRoute.allCases)
    func freezesComeAfterAllHooksAndConstraintsBetweenUpdateAndFrozenValues(route: FreezeRoute) throws {
        let conv = Conv2d(1, 1, Pair(1, 2), bias: false), weight = conv.weight
        weight.value = Tensor([3, 3], shape: [1, 1, 1, 2])
        try weight.freeze(at: [0, 0, 0, 0], to: 1, route: route)
        var trace: [String] = []
        func note(_ event: String, _ tensor: Tensor?) {
            trace.append("\(event) \(tensor.map { "\($0.scalars.map { Int($0) })" } ?? "nil")")
        }
        weight.registerHook { note("tensor", $0); return nil }
        weight.registerPostAccumulateGradHook { note("post-accumulate", $0.grad) }
        conv.registerFullBackwardHook { conv, _, _ in
            note("full backward", conv.weight.grad)
            conv.weight.grad?[0, 0, 0, 0] = 5
            return nil
        }
        let optimizer = try PlainDescent(groups: [[weight]])
        optimizer.note = note
        optimizer.registerStepPreHook { _ in note("step pre", weight.value) }
        optimizer.registerStepPostHook { _ in note("step post", weight.value) }
        weight.constraints = [Noting(note: note)]

        try conv(.full([1, 1, 1, 2], 4)).sum().backward()
        note("after backward", weight.grad)
        try optimizer.step()
        // By the mask the kernel has made the gradient; by the callback hooks see the raw one.
        let raw = route == .mask ? "[0, 4]" : "[4, 4]"
        #expect(
            trace == [
                "tensor \(raw)", "post-accumulate \(raw)", "full backward \(raw)", "after backward [0, 4]",
                "step pre [1, 3]", "update [0, -2]", "constraint [0, -2]", "step post [1, -4]",
            ])
    }
}
