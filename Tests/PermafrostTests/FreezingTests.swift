import Testing

@testable import Permafrost

/// A small network on integer-valued images, and what the tests freeze of it.
final class FreezingNet: Module {
    let conv = Conv2d(3, 4, 3, padding: 1)
    let fc = Linear(4 * 6 * 6, 5)

    override func forward(_ input: Tensor) throws -> Tensor {
        try fc(conv(input).relu().flattened(startAxis: 1))
    }

    /// The same weights each time.
    static func seeded(_ seed: UInt64 = 3) -> FreezingNet {
        let net = FreezingNet(), generator = Generator(seed: seed)
        for parameter in net.parameters() {
            parameter.value = .uniform(parameter.shape, in: -0.3..<0.3, generator: generator)
        }
        return net
    }

    /// One forward and backward on the batch of a number.
    func accumulate(batch number: Int, inputRequiresGrad: Bool = false) throws {
        let generator = Generator(seed: 1000 + UInt64(number))
        var images = Tensor.randn([4, 3, 6, 6], generator: generator)
        images.requiresGrad = inputRequiresGrad
        try crossEntropy(self(images), (0..<4).map { Int32(($0 + number) % 5) }).backward()
    }

    func train(_ optimizer: Optimizer, steps: Range<Int>, inputRequiresGrad: Bool = false) throws {
        for step in steps {
            optimizer.zeroGrad()
            try accumulate(batch: step, inputRequiresGrad: inputRequiresGrad)
            try optimizer.step()
        }
    }

    var values: [Tensor] { parameters().map(\.value) }
}

extension Parameter {
    func bits(_ indices: Int...) -> UInt32 {
        value.withUnsafeBufferPointer { $0[value.offset(of: indices)].bitPattern }
    }
}

func bitEqual(_ a: [Tensor], _ b: [Tensor]) -> Bool {
    a.count == b.count && zip(a, b).allSatisfy { $0.bitEquals($1) }
}

@Suite struct FreezingTests {
    private static let one = Float(1).bitPattern

    @Test(arguments: OptimizerKind.allCases, FreezeRoute.allCases)
    func frozenElementsKeepTheirBitsFor120Steps(kind: OptimizerKind, route: FreezeRoute) throws {
        // 0: frozen from the start; 20: half-way, with state in the optimizer.
        for start in [0, 20] {
            let net = FreezingNet.seeded()
            let optimizer = try kind.make(net.parameters(), learningRate: 0.05)
            try net.train(optimizer, steps: 0..<start)
            try net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
            try net.conv.bias!.freeze(at: [2], to: -0.5, route: route)
            try net.fc.weight.freeze(at: [1, .every(2)], route: route)
            let rows = net.fc.weight.value[1, .every(2)]
            let before = net.values
            for step in start..<start + 120 {
                try net.train(optimizer, steps: step..<step + 1)
                #expect(net.conv.weight.bits(0, 1, 2, 1) == Self.one, "step \(step)")
                #expect(net.conv.bias!.bits(2) == Float(-0.5).bitPattern, "step \(step)")
                #expect(net.fc.weight.value[1, .every(2)].bitEquals(rows), "step \(step)")
                #expect(net.conv.weight.grad![element: 0, 1, 2, 1].bitPattern == 0, "step \(step)")
            }
            // Everything else has moved: 108 - 1, 4 - 1, 720 - 72 and 5 elements.
            let moved = zip(before, net.values).map { zip($0.scalars, $1.scalars).count { $0 != $1 } }
            #expect(moved == [107, 3, 648, 5], "frozen at \(start)")
        }
    }

    @Test(arguments: OptimizerKind.allCases)
    func bothRoutesTrainToTheSameBits(kind: OptimizerKind) throws {
        let ends = try withExecution(numerics: .exact) {
            try FreezeRoute.allCases.map { route in
                let net = FreezingNet.seeded()
                let optimizer = try kind.make(net.parameters())
                try net.train(optimizer, steps: 0..<20)
                try net.conv.weight.freeze(at: [.all, .all, 1, 1], to: -1, route: route)
                try net.conv.bias!.freeze(at: [0], route: route)
                try net.fc.weight.freeze(where: { ($0[0] + $0[1]) % 3 == 0 }, route: route)
                try net.train(optimizer, steps: 20..<120)
                return net.values
            }
        }
        #expect(bitEqual(ends[0], ends[1]))
    }

