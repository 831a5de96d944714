import Foundation
import Permafrost
import Testing

/// The two inputs' sum: a module with several inputs.
private final class Join: Module {
    override func forward(_ inputs: [Tensor]) throws -> [Tensor] { [inputs[0] + inputs[1]] }
}

/// left(stem(x)) + right(stem(x)), with a tensor hook on the left branch's output.
private final class TwoBranches: Module {
    let stem = Linear(1, 1, bias: false)
    let left = Linear(1, 1, bias: false)
    let right = Linear(1, 1, bias: false)
    let join = Join()
    var note: (String, String) -> Void = { _, _ in }

    override func forward(_ x: Tensor) throws -> Tensor {
        let x = try stem(x), left = try left(x)
        left.registerHook { [note] _ in
            note("tensor", "left's output")
            return nil
        }
        return try join([left, right(x)])[0]
    }
}

/// One training step of a network with two branches, every kind of hook registered, here and in PyTorch.
@Suite struct HookTraceTests {
    /// What fires, as "WHAT: WHOM". `peers/hook_trace.py` registers the same in the same order.
    private func trace(inputRequiresGrad: Bool) throws -> [String] {
        let net = TwoBranches()
        let names = Dictionary(
            uniqueKeysWithValues: net.namedModules().map { name, module in
                (ObjectIdentifier(module), name.isEmpty ? "net" : name)
            })
        nonisolated(unsafe) var events: [String] = []
        func note(_ what: String, _ whom: String) { events.append("\(what): \(whom)") }
        // Global hooks also see the modules of tests that run beside this one.
        @Sendable func note(_ what: String, _ module: Module) {
            if let name = names[ObjectIdentifier(module)] { events.append("\(what): \(name)") }
        }
        net.note = note

        let handles = [
            registerModuleForwardPreHook { module, _ in note("global forward pre", module); return nil },
            registerModuleForwardHook { module, _, _ in note("global forward", module); return nil },
            registerModuleFullBackwardPreHook { module, _ in note("global full backward pre", module); return nil },
            registerModuleFullBackwardHook { module, _, _ in note("global full backward", module); return nil },
        ]
        defer { for handle in handles { handle.remove() } }
        for module in net.modules() {
            for prepend in [false, true] {
                let place = prepend ? ", prepended" : ""
                module.registerForwardPreHook(prepend: prepend) { module, _ in
                    note("forward pre\(place)", module)
                    return nil
                }
            }
            module.registerForwardHook { module, _, _ in note("forward", module); return nil }
            module.registerForwardHook(alwaysCall: true) { module, _, _ in note("forward, always", module); return nil }
            module.registerForwardHook(prepend: true) { module, _, _ in
                note("forward, prepended", module)
                return nil
            }
            for prepend in [false, true] {
                let place = prepend ? ", prepended" : ""
                module.registerFullBackwardPreHook(prepend: prepend) { module, _ in
                    note("full backward pre\(place)", module)
                    return nil
                }
                module.registerFullBackwardHook(prepend: prepend) { module, _, _ in
                    note("full backward\(place)", module)
                    return nil
                }
            }
        }
        for (name, parameter) in net.namedParameters() {
            parameter.registerHook { _ in note("tensor", name); return nil }
            parameter.registerPostAccumulateGradHook { _ in note("post-accumulate", name) }
        }
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.1)
        optimizer.registerStepPreHook { _ in note("step pre", "optimizer") }
        optimizer.registerStepPostHook { _ in note("step post", "optimizer") }
        let x = Tensor.ones([1, 1], requiresGrad: inputRequiresGrad)
        if inputRequiresGrad {
            x.registerHook { _ in note("tensor", "input"); return nil }
        }
        try net(x).sum().backward()
        try optimizer.step()
        return events
    }

    /// The order that the documentation gives: it is the same whether or not the input needs a gradient.
    private func documented(inputRequiresGrad: Bool) -> [String] {
        func before(_ module: String) -> [String] {
            ["global forward pre", "forward pre, prepended", "forward pre"].map { "\($0): \(module)" }
        }
        func after(_ module: String) -> [String] {
            ["global forward", "forward, prepended", "forward", "forward, always"].map { "\($0): \(module)" }
        }
        func beforeGradients(_ module: String) -> [String] {
            ["global full backward pre", "full backward pre, prepended", "full backward pre"].map { "\($0): \(module)" }
        }
        func afterGradients(_ module: String) -> [String] {
            ["global full backward", "full backward, prepended", "full backward"].map { "\($0): \(module)" }
        }
        func forward(_ module: String) -> [String] { before(module) + after(module) }
        func backward(_ module: String) -> [String] {
            beforeGradients(module) + ["tensor: \(module).weight", "post-accumulate: \(module).weight"]
                + afterGradients(module)
        }
        let pass = before("net") + ["stem", "left", "right", "join"].flatMap(forward) + after("net")
        let gradients =
            beforeGradients("net") + beforeGradients("join") + afterGradients("join") + backward("right")
            + ["tensor: left's output"] + backward("left") + backward("stem") + afterGradients("net")
        return pass + gradients + (inputRequiresGrad ? ["tensor: input"] : [])
            + ["step pre: optimizer", "step post: optimizer"]
    }

    @Test(arguments: [true, false]) func firesInTheDocumentedOrder(inputRequiresGrad: Bool) throws {
        #expect(try trace(inputRequiresGrad: inputRequiresGrad) == documented(inputRequiresGrad: inputRequiresGrad))
    }

    /// With an input gradient, PyTorch's order is ours, event by event. Without one its documentation lets the full
    /// backward hook of a module fire as soon as the gradients of its outputs are there; the order among the events of
    /// each module, parameter and tensor is ours still.
    @Test(.enabled(if: PyTorch.isAvailable, PyTorch.reason)) func firesInPyTorchsOrder() throws {
        struct Answer: Decodable {
            let input_gradient, no_input_gradient: [String]
        }
        let torch = try JSONDecoder().decode(Answer.self, from: PeerFolder().run("hook_trace.py"))
        #expect(try trace(inputRequiresGrad: true) == torch.input_gradient)

        let ours = try trace(inputRequiresGrad: false), theirs = torch.no_input_gradient
        #expect(byWhom(ours) == byWhom(theirs))
        #expect(ours.filter(isForward) == theirs.filter(isForward))
        // The trap that ours removes: the first layer's hook comes before the gradient that it is about.
        let hook = "full backward: stem", gradient = "post-accumulate: stem.weight"
        #expect(try #require(theirs.firstIndex(of: hook)) < #require(theirs.firstIndex(of: gradient)))
        #expect(try #require(ours.firstIndex(of: hook)) > #require(ours.firstIndex(of: gradient)))
        // Where a module's input has a gradient the two agree without one for the network's input, too.
        #expect(fromJoinToLeft(ours) == fromJoinToLeft(theirs))
    }

    private func byWhom(_ trace: [String]) -> [String: [String]] {
        Dictionary(grouping: trace) { $0.components(separatedBy: ": ")[1] }
    }

    private func isForward(_ event: String) -> Bool { event.hasPrefix("forward") || event.hasPrefix("global forward") }

    private func fromJoinToLeft(_ trace: [String]) -> [String] {
        trace.filter { event in
            !isForward(event) && ["join", "right", "left"].contains { event.contains(": \($0)") }
        }
    }
}
