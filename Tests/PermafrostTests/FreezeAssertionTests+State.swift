import CKernels
import Foundation
import Testing

@testable import Permafrost

/// The assertions about what keeps a freeze, and about whole models.
extension FreezeAssertionTests {
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

    @Test(arguments: FreezeRoute.allCases)
    func a20_otherWeightsAreRepinnedOrRefused(route: FreezeRoute) throws {
        let parameter = Parameter(.zeros([2, 2]))
        parameter.name = "fc.weight"
        try parameter.freeze(at: [0, 1], to: 4, route: route)
        for step in 1...100 {
            let other = Float(4 + step)
            try parameter.load(.full([2, 2], other))
            #expect(parameter.value.bitEquals(Tensor([[other, 4], [other, other]])))
            let error = #expect(throws: FreezeError.self) { try parameter.load(.zeros([2, 2]), strict: true) }
            #expect(error?.message == "fc.weight[0,1] is frozen at 4.0; 0.0 can't be loaded into it")
            #expect(parameter.value.bitEquals(Tensor([[other, 4], [other, other]])))
            try parameter.load(Tensor([[7, 4], [7, 7]]), strict: true)
            #expect(parameter.value.bitEquals(Tensor([[7, 4], [7, 7]])))
        }
    }

    @Test(arguments: FreezeRoute.allCases, OptimizerKind.allCases)
    func a20_aCheckpointHoldsFreezesAndTrainsOnToTheSameBits(route: FreezeRoute, kind: OptimizerKind) throws {
        func make() throws -> (FreezingNet, Optimizer) {
            let net = FreezingNet.seeded()
            return (net, try kind.make(net.parameters()))
        }
        let (whole, wholeOptimizer) = try make()
        try whole.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route, name: "tap")
        try whole.conv.weight.freeze(at: [1], route: route)
        try whole.fc.weight.freeze(at: [0], route: route, name: "off").disable()
        try whole.train(wholeOptimizer, steps: 0..<50)
        let folder = TemporaryFolder(), path = folder.path("checkpoint.safetensors")
        try Checkpoint(of: whole, optimizer: wholeOptimizer).write(to: path)
        let records = whole.parameters().map { $0.freezes.map(\.record) }

