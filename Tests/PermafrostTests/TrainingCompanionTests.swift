import Testing

@testable import Permafrost

/// Clipping, averages, constraints, and freezes that come and go with time.
@Suite struct TrainingCompanionTests {
    private func parameter(gradient: [Float]) -> Parameter {
        let parameter = Parameter(.zeros([gradient.count]))
        parameter.grad = Tensor(gradient)
        return parameter
    }

    @Test func clippingByNormScalesAllGradientsTogether() throws {
        let a = parameter(gradient: [3, 0]), b = parameter(gradient: [0, -4])
        #expect(try clipGradNorm([a, b], maxNorm: 10) == 5)
        #expect(a.grad?.scalars == [3, 0])
        #expect(try clipGradNorm([a, b], maxNorm: 2.5) == 5)
        // PyTorch's factor: maxNorm / (norm + 1e-6).
        let factor = Float(2.5 / (5 + 1e-6))
        #expect(a.grad?.scalars == [3 * factor, 0])
        #expect(b.grad?.scalars == [0, -4 * factor])
    }

    @Test func clippingByNormReportsWhatIsNotFinite() throws {
        let a = parameter(gradient: [1, .nan]), b = parameter(gradient: [2])
        #expect(throws: OptimizerError.self) { try clipGradNorm([a, b], maxNorm: 1, errorIfNonFinite: true) }
        #expect(b.grad?.scalars == [2])
        #expect(try clipGradNorm([a, b], maxNorm: 1, normType: .infinity).isNaN)
        #expect(throws: OptimizerError.self) { try clipGradNorm([b], maxNorm: -1) }
        #expect(throws: OptimizerError.self) { try clipGradNorm([b], maxNorm: 1, normType: 0.5) }
    }

    @Test func clippingByValueLimitsEachElement() throws {
        let a = parameter(gradient: [0.25, -3, 7, -0.5, .infinity])
        try clipGradValue([a, Parameter(.zeros([1]))], clipValue: 0.5)
        #expect(a.grad?.scalars == [0.25, -0.5, 0.5, -0.5, 0.5])
        #expect(throws: OptimizerError.self) { try clipGradValue([a], clipValue: -1) }
    }

    @Test func averagesOfSmallIntegersAreExact() throws {
        let parameter = Parameter(Tensor([8, 0]))
        let exponential = try AveragedParameters([parameter], .exponential(decay: 0.75))
        let equal = try AveragedParameters([parameter], .equal)
        for value in [Tensor([8, 0]), Tensor([16, 4]), Tensor([24, 8]), Tensor([32, 4])] {
            parameter.value = value
            exponential.update()
            equal.update()
        }
        #expect(equal.values[0].scalars == [20, 4])
        // 8 -> 10 -> 13.5 -> 18.125; 0 -> 1 -> 2.75 -> 3.0625
        #expect(exponential.values[0].scalars == [18.125, 3.0625])
        let saved = equal.state()
        let resumed = try AveragedParameters([parameter], .equal)
        try resumed.load(averages: saved.averages, updateCount: saved.updateCount)
        parameter.value = Tensor([0, 14])
        resumed.update()
        equal.update()
        #expect(resumed.values[0].scalars == [16, 6])
        #expect(resumed.values[0].bitEquals(equal.values[0]))
        #expect(throws: OptimizerError.self) { try resumed.load(averages: [.zeros([3])], updateCount: 1) }
        #expect(throws: OptimizerError.self) { try AveragedParameters([parameter], .exponential(decay: 1.5)) }
    }

