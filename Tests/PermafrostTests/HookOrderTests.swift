import Testing

@testable import Permafrost

/// left(x) + right(x), with a tensor hook on the left branch's result.
private final class TwoBranches: Module {
    let left = Linear(1, 1, bias: false)
    let right = Linear(1, 1, bias: false)
    var note: (String) -> Void = { _ in }

    override func forward(_ x: Tensor) throws -> Tensor {
        let l = try left(x)
        if l.requiresGrad {
            l.registerHook { [note] _ in
                note("tensor left.output")
                return nil
            }
        }
        return try l + right(x)
    }
}

/// One training step with every kind of hook on every module, parameter and the optimizer.
@Suite struct HookOrderTests {
    private static let forward = [
        "global forward pre net", "forward pre net",
        "global forward pre left", "forward pre left", "global forward left", "forward left",
        "global forward pre right", "forward pre right", "global forward right", "forward right",
        "global forward net", "forward net",
    ]
    private static let backward = [
        "global full backward pre net", "full backward pre net",
        "global full backward pre right", "full backward pre right",
        "tensor right.weight", "post-accumulate right.weight",
        "global full backward right", "full backward right",
        "tensor left.output",
        "global full backward pre left", "full backward pre left",
        "tensor left.weight", "post-accumulate left.weight",
        "global full backward left", "full backward left",
        "global full backward net", "full backward net",
    ]

    /// With an input gradient PyTorch 2.13 prints the same order. Without one, PyTorch runs each full backward hook
    /// before the gradients that it is about; here the order doesn't depend on it.
    @Test(arguments: [true, false]) func everythingThatFiresInAStep(inputRequiresGrad: Bool) throws {
        let net = TwoBranches()
        let names = Dictionary(
            uniqueKeysWithValues: net.namedModules().map { name, module in
                (ObjectIdentifier(module), name.isEmpty ? "net" : name)
            })
        nonisolated(unsafe) var trace: [String] = []
        // Global hooks also see the modules of tests that run beside this one.
        @Sendable func note(_ event: String, _ module: Module) {
            if let name = names[ObjectIdentifier(module)] { trace.append("\(event) \(name)") }
        }
        net.note = { trace.append($0) }

        let handles = [
            registerModuleForwardPreHook { module, _ in note("global forward pre", module); return nil },
            registerModuleForwardHook { module, _, _ in note("global forward", module); return nil },
            registerModuleFullBackwardPreHook { module, _ in note("global full backward pre", module); return nil },
            registerModuleFullBackwardHook { module, _, _ in note("global full backward", module); return nil },
        ]
        defer { for handle in handles { handle.remove() } }
        for module in net.modules() {
            module.registerForwardPreHook { module, _ in note("forward pre", module); return nil }
            module.registerForwardHook { module, _, _ in note("forward", module); return nil }
            module.registerFullBackwardPreHook { module, _ in note("full backward pre", module); return nil }
            module.registerFullBackwardHook { module, _, _ in note("full backward", module); return nil }
        }
        for (name, parameter) in net.namedParameters() {
            parameter.registerHook { _ in trace.append("tensor \(name)"); return nil }
            parameter.registerPostAccumulateGradHook { _ in trace.append("post-accumulate \(name)") }
        }
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.1)
        optimizer.registerStepPreHook { _ in trace.append("step pre") }
        optimizer.registerStepPostHook { _ in trace.append("step post") }

        // Frozen elements are cleared after all of these: the last hook of all can't move one.
        try net.right.weight.freeze(at: [0, 0], to: 1)
        net.registerFullBackwardHook { net, _, _ in
            net.right.weight.grad?[0, 0] = 5
            return nil
        }

        let x = Tensor.ones([1, 1], requiresGrad: inputRequiresGrad)
        if inputRequiresGrad {
            x.registerHook { _ in trace.append("tensor x"); return nil }
        }
        try net(x).sum().backward()
        #expect(net.right.weight.grad?.scalars == [0])
        try optimizer.step()
        #expect(net.right.weight.value.scalars == [1])
        #expect(
            trace == Self.forward + Self.backward + (inputRequiresGrad ? ["tensor x"] : []) + ["step pre", "step post"])
    }
}
