import Testing

@testable import Permafrost

/// A scalar weight: y = weight * x.
final class Scale: Module {
    let weight: Parameter

    init(_ factor: Float) {
        weight = Parameter(Tensor([factor]))
        super.init()
    }

    override func forward(_ x: Tensor) throws -> Tensor { x * weight.tensor }
}

/// (a, b, c) -> (a * weight, b + weight, c without a gradient).
private final class ThreeWay: Module {
    let weight = Parameter(Tensor([2]))

    override func forward(_ inputs: [Tensor]) throws -> [Tensor] {
        [inputs[0] * weight.tensor, inputs[1] + weight.tensor, inputs[2].detached()]
    }
}

struct Stop: Error {}

/// What hooks noted, in order.
final class Trace {
    var events: [String] = []
    func note(_ event: String) { events.append(event) }
}

func vector(_ values: Float..., requiresGrad: Bool = false) -> Tensor {
    var tensor = Tensor(values)
    tensor.requiresGrad = requiresGrad
    return tensor
}

@Suite struct ForwardHookTests {
    @Test func whatHooksReturnTakesThePlaceOfWhatTheyGotInOrder() throws {
        let scale = Scale(2)
        var seen: [[Float]] = []
        scale.registerForwardPreHook { _, inputs in
            seen.append(inputs[0].scalars)
            return [inputs[0] + 1]
        }
        scale.registerForwardPreHook { _, inputs in
            seen.append(inputs[0].scalars)
            return nil
        }
        scale.registerForwardPreHook(prepend: true) { _, inputs in [inputs[0] * 10] }
        scale.registerForwardHook { _, inputs, outputs in
            seen.append(inputs[0].scalars + outputs[0].scalars)
            return [outputs[0] - 1]
        }
        scale.registerForwardHook { _, _, outputs in
            seen.append(outputs[0].scalars)
            return nil
        }
        scale.registerForwardHook(prepend: true) { _, _, outputs in [outputs[0] * 3] }
        // 1 -> 10 (prepended) -> 11 -> forward: 22 -> 66 (prepended) -> 65
        #expect(try scale(vector(1)).scalars == [65])
        #expect(seen == [[10], [11], [11, 66], [65]])
    }

    @Test func hooksGetTheConcreteModule() throws {
        let scale = Scale(2)
        var factor: Float = 0
        scale.registerForwardPreHook { scale, _ in
            factor = scale.weight[element: 0]
            return nil
        }
        _ = try scale(vector(1))
        #expect(factor == 2)
    }

    @Test func aReplacedNumberOfInputsOrOutputsIsAnError() throws {
        let scale = Scale(2)
        let pre = scale.registerForwardPreHook { _, inputs in inputs + inputs }
        let error = #expect(throws: ModuleError.self) { try scale(vector(1)) }
        #expect("\(try #require(error))" == "Scale: expected 1 input, got 2")
        pre.remove()
        scale.registerForwardHook { _, _, outputs in [] }
        #expect(throws: ModuleError.self) { try scale(vector(1)) }
        let loss = CrossEntropyLoss()
        loss.registerForwardHook { _, _, outputs in outputs + outputs }
        #expect(throws: ModuleError.self) { try loss(.zeros([1, 2]), [0]) }
    }

    @Test func lossesCalledWithLabelsHaveHooksToo() throws {
        let loss = CrossEntropyLoss()
        var shapes: [Shape] = []
        loss.registerForwardHook { _, inputs, outputs in
            shapes = inputs.map(\.shape) + outputs.map(\.shape)
            return nil
        }
        _ = try loss(.zeros([3, 2]), [0, 1, 0])
        #expect(shapes == [[3, 2], []])
    }

    @Test func forwardHooksFireInsideNoGradAndBackwardHooksDoNot() throws {
        let scale = Scale(2)
        let trace = Trace()
        scale.registerForwardPreHook { _, _ in trace.note("pre"); return nil }
        scale.registerForwardHook { _, _, _ in trace.note("forward"); return nil }
        scale.registerFullBackwardHook { _, _, _ in trace.note("backward"); return nil }
        let x = vector(1, requiresGrad: true)
        let y = try noGrad { try scale(x) }
        #expect(!y.requiresGrad)
        // What is recorded after the call goes through unhooked.
        try (y * x).sum().backward()
        #expect(trace.events == ["pre", "forward"])
    }

    @Test func alwaysCallHooksFireWhenForwardThrows() throws {
        final class Failing: Module {
            override func forward(_ x: Tensor) throws -> Tensor { throw Stop() }
        }
        let failing = Failing()
        let trace = Trace()
        failing.registerForwardHook { _, _, _ in trace.note("usual"); return nil }
        failing.registerForwardHook(alwaysCall: true) { _, inputs, outputs in
            trace.note("always \(inputs.count) \(outputs.count)")
            throw ModuleError(failing, "dropped in favour of the first")
        }
        failing.registerForwardHook(alwaysCall: true) { _, _, _ in trace.note("second"); return nil }
        #expect(throws: Stop.self) { try failing(vector(1)) }
        #expect(trace.events == ["always 1 0", "second"])
    }