        let (resumed, optimizer) = try make()
        try Checkpoint.read(path).restore(resumed, optimizer: optimizer)
        #expect(resumed.parameters().map { $0.freezes.map(\.record) } == records)
        for step in 50..<150 {
            try whole.train(wholeOptimizer, steps: step..<step + 1)
            try resumed.train(optimizer, steps: step..<step + 1)
            #expect(bitEqual(whole.values, resumed.values), "step \(step)")
            #expect(resumed.conv.weight.bits(0, 1, 2, 1) == Float(1).bitPattern)
        }
        #expect(resumed.fc.weight.gradientMask == nil)
    }

    @Test(arguments: FreezeRoute.allCases)
    func a21_aCopyKeepsTheFreezeAndIsIndependent(route: FreezeRoute) throws {
        let net = FreezingNet.seeded()
        try net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route, name: "tap")
        let copy = try net.copied(by: { FreezingNet() }), before = net.values
        #expect(bitEqual(copy.values, before))
        let optimizer = try AdamW(parameters: copy.parameters(), learningRate: 0.01)
        for step in 0..<100 {
            try copy.train(optimizer, steps: step..<step + 1)
            #expect(copy.conv.weight.bits(0, 1, 2, 1) == Float(1).bitPattern)
        }
        #expect(!bitEqual(copy.values, before) && bitEqual(net.values, before) && net.conv.weight.freezes.count == 1)
        copy.conv.weight.freezes(named: "tap")[0].remove()
        #expect(net.conv.weight.gradientMask?.frozenIndices == [[0, 1, 2, 1]])
    }

    @Test(arguments: FreezeRoute.allCases, [AveragedParameters.Weighting.exponential(decay: 0.9), .equal])
    func a22_averagesHoldThePinnedValue(route: FreezeRoute, weighting: AveragedParameters.Weighting) throws {
        let net = FreezingNet.seeded()
        let weight = net.conv.weight
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05)
        let averages = try AveragedParameters(net.parameters(), weighting)
        // 0.1 has no exact float, so that an average computed by arithmetic would show.
        try weight.freeze(at: [0, 1, 2, 1], to: 0.1, route: route)
        for step in 0..<100 {
            try net.train(optimizer, steps: step..<step + 1)
            averages.update()
            // Half-way another element, which has an average of its own by then.
            if step == 50 { try weight.freeze(at: [0, 0, 0, 0], to: 0.7, route: route) }
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

    @Test(arguments: FreezeRoute.allCases)
    func a23_keysAreTheSameWithAndWithoutAMask(route: FreezeRoute) throws {
        func keys(frozen: Bool) throws -> [String] {
            let net = FreezingNet.seeded(), optimizer = try Adam(parameters: net.parameters())
            if frozen {
                try net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
                try net.fc.bias!.freeze(at: [0], route: route)
            }
            try net.train(optimizer, steps: 0..<100)
            let file = try Safetensors(bytes: net.stateDictionary().safetensors().serialized())
            #expect(Set(net.stateDictionary().names) == Set(file.tensors.keys))
            return net.stateDictionary().names + optimizer.stateDictionary().tensors.keys.sorted()
        }
        let free = try keys(frozen: false)
        #expect(try keys(frozen: true) == free)
        #expect(free.prefix(4) == ["conv.weight", "conv.bias", "fc.weight", "fc.bias"] && free.count == 12)
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

    @Test(arguments: FreezeRoute.allCases)
    func a25_theMaskIsNeverDerivedFromValues(route: FreezeRoute) throws {
        let parameter = Parameter(.zeros([3]))
        try parameter.freeze(at: [0], to: 0, route: route)
        let optimizer = try SGD(parameters: [parameter], learningRate: 0.5)
        for _ in 0..<100 {
            parameter.value = .zeros([3])
            optimizer.zeroGrad()
            try parameter.tensor.sum().backward()
            try optimizer.step()
            #expect(parameter.value.bitEquals(Tensor([0, -0.5, -0.5])))
        }
        #expect(parameter.gradientMask?.frozenIndices == [[0]])
    }

    @Test(arguments: FreezeRoute.allCases)
    func a26_maskingShardsBeforeOrAfterTheSumGivesTheSameBits(route: FreezeRoute) throws {
        try withExecution(numerics: .exact) {
            let net = FreezingNet.seeded(), weight = net.conv.weight
            let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05)
            for step in 0..<100 {
                func shards() throws -> Tensor {
                    net.zeroGrad()
                    try net.accumulate(batch: 2 * step)
                    try net.accumulate(batch: 2 * step + 1)
                    return weight.grad!
                }
                var after = try shards()
                after[.all, 1, 0..<2] = 0
                let freeze = try weight.freeze(at: [.all, 1, 0..<2], route: route)
                #expect(try shards().bitEquals(after))
                freeze.remove()
                try optimizer.step()
            }
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

    @Test(arguments: FreezeRoute.allCases, OptimizerKind.allCases)
    func a30_nothingFrozenIsNoMask(route: FreezeRoute, kind: OptimizerKind) throws {
        let ends = try [false, true].map { frozenBefore in
            let net = FreezingNet.seeded()
            if frozenBefore {
                // Frozen where they are, and thawed: only the masks come and go.
                let handles = try net.freeze(route: route)
                for handle in handles { handle.remove() }
                try net.conv.weight.freeze(at: [0], route: route).disable()
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

    /// The kernel gets operands that can't be read, and doesn't read them.
    @Test func a30_everythingFrozenSkipsTheWeightGradient() throws {
        let bytes = 1 << 20
        let mapped = mmap(nil, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANON, -1, 0)
        let unreadable = try #require(mapped != MAP_FAILED ? mapped : nil).assumingMemoryBound(to: Float.self)
        defer { munmap(unreadable, bytes) }
        var problem = pf_convolution2d(
            batch: 4, input_channels: 8, input_height: 12, input_width: 12, output_channels: 16, kernel_height: 3,
            kernel_width: 3, stride_height: 1, stride_width: 1, padding_top: 1, padding_bottom: 1, padding_left: 1,
            padding_right: 1, dilation_height: 1, dilation_width: 1, groups: 1)
        let mask = [UInt8](repeating: 0, count: 16 * 8 * 9)
        for writing in [pf_overwrite, pf_accumulate] {
            for _ in 0..<100 {
                var gradient = [Float](repeating: .nan, count: mask.count)
                let status = withKernelContext {
                    pf_convolution2d_weight_gradient($0, &problem, unreadable, unreadable, mask, writing, &gradient)
                }
                #expect(status == pf_ok && gradient.allSatisfy { $0.bitPattern == 0 })
            }
        }
    }
}