    @Test(arguments: FreezeRoute.allCases)
    func removingTheHandleLetsTheElementMoveAndFreezingAgainHoldsIt(route: FreezeRoute) throws {
        let net = FreezingNet.seeded()
        let weight = net.conv.weight
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05, momentum: 0.9)
        let handle = try weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
        try net.train(optimizer, steps: 0..<100)
        #expect(weight.bits(0, 1, 2, 1) == Self.one)
        #expect(handle.isActive && handle.elementCount == 1)
        handle.remove()
        handle.remove()
        #expect(!handle.isActive && weight.gradientMask == nil)
        try net.train(optimizer, steps: 100..<101)
        let moved = weight.bits(0, 1, 2, 1)
        #expect(moved != Self.one)
        try weight.freeze(at: [0, 1, 2, 1], route: route)
        try net.train(optimizer, steps: 101..<201)
        #expect(weight.bits(0, 1, 2, 1) == moved)
    }

    @Test(arguments: [false, true])
    func theWellKnownRecipeHoldsUnderPlainSGD(inputRequiresGrad: Bool) throws {
        let net = FreezingNet.seeded()
        net.conv.weight[0, 1, 2, 1] = 1
        net.conv.registerFullBackwardHook { conv, _, _ in
            conv.weight.grad?[0, 1, 2, 1] = 0
            return nil
        }
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05)
        try net.train(optimizer, steps: 0..<100, inputRequiresGrad: inputRequiresGrad)
        #expect(net.conv.weight.bits(0, 1, 2, 1) == Self.one)
    }

    /// With a gradient of zero, decay multiplies the value by 1 - 0.05 * 0.1 each step; the float product rounds by a
    /// relative 2^-24 or so in each of its operations, 100 steps * 3 * 2^-24 < 2e-5.
    @Test func theWellKnownRecipeDriftsWithDecay() throws {
        let net = FreezingNet.seeded()
        net.conv.weight[0, 1, 2, 1] = 1
        net.conv.registerFullBackwardHook { conv, _, _ in
            conv.weight.grad?[0, 1, 2, 1] = 0
            return nil
        }
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05, weightDecay: 0.1)
        try net.train(optimizer, steps: 0..<100)
        var expected = 1.0
        for _ in 0..<100 { expected *= 1 - 0.05 * 0.1 }
        #expect(abs(Double(net.conv.weight[element: 0, 1, 2, 1]) - expected) < 2e-5)
    }

    @Test func pinHoldsInEachForwardPassAndNotAfterTheStep() throws {
        let net = FreezingNet.seeded()
        let handle = net.conv.pin(\.weight, at: [0, 1, 2, 1], to: 1)
        var seen: [UInt32] = []
        net.conv.registerForwardHook { conv, _, _ in
            seen.append(conv.weight.bits(0, 1, 2, 1))
            return nil
        }
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05)
        try net.train(optimizer, steps: 0..<100)
        #expect(seen == Array(repeating: Self.one, count: 100))
        #expect(net.conv.weight.bits(0, 1, 2, 1) != Self.one)
        handle.remove()
        try net.train(optimizer, steps: 100..<102)
        #expect(seen[101] != Self.one)
    }

    @Test func pinThatDoesNotFitThrowsInTheForwardPass() throws {
        let net = FreezingNet.seeded()
        net.conv.pin(\.weight, at: [0, 3, 0, 0], to: 1)
        let error = #expect(throws: FreezeError.self) { try net.accumulate(batch: 0) }
        #expect(error?.message.contains("axis 1 of size 3") == true)
        let plain = Conv2d(1, 1, 1, bias: false)
        plain.pin(\.bias, at: [0], to: 1)
        #expect(throws: FreezeError.self) { try plain(.ones([1, 1, 2, 2])) }
    }

    @Test func aForwardThatWritesTheWeightUsesWhatItWrote() throws {
        final class Written: Module {
            let linear = Linear(2, 2)
            override func forward(_ input: Tensor) throws -> Tensor {
                linear.weight[0, 0] = 1
                return try linear(input)
            }
        }
        let net = Written()
        net.linear.weight.value = .zeros([2, 2])
        net.linear.bias!.value = .zeros([2])
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.5)
        for _ in 0..<100 {
            optimizer.zeroGrad()
            let output = try net(Tensor([[1, 0]]))
            #expect(output[element: 0, 0] == 1 + net.linear.bias![element: 0])
            try output.sum().backward()
            try optimizer.step()
        }
        #expect(net.linear.weight[element: 0, 0] == 0.5)
    }

    @Test func stepsHooksAndPinsWriteInPlace() throws {
        func address(_ tensor: Tensor) -> UnsafePointer<Float>? { tensor.withUnsafeBufferPointer(\.baseAddress) }
        let net = FreezingNet.seeded()
        let weight = net.conv.weight
        try weight.freeze(at: [0, 1, 2, 1], to: 1)
        try weight.freeze(at: [1], route: .callback)
        net.conv.pin(\.weight, at: [2, 0, 0, 0], to: 0.5)
        var gradients: [(before: UnsafePointer<Float>?, after: UnsafePointer<Float>?)] = []
        net.conv.registerFullBackwardHook { conv, _, _ in
            let before = conv.weight.grad.map(address)!
            conv.weight.grad?[3, 1, 2, 1] = 0
            gradients.append((before, conv.weight.grad.map(address)!))
            return nil
        }
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05, momentum: 0.9)
        let before = address(weight.value)
        for step in 0..<5 {
            optimizer.zeroGrad()
            try net.accumulate(batch: step)
            #expect(address(weight.grad!) == gradients.last?.after)
            try optimizer.step()
        }
        #expect(address(weight.value) == before)
        #expect(gradients.allSatisfy { $0.before == $0.after })
    }

    @Test func theQuestionsExample() throws {
        for inputRequiresGrad in [false, true] {
            let conv = Conv2d(3, 1, 3)
            var x = Tensor.randn([1, 3, 10, 10], generator: Generator(seed: 5))
            x.requiresGrad = inputRequiresGrad
            try conv(x).mean().backward()
            let free = conv.weight.grad!
            conv.zeroGrad()
            try conv.weight.freeze(at: [0, 1, 2, 1], to: 1)
            try conv(x).mean().backward()
            let frozen = conv.weight.grad!
            #expect(frozen[element: 0, 1, 2, 1].bitPattern == 0)
            #expect(free[element: 0, 1, 2, 1] != 0)
            var expected = free
            expected[0, 1, 2, 1] = 0
            #expect(frozen.bitEquals(expected))
            #expect((x.grad != nil) == inputRequiresGrad)
        }
    }

    /// A tensor hook, which runs before the callback, sees who it is that zeroes.
    @Test func theKernelZeroesByTheMaskRouteAndTheCallbackAtTheEndByTheOther() throws {
        // The normalisation comes first: a bias before it would have no gradient.
        let net = Sequential(BatchNorm2d(2), Conv2d(2, 3, 3), Flatten(), Linear(3 * 4 * 4, 2))
        for parameter in net.parameters() {
            for route in FreezeRoute.allCases {
                var seen: Tensor?
                let hook = parameter.registerHook { gradient in
                    seen = gradient
                    return nil
                }
                let freeze = try parameter.freeze(at: [0], route: route)
                let images = Tensor.randn([4, 2, 6, 6], generator: Generator(seed: 1))
                try crossEntropy(net(images), [0, 1, 1, 1]).backward()
                let inHook = try #require(seen)[0].scalars, after = parameter.grad![0].scalars
                #expect(inHook.allSatisfy { $0.bitPattern == 0 } == (route == .mask), "\(parameter.label) \(route)")
                #expect(after.allSatisfy { $0.bitPattern == 0 }, "\(parameter.label) \(route)")
                freeze.remove()
                hook.remove()
                net.zeroGrad()
            }
        }
    }

    @Test func operationsWithoutMasksCannotMoveAFrozenElement() throws {
        for route in FreezeRoute.allCases {
            let parameter = Parameter(Tensor([1, 2, 3]))
            try parameter.freeze(at: [1], route: route)
            let optimizer = try SGD(parameters: [parameter], learningRate: 0.5, momentum: 0.5)
            for _ in 0..<100 {
                optimizer.zeroGrad()
                try (parameter.tensor.exp() * parameter.tensor).sum().backward()
                #expect(parameter.grad![element: 1].bitPattern == 0)
                try optimizer.step()
                #expect(parameter.bits(1) == Float(2).bitPattern)
            }
        }
    }

    @Test func noHookCanMoveAFrozenElement() throws {
        for route in FreezeRoute.allCases {
            let net = FreezingNet.seeded()
            let weight = net.conv.weight
            try weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
            weight.registerHook { _ in .full([4, 3, 3, 3], .nan) }
            weight.registerPostAccumulateGradHook { $0.grad?[0, 1, 2, 1] = 7 }
            net.conv.registerFullBackwardHook { conv, _, _ in
                conv.weight.grad?[0, 1, 2, 1] = -3
                conv.weight[0, 1, 2, 1] = 9
                return nil
            }
            let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05, momentum: 0.9, weightDecay: 0.1)
            for step in 0..<100 {
                try net.train(optimizer, steps: step..<step + 1)
                #expect(weight.grad![element: 0, 1, 2, 1].bitPattern == 0)
                #expect(weight.bits(0, 1, 2, 1) == Self.one)
            }
            #expect(weight[element: 0, 0, 0, 0].isNaN)
        }
    }

    @Test(arguments: FreezeRoute.allCases)
    func whatAHookFreezesIsFrozenAlsoWhenTheBackwardPassThrows(route: FreezeRoute) throws {
        struct Stop: Error {}
        let net = FreezingNet.seeded(), weight = net.conv.weight
        try net.accumulate(batch: 0)
        var expected = weight.grad!
        expected[0, 1, 2, 1] = 0
        net.conv.registerFullBackwardHook { conv, _, _ in
            try conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
            throw Stop()
        }
        #expect(throws: Stop.self) { try net.accumulate(batch: 1) }
        #expect(weight.grad!.bitEquals(expected) && weight.bits(0, 1, 2, 1) == Self.one)
    }

    @Test func assignmentsKeepFrozenElements() throws {
        let parameter = Parameter(.zeros([2, 3]))
        try parameter.freeze(at: [0, 1], to: 2)
        #expect(parameter.value.scalars == [0, 2, 0, 0, 0, 0])
        parameter.value = .ones([2, 3])
        #expect(parameter.value.scalars == [1, 2, 1, 1, 1, 1])
        parameter[.all, 1] = 5
        #expect(parameter.value.scalars == [1, 2, 1, 1, 5, 1])
        parameter[element: 0, 1] = 9
        parameter.value[element: 0, 1] = 9
        #expect(parameter.value.scalars == [1, 2, 1, 1, 5, 1])
    }

    @Test func overlappingFreezesAreAUnionAndConflictsChangeNothing() throws {
        let parameter = Parameter(.zeros([2, 2]))
        let first = try parameter.freeze(at: [0, 1], to: 2), second = try parameter.freeze(at: [0])
        #expect(parameter.gradientMask?.frozenIndices == [[0, 0], [0, 1]])
        let error = #expect(throws: FreezeError.self) { try parameter.freeze(at: [.all, 1], to: 3) }
        #expect(error?.message.contains("[0,1] can't be frozen both at 2.0 and at 3.0") == true)
        #expect(parameter.value.scalars == [0, 2, 0, 0] && parameter.freezes.count == 2)
        #expect(throws: FreezeError.self) {
            try parameter.freeze([(indices: [1, 0], value: 1), (indices: [-1, 0], value: 2)])
        }
        // +0 and -0 are different values, to the bit.
        #expect(throws: FreezeError.self) { try parameter.freeze(at: [0, 0], to: -0.0) }
        second.remove()
        #expect(parameter.gradientMask?.frozenIndices == [[0, 1]])
        first.remove()
        #expect(parameter.gradientMask == nil)
        #expect(throws: FreezeError.self) { try first.enable() }
    }

    @Test func everyWayToSelect() throws {
        func frozen(_ freeze: (Parameter) throws -> Void) throws -> [Float] {
            let parameter = Parameter(Tensor([0, 1, 2, 3, 4, 5], shape: [2, 3]))
            try freeze(parameter)
            return parameter.gradientMask!.trainable.scalars.map { 1 - $0 }
        }
        #expect(try frozen { try $0.freeze(at: [1, -1]) } == [0, 0, 0, 0, 0, 1])
        #expect(try frozen { try $0.freeze(at: [.all, 0]) } == [1, 0, 0, 1, 0, 0])
        #expect(try frozen { try $0.freeze(at: [1, 0..<2]) } == [0, 0, 0, 1, 1, 0])
        #expect(try frozen { try $0.freeze(where: { $0[0] == $0[1] }) } == [1, 0, 0, 0, 1, 0])
        #expect(try frozen { try $0.freeze(.valued { $0 > 3 }) } == [0, 0, 0, 0, 1, 1])
        #expect(try frozen { try $0.freeze(.ones(in: Tensor([[0, 1, 0], [0, 0, 1]]))) } == [0, 1, 0, 0, 0, 1])
        #expect(try frozen { try $0.freeze() } == [1, 1, 1, 1, 1, 1])
        #expect(try frozen { try $0.trainOnly(at: [0, 2]) } == [1, 1, 0, 1, 1, 1])
    }

    @Test func elementsFreezeAtValuesOfTheirOwn() throws {
        let parameter = Parameter(Tensor([0, 1, 2, 3, 4, 5], shape: [2, 3]))
        let faults = try parameter.freeze([(indices: [1, 0], value: 7), (indices: [0, 0], value: -7)])
        #expect(parameter.value.scalars == [-7, 1, 2, 7, 4, 5])
        try parameter.freeze(.at([1, .every(2)]), values: Tensor([7, 9]))
        #expect(parameter.value.scalars == [-7, 1, 2, 7, 4, 9])
        faults.remove()
        #expect(parameter.gradientMask?.frozenIndices == [[1, 0], [1, 2]])
        #expect(parameter.gradientMask?.frozenValues == [7, 9])
    }

    @Test func trainOnlyEverythingFreezesNothing() throws {
        let parameter = Parameter(.zeros([2, 2]))
        #expect(try parameter.trainOnly(at: []) == nil)
        #expect(parameter.gradientMask == nil)
    }

    @Test func thawTakesElementsFromEveryFreeze() throws {
        let parameter = Parameter(.zeros([2, 2]))
        let row = try parameter.freeze(at: [0])
        let column = try parameter.freeze(at: [.all, 0])
        try parameter.thaw(at: [0, 0])
        #expect(parameter.gradientMask?.frozenIndices == [[0, 1], [1, 0]])
        #expect(row.elementCount == 1 && column.elementCount == 1)
        try parameter.thaw(at: [0])
        #expect(!row.isActive && column.isActive)
        parameter.thaw()
        #expect(!column.isActive && parameter.gradientMask == nil)
    }

    @Test func namedFreezesSwitchOnAndOffAndTheirUnionHolds() throws {
        let parameter = Parameter(.zeros([4]))
        try parameter.freeze(at: [0..<2], to: 1, name: "first")
        try parameter.freeze(at: [1..<3], to: 1, name: "second")
        #expect(parameter.gradientMask?.frozenIndices == [[0], [1], [2]])
        parameter.disableFreezes(named: "first")
        #expect(parameter.gradientMask?.frozenIndices == [[1], [2]])
        parameter.value = .zeros([4])
        #expect(parameter.value.scalars == [0, 1, 1, 0])
        try parameter.enableFreezes(named: "first")
        #expect(parameter.value.scalars == [1, 1, 1, 0])
        parameter.disableFreezes(named: "first")
        parameter.disableFreezes(named: "second")
        #expect(parameter.gradientMask == nil)
        // Off, the first doesn't stand in the way of another value; on again, it does.
        try parameter.freeze(at: [0], to: 5, name: "third")
        #expect(throws: FreezeError.self) { try parameter.enableFreezes(named: "first") }
        #expect(parameter.gradientMask?.frozenIndices == [[0]])
        #expect(parameter.value.scalars == [5, 1, 1, 0])
        let error = #expect(throws: FreezeError.self) { try parameter.enableFreezes(named: "thrid") }
        #expect(error?.message.hasSuffix("has no freeze 'thrid'; it has 'first', 'second', 'third'") == true)
    }

    @Test func aTasksFreezesSwitchTogetherInAWholeModel() throws {
        let net = FreezingNet.seeded(), conv = net.conv.weight, fc = net.fc.bias!
        try conv.freeze(at: [0], to: 1, name: "task 1").disable()
        try fc.freeze(at: [0], to: 1, name: "task 1").disable()
        conv.value = .zeros(conv.shape)
        // One parameter of two can't: neither is switched, and no value is written.
        let odd = try fc.freeze(at: [0], to: 2)
        let before = net.values
        #expect(throws: FreezeError.self) { try net.enableFreezes(named: "task 1") }
        #expect(bitEqual(net.values, before) && conv.gradientMask == nil)
        odd.remove()
        try net.enableFreezes(named: "task 1")
        #expect(conv.gradientMask?.frozenCount == 27 && fc.bits(0) == Self.one && conv.bits(0, 0, 0, 0) == Self.one)
        net.disableFreezes(named: "task 1")
        #expect(conv.gradientMask == nil && fc.gradientMask == nil)
        let error = #expect(throws: FreezeError.self) { try net.enableFreezes(named: "task 2") }
        #expect(error?.message == "this FreezingNet has no freeze 'task 2'; it has 'task 1'")
    }

    @Test func whatCannotBeFrozenIsNamed() {
        let parameter = Parameter(.zeros([2, 3]))
        parameter.name = "fc.weight"
        func message(_ body: () throws -> Void) -> String {
            do { try body() } catch { return "\(error)" }
            return "nothing was thrown"
        }
        #expect(message { try parameter.freeze(at: [0, 3]) }.contains("axis 1 of size 3"))
        #expect(message { try parameter.freeze(at: [0, 0, 0]) }.contains("fc.weight"))
        #expect(message { try parameter.freeze(at: [0, 1..<1]) }.contains("matches no element"))
        #expect(message { try parameter.freeze(where: { _ in false }) }.contains("matches no element"))
        #expect(message { try parameter.freeze(at: [0, 0], to: .nan) }.contains("isn't a finite number"))
        #expect(message { try parameter.freeze(at: [0, 0], to: .infinity) }.contains("isn't a finite number"))
        #expect(message { try parameter.freeze([(indices: [0], value: 1)]) }.contains("has 1 indices"))
        #expect(message { try parameter.freeze([(indices: [2, 0], value: 1)]) }.contains("axis 0 of size 2"))
        #expect(message { try parameter.freeze(.ones(in: .zeros([2, 2]))) }.contains("shape [2, 3]"))
        #expect(message { try parameter.freeze(.ones(in: .full([2, 3], 0.5))) }.contains("0 and 1 only"))
        #expect(message { try parameter.freeze(.at([0]), values: .ones([2])) }.contains("3 elements"))
        #expect(parameter.gradientMask == nil && parameter.freezes.isEmpty)
    }
}
