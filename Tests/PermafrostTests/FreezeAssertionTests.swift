import Testing

@testable import Permafrost

/// What separates a freeze from a zeroed gradient: thirty assertions, a test each, in bits, over 100 steps or more, by
/// both routes. Tests/FREEZING.md lists them.
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

    @Test(arguments: FreezeRoute.allCases, OptimizerKind.allCases)
    func a05_afterAThawAnElementStartsAnewAndItsNeighboursNeverNoticed(route: FreezeRoute, kind: OptimizerKind) throws {
        let shape: Shape = [3, 5]
        // A loss linear in the weight: the same gradients whatever the weight is.
        func step(_ number: Int, _ parameter: Parameter, _ optimizer: Optimizer) throws {
            optimizer.zeroGrad()
            let slope = Tensor.randn(shape, generator: Generator(seed: 50 + UInt64(number)))
            try (parameter.tensor * slope).sum().backward()
            try optimizer.step()
        }
        let initial = Tensor.randn(shape, generator: Generator(seed: 4))
        let free = Parameter(initial), parameter = Parameter(initial)
        let freeOptimizer = try kind.make([free]), optimizer = try kind.make([parameter])
        var handle: FreezeHandle?
        for number in 0..<150 {
            if number == 20 { handle = try parameter.freeze(at: [1, 2], route: route) }
            if number == 130 {
                handle?.remove()
                let fresh = Parameter(parameter.value)
                let freshOptimizer = try kind.make([fresh])
                var state = optimizer.stateDictionary()
                for name in state.tensors.keys { state.tensors[name]![1, 2] = 0 }
                try freshOptimizer.load(stateDictionary: state)
                try step(number, fresh, freshOptimizer)
                try step(number, parameter, optimizer)
                #expect(parameter.value.bitEquals(fresh.value))
            } else {
                try step(number, parameter, optimizer)
            }
            try step(number, free, freeOptimizer)
            var neighbours = parameter.value
            neighbours[1, 2] = free.value[1, 2]
            #expect(neighbours.bitEquals(free.value), "step \(number)")
        }
        #expect(parameter.bits(1, 2) != free.bits(1, 2))
    }

    @Test(arguments: FreezeRoute.allCases)
    func a05_aFreezeAndThawBetweenTwoStepsClearsTheState(route: FreezeRoute) throws {
        let parameter = Parameter(.ones([2]))
        let optimizer = try SGD(parameters: [parameter], learningRate: 0.5, momentum: 0.5)
        for _ in 0..<100 {
            parameter.grad = .ones([2])
            try optimizer.step()
            #expect(optimizer.state(of: parameter)?.buffers[0]?.scalars.contains(0) == false)
            try parameter.freeze(at: [0], route: route).remove()
            let state = try #require(optimizer.state(of: parameter)?.buffers[0]?.scalars)
            #expect(state[0].bitPattern == 0 && state[1] != 0)
        }
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

    @Test(arguments: FreezeRoute.allCases, FreezeRoute.allCases)
    func a07_freezingTwiceIsOnceAndTwoValuesThrow(first: FreezeRoute, second: FreezeRoute) throws {
        try withExecution(numerics: .exact) {
            let once = FreezingNet.seeded(), twice = FreezingNet.seeded()
            let (onceOptimizer, optimizer) = try (
                AdamW(parameters: once.parameters()), AdamW(parameters: twice.parameters())
            )
            try once.conv.weight.freeze(at: [0, 1, 2, 1], to: 4, route: first)
            let weight = twice.conv.weight
            try weight.freeze(at: [0, 1, 2, 1], to: 4, route: first)
            try weight.freeze(at: [0, 1, 2, 1], to: 4, route: second)
            try weight.freeze(at: [0, 1, 2, 1], route: second)
            #expect(weight.gradientMask?.frozenIndices == [[0, 1, 2, 1]])
            for step in 0..<100 {
                try once.train(onceOptimizer, steps: step..<step + 1)
                try twice.train(optimizer, steps: step..<step + 1)
                #expect(throws: FreezeError.self) { try weight.freeze(at: [0], to: 5, route: second) }
                #expect(bitEqual(once.values, twice.values), "step \(step)")
                #expect(weight.bits(0, 1, 2, 1) == Float(4).bitPattern && weight.freezes.count == 3)
            }
        }
    }

    @Test(arguments: FreezeRoute.allCases)
    func a08_aTrainableElementWithZeroGradientStillDecays(route: FreezeRoute) throws {
        let parameter = Parameter(.ones([3]))
        try parameter.freeze(at: [0], route: route)
        let optimizer = try SGD(parameters: [parameter], learningRate: 0.5, weightDecay: 0.5)
        var expected: Float = 1
        for _ in 0..<100 {
            optimizer.zeroGrad()
            try (parameter.tensor * Tensor([0, 0, -0.0])).sum().backward()
            try optimizer.step()
            expected *= 0.75
            #expect(parameter.value.bitEquals(Tensor([1, expected, expected])))
        }
    }

    // MARK: Gradient

    @Test(arguments: FreezeRoute.allCases, [Float.nan, .infinity, -3])
    func a09_aFrozenGradientIsPlusZeroWhateverTheRawOneIs(route: FreezeRoute, raw: Float) throws {
        let conv = Conv2d(2, 2, 3)
        let optimizer = try AdamW(parameters: conv.parameters(), learningRate: 0.01)
        var image = Tensor.ones([1, 2, 5, 5])
        image[.all, 1] = Tensor(raw)
        try conv(image).sum().backward()
        #expect(conv.weight.grad![element: 0, 1, 0, 0].bitPattern != 0)
        try conv.weight.freeze(at: [.all, 1], route: route)
        let held = conv.weight.value[.all, 1]
        for _ in 0..<100 {
            optimizer.zeroGrad()
            try conv(image).sum().backward()
            for output in 0..<2 {
                #expect(conv.weight.grad![output, 0].scalars == Array(repeating: 9, count: 9))
                #expect(conv.weight.grad![output, 1].scalars.allSatisfy { $0.bitPattern == 0 })
            }
            try optimizer.step()
            #expect(conv.weight.value[.all, 1].bitEquals(held))
            #expect(conv.weight.value[.all, 0].scalars.allSatisfy { $0.isFinite })
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

    @Test(arguments: FreezeRoute.allCases)
    func a11_theClipNormCountsTrainableElementsOnly(route: FreezeRoute) throws {
        let parameter = Parameter(.zeros([4]))
        try parameter.freeze(at: [3], route: route)
        let optimizer = try SGD(parameters: [parameter], learningRate: 0.5)
        for step in 0..<100 {
            let size = Float(1 + step)
            let slope = Tensor([3 * size, 0, -4 * size, 100])
            func gradient() throws {
                optimizer.zeroGrad()
                try (parameter.tensor * slope).sum().backward()
            }
            try gradient()
            #expect(try clipGradNorm([parameter], maxNorm: .infinity, normType: .infinity) == Double(4 * size))
            #expect(try clipGradNorm([parameter], maxNorm: .infinity, normType: 1) == Double(7 * size))
            #expect(try clipGradNorm([parameter], maxNorm: 1) == Double(5 * size))
            let factor = Float(1 / (Double(5 * size) + 1e-6))
            #expect(parameter.grad!.bitEquals(Tensor([3 * size * factor, 0, -4 * size * factor, 0])))
            // Below the accessor that clears frozen elements, as a hand-written training loop might.
            parameter.leaf.grad = slope
            #expect(try clipGradNorm([parameter], maxNorm: 1) == Double(5 * size))
            #expect(parameter.grad!.scalars.last?.bitPattern == 0)
            try optimizer.step()
            #expect(parameter.bits(3) == 0)
        }
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
        let net = FreezingNet.seeded(), weight = net.conv.weight
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05)
        for step in 0..<100 {
            optimizer.zeroGrad()
            try net.accumulate(batch: step)
            let gradient = weight.grad!, value = weight.bits(0, 1, 2, 1)
            let freeze = try weight.freeze(at: [0, 1, 2, 1], route: route)
            var expected = gradient
            expected[0, 1, 2, 1] = 0
            #expect(weight.grad!.bitEquals(expected) && !gradient.bitEquals(expected))
            #expect(weight.grad![element: 0, 1, 2, 1].bitPattern == 0)
            try optimizer.step()
            #expect(weight.bits(0, 1, 2, 1) == value)
            freeze.remove()
        }
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
        let net = FreezingNet.seeded()
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05)
        for step in 0..<100 {
            func inputGradient() throws -> Tensor {
                var image = Tensor.randn([2, 3, 6, 6], generator: Generator(seed: UInt64(step)))
                image.requiresGrad = true
                try net(image).squared().sum().backward()
                return try #require(image.grad)
            }
            let free = try inputGradient()
            let freeze = try net.conv.weight.freeze(at: [.all, 0..<2], route: route)
            #expect(try inputGradient().bitEquals(free))
            freeze.remove()
            try net.train(optimizer, steps: step..<step + 1)
        }
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
            let selections: [ElementSelection] = [
                .at([0, 1, 2, 1]), .at([.all, 3]), .at([4..<12]), .at([.all, .all, 1, 1]),
                .matching { ($0[0] * 31 + $0[1] * 17 + $0[2] * 7 + $0[3]) % 10 != 0 }, .all,
            ]
            for step in 0..<102 {
                let image = Tensor.randn([3, 8, 12, 12], generator: Generator(seed: UInt64(step)))
                conv.zeroGrad()
                try conv(image).squared().sum().backward()
                let weight = conv.weight.grad!, bias = conv.bias!.grad!
                let selection = selections[step % selections.count]
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
}