    @Test func bayarsConstraintHoldsWithAFrozenCentre() throws {
        let conv = Conv2d(1, 2, 3, bias: false)
        conv.weight.constraints = [BayarConstraint()]
        try conv.weight.freeze(at: [.all, .all, 1, 1], to: -1)
        let optimizer = try Adam(parameters: conv.parameters(), learningRate: 0.01)
        for step in 0..<100 {
            optimizer.zeroGrad()
            try conv(.randn([2, 1, 6, 6], generator: Generator(seed: UInt64(step)))).squared().mean().backward()
            try optimizer.step()
            for filter in 0..<2 {
                let taps = conv.weight.value[filter, 0].scalars
                #expect(taps[4].bitPattern == Float(-1).bitPattern)
                // Each of 8 taps is rounded once, by 2^-24 of its magnitude.
                let sum = taps.reduce(0.0) { $0 + Double($1) }, scale = taps.reduce(0.0) { $0 + Double(abs($1)) }
                #expect(abs(sum) <= scale * 0x1p-24)
            }
        }
    }

    @Test func projectionsComeBeforeFrozenValues() throws {
        let parameter = Parameter(Tensor([[3, 4], [0, 0], [-6, 8]]))
        parameter.constraints = [UnitNorm(), NonNegative()]
        try parameter.freeze(at: [2, 0], to: -6)
        let optimizer = try SGD(parameters: [parameter], learningRate: 1)
        parameter.grad = .zeros([3, 2])
        try optimizer.step()
        #expect(parameter.value.scalars == [0.6, 0.8, 0, 0, -6, 0.8])
    }

    @Test func aBayarConstraintNeedsKernelsWithACentre() throws {
        let parameter = Parameter(.ones([1, 1, 2, 2]))
        parameter.constraints = [BayarConstraint()]
        parameter.grad = .ones([1, 1, 2, 2])
        let optimizer = try SGD(parameters: [parameter], learningRate: 1)
        #expect(throws: FreezeError.self) { try optimizer.step() }
    }

    @Test func scheduledFreezesStartAndEnd() throws {
        let parameter = Parameter(.zeros([3]))
        let schedule = FreezeSchedule()
        try schedule.freeze(parameter, .at([0]), to: 5, until: .epoch(1))
        try schedule.freeze(parameter, .at([1]), from: .step(3))
        try schedule.freeze(parameter, .at([0]), to: 6, from: .epoch(1), until: .step(8))
        let optimizer = try SGD(parameters: [parameter], learningRate: 1)
        var values: [[Float]] = []
        for step in 0..<10 {
            try schedule.begin(step: step, epoch: step / 5)
            parameter.grad = .ones([3])
            try optimizer.step()
            values.append(parameter.value.scalars)
        }
        #expect(values.map { $0[0] } == [5, 5, 5, 5, 5, 6, 6, 6, 5, 4])
        #expect(values.map { $0[1] } == [-1, -2, -3, -3, -3, -3, -3, -3, -3, -3])
        #expect(values.map { $0[2] } == (1...10).map { -Float($0) })
    }

    @Test func aScheduleMadeAnewGoesOnFromRestoredFreezes() throws {
        func plan(_ parameter: Parameter) throws -> FreezeSchedule {
            let schedule = FreezeSchedule()
            try schedule.freeze(parameter, .at([1]), from: .step(3), until: .step(20))
            return schedule
        }
        let parameter = Parameter(.zeros([2]))
        try plan(parameter).begin(step: 3, epoch: 0)
        parameter.value = .ones([2])
        let resumed = Parameter(parameter.value)
        try resumed.restore(parameter.freezes.map(\.record))
        let schedule = try plan(resumed)
        try schedule.begin(step: 4, epoch: 0)
        #expect(resumed.freezes.count == 1 && resumed.gradientMask?.frozenValues == [0])
        try schedule.begin(step: 20, epoch: 0)
        #expect(resumed.gradientMask == nil)
    }

    @Test func aScheduleRefusesWhatDoesNotFit() throws {
        let parameter = Parameter(.zeros([2]))
        let schedule = FreezeSchedule()
        #expect(throws: FreezeError.self) { try schedule.freeze(parameter, .at([2])) }
        try schedule.freeze(parameter, name: "all")
        #expect(throws: FreezeError.self) { try schedule.freeze(parameter, name: "all") }
    }
}
