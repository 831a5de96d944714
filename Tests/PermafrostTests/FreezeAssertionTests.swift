import Testing

@testable import Permafrost

/// What separates a freeze from a zeroed gradient: thirty assertions, a test each, in bits, over 100 steps where there
/// are steps, by both routes where routes matter. Tests/FREEZING.md lists them.
@Suite struct FreezeAssertionTests {

    /// Trains, freezes some of every kind of parameter at step `start`, trains 100 steps more, and checks every step.
    private func holds(_ route: FreezeRoute, start: Int = 0, _ make: ([Parameter]) throws -> Optimizer) throws {
        let net = FreezingNet.seeded()
        let optimizer = try make(net.parameters())
        try net.train(optimizer, steps: 0..<start)
        try net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
        try net.conv.weight.freeze(at: [2], route: route)
        try net.fc.weight.freeze(at: [.all, 5], to: 0, route: route)
        let audit = Audit(ofFrozenIn: net.namedParameters())
        let free = net.conv.weight.bits(0, 0, 0, 0)
        for step in start..<start + 100 {
            try net.train(optimizer, steps: step..<step + 1)
            let report = audit.report()
            #expect(report.checked == 33 && report.changed == 0, "step \(step): \(report)")
        }
        #expect(net.conv.weight.bits(0, 0, 0, 0) != free)
    }

    // MARK: Optimizer

    @Test(arguments: FreezeRoute.allCases)
    func a01_sgdWithL2Decay(route: FreezeRoute) throws {
        try holds(route) { try SGD(parameters: $0, learningRate: 0.05, weightDecay: 0.1) }
    }

    @Test(arguments: FreezeRoute.allCases)
    func a02_adamW(route: FreezeRoute) throws {
        try holds(route) { try AdamW(parameters: $0, learningRate: 0.01, weightDecay: 0.1) }
    }

    @Test(arguments: FreezeRoute.allCases, [false, true])
    func a03_momentumThenFreeze(route: FreezeRoute, nesterov: Bool) throws {
        try holds(route, start: 30) {
            try SGD(parameters: $0, learningRate: 0.05, momentum: 0.9, nesterov: nesterov)
        }
    }

    @Test(arguments: FreezeRoute.allCases, [false, true])
    func a04_adamThenFreeze(route: FreezeRoute, amsgrad: Bool) throws {
        try holds(route, start: 30) { try Adam(parameters: $0, learningRate: 0.01, amsgrad: amsgrad) }
    }

    @Test(arguments: OptimizerKind.allCases)
    func a05_afterAThawAnElementStartsAnewAndItsNeighboursNeverNoticed(kind: OptimizerKind) throws {
        let shape: Shape = [3, 5]
        func gradient(_ step: Int) -> Tensor { .randn(shape, generator: Generator(seed: 50 + UInt64(step))) }
        let initial = Tensor.randn(shape, generator: Generator(seed: 4))
        let free = Parameter(initial), parameter = Parameter(initial)
        let freeOptimizer = try kind.make([free]), optimizer = try kind.make([parameter])
        var handle: FreezeHandle?
        for step in 0..<150 {
            if step == 20 { handle = try parameter.freeze(at: [1, 2]) }
            if step == 130 {
                handle?.remove()
                let fresh = Parameter(parameter.value)
                let freshOptimizer = try kind.make([fresh])
                var state = optimizer.stateDictionary()
                for name in state.tensors.keys { state.tensors[name]![1, 2] = 0 }
                try freshOptimizer.load(stateDictionary: state)
                fresh.grad = gradient(step)
                parameter.grad = gradient(step)
                try freshOptimizer.step()
                try optimizer.step()
                #expect(parameter.value.bitEquals(fresh.value))
            } else {
                parameter.grad = gradient(step)
                try optimizer.step()
            }
            free.grad = gradient(step)
            try freeOptimizer.step()
            var neighbours = parameter.value
            neighbours[1, 2] = free.value[1, 2]
            #expect(neighbours.bitEquals(free.value), "step \(step)")
        }
        #expect(parameter.bits(1, 2) != free.bits(1, 2))
    }

    @Test func a05_aFreezeAndThawBetweenTwoStepsClearsTheState() throws {
        let parameter = Parameter(.ones([2]))
        let optimizer = try SGD(parameters: [parameter], learningRate: 0.5, momentum: 0.5)
        parameter.grad = .ones([2])
        try optimizer.step()
        try parameter.freeze(at: [0]).remove()
        #expect(optimizer.state(of: parameter)?.buffers[0]?.scalars == [0, 1])
    }