    @Test func alwaysCallHooksFireOnceWhenAnotherHookThrows() throws {
        let scale = Scale(2)
        let trace = Trace()
        scale.registerForwardHook(alwaysCall: true) { _, _, outputs in
            trace.note("first \(outputs.count)")
            return nil
        }
        scale.registerForwardHook { _, _, _ in throw Stop() }
        scale.registerForwardHook { _, _, _ in trace.note("usual"); return nil }
        scale.registerForwardHook(alwaysCall: true) { _, _, outputs in
            trace.note("last \(outputs.count)")
            return nil
        }
        #expect(throws: Stop.self) { try scale(vector(1)) }
        #expect(trace.events == ["first 1", "last 1"])

        let early = Scale(2)
        early.registerForwardPreHook { _, _ in throw Stop() }
        early.registerForwardHook(alwaysCall: true) { _, _, outputs in
            trace.note("early \(outputs.count)")
            return nil
        }
        #expect(throws: Stop.self) { try early(vector(1)) }
        #expect(trace.events.last == "early 0")
    }
}

@Suite struct BackwardHookTests {
    @Test(arguments: [false, true]) func theWellKnownRecipeWorksAsTyped(inputRequiresGrad: Bool) throws {
        let conv = Conv2d(3, 1, 3)
        conv.weight[0, 1, 2, 1] = 1
        let input = Tensor.randn([1, 3, 10, 10], requiresGrad: inputRequiresGrad)
        try conv(input).mean().backward()
        let whole = try #require(conv.weight.grad)
        conv.zeroGrad()

        conv.registerFullBackwardHook { conv, _, _ in
            conv.weight.grad?[0, 1, 2, 1] = 0
            return nil
        }
        try conv(input).mean().backward()
        let masked = try #require(conv.weight.grad)
        for (index, (before, after)) in zip(whole.scalars, masked.scalars).enumerated() {
            #expect(after.bitPattern == (index == 16 ? 0 : before.bitPattern))
        }
        #expect(whole.scalars[16] != 0)
    }

    @Test func gradientsOfInputsAndOutputsArrive() throws {
        let scale = Scale(3)
        var gradients: [[Tensor?]] = []
        scale.registerFullBackwardPreHook { _, gradOutput in
            gradients.append(gradOutput)
            return nil
        }
        scale.registerFullBackwardHook { scale, gradInput, gradOutput in
            gradients += [gradInput, gradOutput, [scale.weight.grad]]
            return nil
        }
        let x = vector(1, 2, requiresGrad: true)
        try (scale(x) * vector(5, 7)).sum().backward()
        #expect(gradients.map { $0.map { $0?.scalars } } == [[[5, 7]], [[15, 21]], [[5, 7]], [[19]]])
        #expect(x.grad?.scalars == [15, 21])
    }

    @Test func withoutAnInputGradientTheHookStillFindsTheFinishedSum() throws {
        let scale = Scale(3)
        var count = 0
        scale.registerFullBackwardHook { scale, gradInput, gradOutput in
            count += 1
            #expect(gradInput.count == 1 && gradInput[0] == nil)
            #expect(gradOutput[0]?.scalars == [1, 1])
            #expect(scale.weight.grad?.scalars == [3])
            return [nil]
        }
        try scale(vector(1, 2)).sum().backward()
        #expect(count == 1)
    }

    @Test func replacedGradientsFlowOnThroughLaterHooks() throws {
        let scale = Scale(3)
        scale.registerFullBackwardPreHook { _, gradOutput in [gradOutput[0]! * 2] }
        scale.registerFullBackwardPreHook { _, gradOutput in [gradOutput[0]! + 1] }
        scale.registerFullBackwardHook { _, gradInput, gradOutput in
            #expect(gradOutput[0]?.scalars == [3])
            return [gradInput[0]! * 10]
        }
        scale.registerFullBackwardHook { _, gradInput, _ in [gradInput[0]! + 0.5] }
        let x = vector(4, requiresGrad: true)
        try scale(x).sum().backward()
        // Output: 1 * 2 + 1 = 3; weight: 3 * 4; input: 3 * 3 = 9, then 90.5.
        #expect(scale.weight.grad?.scalars == [12])
        #expect(x.grad?.scalars == [90.5])
    }