    @Test(arguments: FreezeRoute.allCases, [OptimizerKind.sgdMomentum, .amsgrad, .adamW, .rmspropCentered])
    func a06_stateSavedBeforeTheFreezeAndLoadedAfter(route: FreezeRoute, kind: OptimizerKind) throws {
        let net = FreezingNet.seeded()
        let optimizer = try kind.make(net.parameters())
        try net.train(optimizer, steps: 0..<20)
        let saved = optimizer.stateDictionary()
        try net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
        let resumed = try kind.make(net.parameters())
        try resumed.load(stateDictionary: saved)
        for buffer in resumed.state(of: net.conv.weight)!.buffers {
            if let buffer { #expect(buffer[element: 0, 1, 2, 1].bitPattern == 0) }
        }
        for step in 20..<120 {
            try net.train(resumed, steps: step..<step + 1)
            #expect(net.conv.weight.bits(0, 1, 2, 1) == Float(1).bitPattern)
        }
    }

    @Test func a07_freezingTwiceIsOnceAndTwoValuesThrow() throws {
        let parameter = Parameter(.zeros([2, 3]))
        try parameter.freeze(at: [0, 1], to: 4)
        let mask = try #require(parameter.gradientMask)
        try parameter.freeze(at: [0, 1], to: 4)
        try parameter.freeze(at: [0, 1])
        #expect(parameter.gradientMask?.frozenIndices == mask.frozenIndices)
        #expect(parameter.gradientMask?.frozenValues == mask.frozenValues)
        #expect(throws: FreezeError.self) { try parameter.freeze(at: [0], to: 5) }
        #expect(parameter.value.scalars == [0, 4, 0, 0, 0, 0])
    }

    @Test func a08_aTrainableElementWithZeroGradientStillDecays() throws {
        let parameter = Parameter(.ones([3]))
        try parameter.freeze(at: [0])
        let optimizer = try SGD(parameters: [parameter], learningRate: 0.5, weightDecay: 0.5)
        for _ in 0..<100 {
            parameter.grad = .zeros([3])
            try optimizer.step()
        }
        var expected: Float = 1
        for _ in 0..<100 { expected *= 0.75 }
        #expect(parameter.value.scalars == [1, expected, expected])
    }

    // MARK: Gradient

    @Test(arguments: FreezeRoute.allCases, [Float.nan, .infinity, -3])
    func a09_aFrozenGradientIsPlusZeroWhateverTheRawOneIs(route: FreezeRoute, raw: Float) throws {
        let conv = Conv2d(2, 2, 3)
        var image = Tensor.ones([1, 2, 5, 5])
        image[.all, 1] = Tensor(raw)
        try conv(image).sum().backward()
        #expect(conv.weight.grad![element: 0, 1, 0, 0].bitPattern != 0)
        conv.zeroGrad()
        try conv.weight.freeze(at: [.all, 1], route: route)
        try conv(image).sum().backward()
        for output in 0..<2 {
            #expect(conv.weight.grad![output, 0].scalars == Array(repeating: 9, count: 9))
            #expect(conv.weight.grad![output, 1].scalars.allSatisfy { $0.bitPattern == 0 })
        }
    }

    @Test(arguments: FreezeRoute.allCases)
    func a10_aNaNInAFrozenGradientPoisonsNeitherNormNorNeighbours(route: FreezeRoute) throws {
        let conv = Conv2d(2, 1, 1, bias: false)
        try conv.weight.freeze(at: [0, 1], to: 2, route: route)
        let before = conv.weight[element: 0, 0, 0, 0]
        var image = Tensor.ones([1, 2, 2, 2])
        image[.all, 1] = Tensor(.nan)
        let optimizer = try SGD(parameters: conv.parameters(), learningRate: 0.5)
        for _ in 0..<100 {
            optimizer.zeroGrad()
            try conv(image).sum().backward()
            #expect(try clipGradNorm(conv.parameters(), maxNorm: 100, errorIfNonFinite: true) == 4)
            try optimizer.step()
        }
        var expected = before
        for _ in 0..<100 { expected -= 2 }
        #expect(conv.weight.value.scalars == [expected, 2])
    }

    @Test func a11_theClipNormCountsTrainableElementsOnly() throws {
        let parameter = Parameter(.zeros([4]))
        try parameter.freeze(at: [3])
        // Below the accessor that clears frozen elements, as a hand-written training loop might.
        parameter.leaf.grad = Tensor([3, 0, 4, 100])
        #expect(try clipGradNorm([parameter], maxNorm: 1) == 5)
        #expect(parameter.grad!.scalars.last?.bitPattern == 0)
        parameter.leaf.grad = Tensor([3, 0, -4, 100])
        #expect(try clipGradNorm([parameter], maxNorm: 10, normType: .infinity) == 4)
        #expect(try clipGradNorm([parameter], maxNorm: 10, normType: 1) == 7)
    }

    @Test(arguments: FreezeRoute.allCases)
    func a12_accumulatedMicroBatches(route: FreezeRoute) throws {
        let net = FreezingNet.seeded()
        try net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
        let optimizer = try AdamW(parameters: net.parameters(), learningRate: 0.01)
        for step in 0..<100 {
            optimizer.zeroGrad()
            for part in 0..<3 {
                try net.accumulate(batch: 3 * step + part)
                #expect(net.conv.weight.grad![element: 0, 1, 2, 1].bitPattern == 0)
            }
            try optimizer.step()
            #expect(net.conv.weight.bits(0, 1, 2, 1) == Float(1).bitPattern)
        }
    }

    @Test(arguments: FreezeRoute.allCases)
    func a13_aGradientThatIsThereIsClearedAtFreezeTime(route: FreezeRoute) throws {
        let net = FreezingNet.seeded()
        try net.accumulate(batch: 0)
        let before = net.conv.weight.grad!
        try net.conv.weight.freeze(at: [0, 1, 2, 1], route: route)
        var expected = before
        expected[0, 1, 2, 1] = 0
        #expect(net.conv.weight.grad!.bitEquals(expected))
        #expect(expected[element: 0, 1, 2, 1].bitPattern == 0 && !before.bitEquals(expected))
    }

    @Test(arguments: FreezeRoute.allCases, [false, true])
    func a14_zeroGradToNilAndToZero(route: FreezeRoute, setToNil: Bool) throws {
        let net = FreezingNet.seeded()
        try net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05, momentum: 0.9, weightDecay: 0.1)
        for step in 0..<100 {
            optimizer.zeroGrad(setToNil: setToNil)
            try net.accumulate(batch: step)
            #expect(net.conv.weight.grad![element: 0, 1, 2, 1].bitPattern == 0)
            try optimizer.step()
            #expect(net.conv.weight.bits(0, 1, 2, 1) == Float(1).bitPattern)
        }
    }

    @Test(arguments: FreezeRoute.allCases)
    func a15_theInputGradientIgnoresTheMask(route: FreezeRoute) throws {
        func inputGradient(frozen: Bool) throws -> Tensor {
            let net = FreezingNet.seeded()
            if frozen { try net.conv.weight.freeze(at: [.all, 0..<2], route: route) }
            var image = Tensor.randn([2, 3, 6, 6], generator: Generator(seed: 8))
            image.requiresGrad = true
            try net(image).squared().sum().backward()
            return try #require(image.grad)
        }
        #expect(try inputGradient(frozen: false).bitEquals(try inputGradient(frozen: true)))
    }

    @Test(arguments: FreezeRoute.allCases)
    func a16_theFirstConvolutionWhoseInputNeedsNoGradient(route: FreezeRoute) throws {
        for inputRequiresGrad in [false, true] {
            let net = FreezingNet.seeded()
            try net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
            let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05)
            for step in 0..<100 {
                try net.train(optimizer, steps: step..<step + 1, inputRequiresGrad: inputRequiresGrad)
                #expect(net.conv.weight.grad![element: 0, 1, 2, 1].bitPattern == 0)
                #expect(net.conv.weight.bits(0, 1, 2, 1) == Float(1).bitPattern)
            }
        }
    }

    @Test(arguments: FreezeRoute.allCases)
    func a17_aConvolutionCalledTwiceInOneForward(route: FreezeRoute) throws {
        let conv = Conv2d(2, 2, 3, padding: 1)
        try conv.weight.freeze(at: [1, 0], to: 0.25, route: route)
        let optimizer = try Adam(parameters: conv.parameters(), learningRate: 0.01)
        let image = Tensor.randn([2, 2, 5, 5], generator: Generator(seed: 6))
        for _ in 0..<100 {
            optimizer.zeroGrad()
            try conv(conv(image).relu()).squared().mean().backward()
            #expect(conv.weight.grad![1, 0].scalars.allSatisfy { $0.bitPattern == 0 })
            try optimizer.step()
            #expect(conv.weight.value[1, 0].scalars == Array(repeating: 0.25, count: 9))
        }
    }

    @Test(arguments: FreezeRoute.allCases, [1, 2, 3])
    func a18_unmaskedGradientsHaveTheBitsOfTheUnmaskedRun(route: FreezeRoute, threads: Int) throws {
        try withExecution(threads: threads, numerics: .exact) {
            let conv = Conv2d(8, 16, 3, padding: 1)
            let image = Tensor.randn([3, 8, 12, 12], generator: Generator(seed: 2))
            try conv(image).squared().sum().backward()
            let weight = conv.weight.grad!, bias = conv.bias!.grad!
            let selections: [ElementSelection] = [
                .at([0, 1, 2, 1]), .at([.all, 3]), .at([4..<12]), .at([.all, .all, 1, 1]),
                .matching { ($0[0] * 31 + $0[1] * 17 + $0[2] * 7 + $0[3]) % 10 != 0 }, .all,
            ]
            for selection in selections {
                conv.zeroGrad()
                try conv.weight.freeze(selection, route: route)
                try conv.bias!.freeze(at: [.every(2)], route: route)
                try conv(image).squared().sum().backward()
                let trainable = conv.weight.gradientMask!.trainable.scalars
                let expected = zip(weight.scalars, trainable).map { $1 == 0 ? 0 : $0 }
                #expect(conv.weight.grad!.bitEquals(Tensor(expected, shape: weight.shape)), "\(selection)")
                var expectedBias = bias
                expectedBias[.every(2)] = 0
                #expect(conv.bias!.grad!.bitEquals(expectedBias))
                conv.thaw()
            }
        }
    }

    // MARK: State

    @Test(arguments: FreezeRoute.allCases)
    func a19_theValueIsRightImmediatelyAfterTheStep(route: FreezeRoute) throws {
        let net = FreezingNet.seeded()
        try net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05, momentum: 0.9, weightDecay: 0.1)
        var seen: [UInt32] = []
        optimizer.registerStepPostHook { _ in seen.append(net.conv.weight.bits(0, 1, 2, 1)) }
        try net.train(optimizer, steps: 0..<100)
        #expect(seen == Array(repeating: Float(1).bitPattern, count: 100))
    }

    @Test func a20_otherWeightsAreRepinnedOrRefused() throws {
        let parameter = Parameter(.zeros([2, 2]))
        parameter.name = "fc.weight"
        try parameter.freeze(at: [0, 1], to: 4)
        try parameter.load(.ones([2, 2]))
        #expect(parameter.value.scalars == [1, 4, 1, 1])
        let error = #expect(throws: FreezeError.self) { try parameter.load(.zeros([2, 2]), strict: true) }
        #expect(error?.message == "fc.weight[0,1] is frozen at 4.0; 0.0 can't be loaded into it")
        #expect(parameter.value.scalars == [1, 4, 1, 1])
        try parameter.load(Tensor([[7, 4], [7, 7]]), strict: true)
        #expect(parameter.value.scalars == [7, 4, 7, 7])
    }

    @Test(arguments: OptimizerKind.allCases)
    func a20_aRestoredFreezeTrainsOnToTheSameBits(kind: OptimizerKind) throws {
        func make() throws -> (FreezingNet, Optimizer) {
            let net = FreezingNet.seeded()
            return (net, try kind.make(net.parameters()))
        }
        let (whole, wholeOptimizer) = try make()
        try whole.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, name: "tap")
        try whole.conv.weight.freeze(at: [1], route: .callback)
        try whole.fc.weight.freeze(at: [0], name: "off").disable()
        try whole.train(wholeOptimizer, steps: 0..<50)
        let records = whole.parameters().map { $0.freezes.map(\.record) }

        let (resumed, optimizer) = try make()
        for (parameter, (value, freezes)) in zip(resumed.parameters(), zip(whole.values, records)) {
            parameter.value = value
            try parameter.restore(freezes)
        }
        try optimizer.load(stateDictionary: wholeOptimizer.stateDictionary())
        try whole.train(wholeOptimizer, steps: 50..<150)
        try resumed.train(optimizer, steps: 50..<150)
        #expect(bitEqual(whole.values, resumed.values))
        #expect(resumed.parameters().map { $0.freezes.map(\.record) } == records)
        #expect(resumed.conv.weight.bits(0, 1, 2, 1) == Float(1).bitPattern)
        #expect(resumed.fc.weight.gradientMask == nil)
    }

    @Test(arguments: FreezeRoute.allCases)
    func a21_aCopyKeepsTheFreezeAndIsIndependent(route: FreezeRoute) throws {
        let net = FreezingNet.seeded()
        try net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route, name: "tap")
        let copy = FreezingNet()
        for (own, other) in zip(copy.parameters(), net.parameters()) { try own.copyState(of: other) }
        #expect(bitEqual(copy.values, net.values))
        try copy.train(AdamW(parameters: copy.parameters(), learningRate: 0.01), steps: 0..<100)
        #expect(copy.conv.weight.bits(0, 1, 2, 1) == Float(1).bitPattern)
        #expect(!bitEqual(copy.values, net.values))
        #expect(bitEqual(net.values, FreezingNet.seeded().values) == false && net.conv.weight.freezes.count == 1)
        copy.conv.weight.freezes(named: "tap")[0].remove()
        #expect(net.conv.weight.gradientMask?.frozenIndices == [[0, 1, 2, 1]])
    }

    @Test(arguments: [AveragedParameters.Weighting.exponential(decay: 0.9), .equal])
    func a22_averagesHoldThePinnedValue(weighting: AveragedParameters.Weighting) throws {
        let net = FreezingNet.seeded()
        let weight = net.conv.weight
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05)
        let averages = try AveragedParameters(net.parameters(), weighting)
        // 0.1 has no exact float, so that an average computed by arithmetic would show.
        try weight.freeze(at: [0, 1, 2, 1], to: 0.1)
        for step in 0..<100 {
            try net.train(optimizer, steps: step..<step + 1)
            averages.update()
            // Half-way another element, which has an average of its own by then.
            if step == 50 { try weight.freeze(at: [0, 0, 0, 0], to: 0.7) }
            #expect(averages.values[0][element: 0, 1, 2, 1].bitPattern == Float(0.1).bitPattern)
            if step >= 50 { #expect(averages.values[0][element: 0, 0, 0, 0].bitPattern == Float(0.7).bitPattern) }
        }
        let own = net.values
        averages.withAverages {
            #expect(weight[element: 0, 1, 2, 1].bitPattern == Float(0.1).bitPattern)
            #expect(!weight.value.bitEquals(own[0]))
        }
        #expect(bitEqual(net.values, own))
    }

    @Test func a23_keysAreTheSameWithAndWithoutAMask() throws {
        let net = FreezingNet.seeded()
        let before = net.namedState().map(\.name)
        try net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1)
        try net.fc.bias!.freeze()
        #expect(net.namedState().map(\.name) == before)
        #expect(before == ["conv.weight", "conv.bias", "fc.weight", "fc.bias"])
    }

    @Test(arguments: FreezeRoute.allCases, FreezeRoute.allCases)
    func a24_removingOneFreezeLeavesTheOther(first: FreezeRoute, second: FreezeRoute) throws {
        let net = FreezingNet.seeded()
        let weight = net.conv.weight
        let a = try weight.freeze(at: [0], route: first), b = try weight.freeze(at: [.all, 1], route: second)
        a.remove()
        let held = weight.value[.all, 1]
        let optimizer = try Adam(parameters: net.parameters(), learningRate: 0.01)
        let free = weight.bits(0, 0, 0, 0)
        for step in 0..<100 {
            try net.train(optimizer, steps: step..<step + 1)
            #expect(weight.value[.all, 1].bitEquals(held))
            #expect(weight.grad![.all, 1].scalars.allSatisfy { $0.bitPattern == 0 })
        }
        #expect(weight.bits(0, 0, 0, 0) != free)
        #expect(b.isActive)
    }

    @Test func a25_theMaskIsNeverDerivedFromValues() throws {
        let parameter = Parameter(.zeros([3]))
        try parameter.freeze(at: [0], to: 0)
        let optimizer = try SGD(parameters: [parameter], learningRate: 0.5)
        for _ in 0..<100 {
            parameter.value = .zeros([3])
            parameter.grad = .ones([3])
            try optimizer.step()
            #expect(parameter.value.scalars == [0, -0.5, -0.5])
        }
        #expect(parameter.gradientMask?.frozenIndices == [[0]])
    }

    @Test func a26_maskingShardsBeforeOrAfterTheSumGivesTheSameBits() throws {
        try withExecution(numerics: .exact) {
            let net = FreezingNet.seeded()
            func shards() throws -> Tensor {
                net.zeroGrad()
                try net.accumulate(batch: 0)
                try net.accumulate(batch: 1)
                return net.conv.weight.grad!
            }
            var after = try shards()
            after[.all, 1, 0..<2] = 0
            try net.conv.weight.freeze(at: [.all, 1, 0..<2])
            #expect(try shards().bitEquals(after))
        }
    }

    // MARK: Model

    @Test(arguments: FreezeRoute.allCases)
    func a27_statisticsAfterAFrozenFilterMoveUntilAskedToStop(route: FreezeRoute) throws {
        let conv = Conv2d(1, 2, 3), norm = BatchNorm2d(2)
        let net = Sequential(conv, norm)
        try conv.weight.freeze(at: [0], route: route)
        try norm.weight!.freeze(at: [1], to: 2, route: route)
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.1, momentum: 0.9)
        let filter = conv.weight.value[0]
        func mean() -> Tensor { net.namedBuffers().first { $0.name.hasSuffix("running_mean") }!.buffer.value }
        func train(_ step: Int) throws {
            optimizer.zeroGrad()
            let images = Tensor.randn([4, 1, 6, 6], generator: Generator(seed: UInt64(step))) + 1
            try net(images).squared().mean().backward()
            try optimizer.step()
        }
        for step in 0..<100 {
            let before = mean()
            try train(step)
            #expect(mean()[element: 0] != before[element: 0])
            #expect(conv.weight.value[0].bitEquals(filter))
            #expect(norm.weight!.bits(1) == Float(2).bitPattern)
        }
        norm.eval()
        let before = mean()
        try train(100)
        #expect(mean().bitEquals(before))
    }

    @Test(arguments: FreezeRoute.allCases, OptimizerKind.allCases)
    func a28_biasElements(route: FreezeRoute, kind: OptimizerKind) throws {
        let net = FreezingNet.seeded()
        try net.conv.bias!.freeze(at: [1], to: 0.5, route: route)
        try net.fc.bias!.freeze(at: [-1], route: route)
        let held = net.fc.bias!.bits(4)
        let optimizer = try kind.make(net.parameters())
        for step in 0..<100 {
            try net.train(optimizer, steps: step..<step + 1)
            #expect(net.conv.bias!.bits(1) == Float(0.5).bitPattern && net.fc.bias!.bits(4) == held)
        }
    }

    @Test func a29_routesAndUnderPlainSGDTheRecipeTrainToTheSameBits() throws {
        let ends = try withExecution(numerics: .exact) {
            try [FreezeMethod.mask, .callback, .recipe].map { method in
                let net = FreezingNet.seeded()
                try [FreezeSpecification(parsing: "conv.weight[0,1,2,1]=1")].apply(to: net, method: method)
                try net.train(SGD(parameters: net.parameters(), learningRate: 0.05), steps: 0..<100)
                return net.values
            }
        }
        #expect(bitEqual(ends[0], ends[1]) && bitEqual(ends[0], ends[2]))
    }

    @Test(arguments: OptimizerKind.allCases)
    func a30_nothingFrozenIsNoMask(kind: OptimizerKind) throws {
        let ends = try [false, true].map { frozenBefore in
            let net = FreezingNet.seeded()
            if frozenBefore {
                // Frozen where they are, and thawed: only the masks come and go.
                let handles = try net.freeze()
                for handle in handles { handle.remove() }
                try net.conv.weight.freeze(at: [0]).disable()
            }
            try net.train(kind.make(net.parameters()), steps: 0..<100)
            return net.values
        }
        #expect(bitEqual(ends[0], ends[1]))
    }

    @Test(arguments: FreezeRoute.allCases)
    func a30_everythingFrozenHasAGradientOfZerosAndNoState(route: FreezeRoute) throws {
        let net = FreezingNet.seeded()
        try net.conv.weight.freeze(route: route)
        let before = net.conv.weight.value
        let optimizer = try Adam(parameters: net.parameters(), learningRate: 0.01)
        try net.train(optimizer, steps: 0..<100)
        #expect(net.conv.weight.grad?.bitEquals(.zeros([4, 3, 3, 3])) == true)
        #expect(net.conv.weight.value.bitEquals(before))
        let state = try #require(optimizer.state(of: net.conv.weight))
        #expect(state.buffers.allSatisfy { $0 == nil })
    }
}