    @Test func backwardHooksSeeTheOutputsThatForwardHooksReturned() throws {
        let scale = Scale(3)
        scale.registerForwardPreHook { _, inputs in [inputs[0] * 10] }
        scale.registerForwardHook { _, _, outputs in [outputs[0] * 2] }
        var seen: [Float] = []
        scale.registerFullBackwardHook { _, gradInput, gradOutput in
            seen = [gradInput[0]!.item(), gradOutput[0]!.item()]
            return nil
        }
        let x = vector(1, requiresGrad: true)
        try scale(x).sum().backward()
        // The output is 2 * 3 * (10 x): the hook sees it whole, and the input as the pre-hook left it.
        #expect(seen == [6, 1])
        #expect(x.grad?.scalars == [60])
        #expect(scale.weight.grad?.scalars == [20])
    }

    @Test func whatDoesNotFitIsRefusedAndLeavesGradientsAlone() throws {
        let x = vector(1, 2, requiresGrad: true)
        func message(
            _ input: Tensor, pre: [Tensor?]? = nil, full: [Tensor?]? = nil
        ) throws -> String {
            let net = Sequential(Scale(3))
            let scale = net[0] as! Scale
            try net(x).sum().backward()
            let before = (scale.weight.grad, x.grad)
            scale.registerFullBackwardPreHook { _, _ in pre }
            scale.registerFullBackwardHook { _, _, _ in full }
            _ = net.namedModules()
            let output = try net(input)
            let error = #expect(throws: ModuleError.self) { try output.sum().backward() }
            #expect(scale.weight.grad!.bitEquals(before.0!))
            #expect(x.grad!.bitEquals(before.1!))
            return "\(try #require(error))"
        }
        #expect(
            try message(x, pre: [nil, nil])
                == "Scale 0: a full backward pre-hook returned 2 gradients, but the call has 1 outputs")
        #expect(
            try message(x, pre: [vector(1)])
                == "Scale 0: a full backward pre-hook returned a gradient of shape [1] for output 0 of shape [2]")
        #expect(
            try message(x, full: []) == "Scale 0: a full backward hook returned 0 gradients, but the call has 1 inputs")
        #expect(
            try message(x, full: [vector(1, 2, 3)])
                == "Scale 0: a full backward hook returned a gradient of shape [3] for input 0 of shape [2]")
        #expect(
            try message(vector(1, 2), full: [vector(1, 2)])
                == "Scale 0: a full backward hook returned a gradient for input 0, which needs none: return nil there")
    }

    @Test func aHookThatThrowsLeavesEveryGradientAsItWas() throws {
        let first = Scale(2), second = Scale(3)
        let x = vector(1, requiresGrad: true)
        try second(first(x)).sum().backward()
        let before = [first.weight.grad!, second.weight.grad!, x.grad!]
        let hook = first.registerFullBackwardHook { first, _, _ in
            first.weight.grad?[0] = 99
            throw Stop()
        }
        #expect(throws: Stop.self) { try second(first(x)).sum().backward() }
        #expect(zip(before, [first.weight.grad!, second.weight.grad!, x.grad!]).allSatisfy { $0.bitEquals($1) })
        hook.remove()
        try second(first(x)).sum().backward()
        #expect(second.weight.grad?.scalars == [4] && first.weight.grad?.scalars == [6])
    }

    @Test func aModuleCalledSeveralTimesFiresInReverseOrderAndTheFirstCallFindsTheSum() throws {
        let scale = Scale(3)
        var seen: [(output: Float, weight: Float?)] = []
        scale.registerFullBackwardHook { scale, _, gradOutput in
            seen.append((gradOutput[0]!.item(), scale.weight.grad?.item()))
            return nil
        }
        let a = try scale(vector(1)), b = try scale(vector(10)), c = try scale(vector(100))
        try (a * 2 + b * 3 + c * 4).sum().backward()
        #expect(seen.map(\.output) == [4, 3, 2])
        #expect(seen.map(\.weight) == [nil, nil, 432])
    }

    @Test func recurrentUseFiresOnceAStepWithTheStepsGradients() throws {
        let scale = Scale(2)
        var outputs: [Float] = []
        scale.registerFullBackwardPreHook { _, gradOutput in
            outputs.append(gradOutput[0]!.item())
            return nil
        }
        scale.registerFullBackwardHook { _, gradInput, _ in [gradInput[0]! + 1] }
        let x = vector(1, requiresGrad: true)
        var state = x
        for _ in 0..<3 { state = try scale(state) }
        try state.sum().backward()
        // Each step: gradient * 2 + 1.
        #expect(outputs == [1, 3, 7])
        #expect(x.grad?.scalars == [15])
    }

    @Test func severalInputsAndOutputsSomeWithoutGradients() throws {
        let module = ThreeWay()
        let trace = Trace()
        func show(_ gradients: [Tensor?]) -> String {
            gradients.map { $0.map { "\($0.scalars)" } ?? "nil" }.joined(separator: " ")
        }
        module.registerFullBackwardPreHook { _, gradOutput in trace.note("pre \(show(gradOutput))"); return nil }
        module.registerFullBackwardHook { module, gradInput, gradOutput in
            trace.note("full \(show(gradInput)) | \(show(gradOutput)) | \(module.weight.grad!.scalars)")
            return nil
        }
        let a = vector(3, requiresGrad: true), b = vector(5), c = vector(7, requiresGrad: true)
        let both = try module([a, b, c])
        try (both[0] * 10 + both[1] * 100 + both[2]).sum().backward()
        #expect(trace.events == ["pre [10.0] [100.0] nil", "full [20.0] nil nil | [10.0] [100.0] nil | [130.0]"])
        #expect(a.grad?.scalars == [20] && c.grad == nil)

        // An output that the loss doesn't use has no gradient.
        trace.events = []
        module.zeroGrad()
        let one = try module([a, b, c])
        try one[1].sum().backward()
        #expect(trace.events == ["pre nil [1.0] nil", "full nil nil nil | nil [1.0] nil | [1.0]"])
    }

    @Test func oneTensorAsTwoInputsHasTwoGradients() throws {
        final class Product: Module {
            override func forward(_ inputs: [Tensor]) throws -> [Tensor] { [inputs[0] * inputs[1] * inputs[1]] }
        }
        let product = Product()
        var parts: [Float?] = []
        product.registerFullBackwardHook { _, gradInput, _ in
            parts = gradInput.map { $0?.item() }
            return nil
        }
        let x = vector(3, requiresGrad: true)
        try product([x, x])[0].sum().backward()
        #expect(parts == [9, 18])
        #expect(x.grad?.scalars == [27])
    }

    @Test func gradientsThatComeAroundTheOutputsPassUnhooked() throws {
        final class Leaky: Module {
            var inner: Tensor?
            override func forward(_ x: Tensor) throws -> Tensor {
                inner = x * 2
                return inner! * 3
            }
        }
        let leaky = Leaky()
        var fired = 0
        leaky.registerFullBackwardHook { _, gradInput, _ in
            fired += 1
            return nil
        }
        let x = vector(1, requiresGrad: true)
        _ = try leaky(x)
        try leaky.inner!.sum().backward()
        #expect(fired == 0)
        #expect(x.grad?.scalars == [2])
    }

    @Test func retainedGraphsFireAgainWithFreshGradients() throws {
        let scale = Scale(3)
        var seen: [[Float]] = []
        var fails = true
        scale.registerFullBackwardHook { _, gradInput, gradOutput in
            seen.append([gradInput[0]!.item(), gradOutput[0]!.item()])
            if fails { throw Stop() }
            return nil
        }
        let x = vector(1, requiresGrad: true)
        let y = try scale(x).sum()
        #expect(throws: Stop.self) { try y.backward(retainGraph: true) }
        fails = false
        try y.backward(gradient: 2, retainGraph: true)
        try y.backward(gradient: 5)
        #expect(seen == [[3, 1], [6, 2], [15, 5]])
        #expect(x.grad?.scalars == [21])
    }

    @Test func anIdentityModuleIsHookedToo() throws {
        let identity = Sequential()
        var fired = 0
        identity.registerFullBackwardHook { _, gradInput, _ in
            fired += 1
            return [gradInput[0]! * 2]
        }
        let x = vector(1, requiresGrad: true)
        try identity(x).sum().backward()
        #expect(fired == 1 && x.grad?.scalars == [2])
    }

    @Test func nothingThatNeedsAGradientMeansNoBackwardHook() throws {
        let pool = AvgPool2d(2)
        pool.registerFullBackwardHook { _, _, _ in throw Stop() }
        let y = try pool(.ones([1, 1, 2, 2]))
        #expect(!y.requiresGrad)
    }

    @Test func tensorHooksOnACallsResultFireBeforeItsPreHooks() throws {
        let scale = Scale(3)
        let trace = Trace()
        scale.registerFullBackwardPreHook { _, gradOutput in trace.note("pre \(gradOutput[0]!.item())"); return nil }
        let y = try scale(vector(1))
        y.registerHook { gradient in
            trace.note("tensor \(gradient.item())")
            return gradient * 7
        }
        try y.sum().backward()
        #expect(trace.events == ["tensor 1.0", "pre 7.0"])
        #expect(scale.weight.grad?.scalars == [7])
    }

    @Test func aLongChainOfHookedCallsIsReleasedWithoutRecursion() throws {
        let scale = Scale(1)
        var fired = 0
        scale.registerFullBackwardHook { _, _, _ in
            fired += 1
            return nil
        }
        var y = vector(1, requiresGrad: true)
        for _ in 0..<20_000 { y = try scale(y) }
        try y.sum().backward()
        #expect(fired == 20_000)
        #expect(scale.weight.grad?.item() == 20_000)
    }
}
