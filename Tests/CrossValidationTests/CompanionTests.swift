import Foundation
import Permafrost
import Testing

/// What accompanies an optimizer, here and in PyTorch: schedules of learning rates, parameter groups, clipping by norm,
/// and averages.
@Suite(.enabled(if: PyTorch.isAvailable, PyTorch.reason)) struct CompanionTests {
    private static let steps = 60, elements = 10, maxNorm = 2.0, decay = 0.9

    /// An optimizer whose two groups differ.
    private struct Setting: Encodable {
        let name: OptimizerSetting.Name
        let groups: [[String: Double]]

        /// The settings of one group alone.
        func setting(ofGroup group: Int) -> OptimizerSetting { OptimizerSetting(name: name, options: groups[group]) }

        func make(_ parameters: [Parameter]) throws -> Optimizer {
            func number(_ group: Int, _ option: String) -> Double { setting(ofGroup: group).option(option) }
            switch name {
            case .sgd:
                return try SGD(
                    groups: parameters.enumerated().map { group, parameter in
                        ParameterGroup([parameter]) { options in
                            options.learningRate = number(group, "lr")
                            options.momentum = number(group, "momentum")
                            options.weightDecay = number(group, "weight_decay")
                        }
                    }, learningRate: 1)
            default:
                return try AdamW(
                    groups: parameters.enumerated().map { group, parameter in
                        ParameterGroup([parameter]) { options in
                            options.learningRate = number(group, "lr")
                            options.weightDecay = number(group, "weight_decay")
                        }
                    })
            }
        }
    }

    private static let settings = [
        Setting(name: .sgd, groups: [["lr": 0.05, "momentum": 0.9, "weight_decay": 0.01], ["lr": 0.3]]),
        Setting(name: .adamw, groups: [["lr": 0.01, "weight_decay": 0.2], ["lr": 0.002, "weight_decay": 0]]),
    ]

    private struct Request: Encodable {
        let steps: Int
        let metrics: [Double]
        let optimizers: [Setting]
        let maxNorm: Double
        let decay: Double

        enum CodingKeys: String, CodingKey {
            case steps, metrics, optimizers, decay
            case maxNorm = "max_norm"
        }
    }

    private struct Rates: Decodable {
        let rates: [[Double]]
        let momenta: [Double]
    }

    @Test func companionsAreNumericallyPyTorchs() throws {
        let seed = UInt64.random(in: 0 ... .max), generator = Generator(seed: seed)
        let metrics = Tensor.rand([Self.steps], generator: generator).scalars.enumerated().map { step, noise in
            1 / Double(1 + step) + 0.2 * Double(noise)
        }
        let before = Tensor.randn([Self.elements], generator: generator)
        let gradients = Tensor.randn([Self.steps, Self.elements], generator: generator)
        let folder = try PeerFolder()
        var given = StateDictionary()
        given["before"] = before
        given["gradients"] = gradients
        try folder.write(given, to: "gradients.safetensors")
        let request = Request(
            steps: Self.steps, metrics: metrics, optimizers: Self.settings, maxNorm: Self.maxNorm, decay: Self.decay)
        let answer = try folder.run("companions.py", request: request)
        let rates = try JSONDecoder().decode([String: Rates].self, from: answer)
        try compareSchedules(rates, metrics, "seed \(seed)")
        let after = try folder.state("after.safetensors")
        for position in Self.settings.indices {
            try compareTraining(position, before, gradients, after, "\(Self.settings[position]), seed \(seed)")
        }
    }

    // MARK: Schedules

    /// PyTorch gets some rates from the one before; what that rounds differently stays below 10^-12 of the base rate.
    private func compareSchedules(_ torch: [String: Rates], _ metrics: [Double], _ context: String) throws {
        let schedules: [String: LearningRateSchedule] = [
            "step": .step(size: 7, gamma: 0.5),
            "multi_step": .multiStep(milestones: [5, 12, 30], gamma: 0.3),
            "exponential": .exponential(gamma: 0.93),
            "cosine": .cosine(steps: 25, minimum: 0.001),
            "warm_up": .linear(from: 0.25, steps: 8),
            "warm_up_cosine": .linear(from: 0.1, steps: 6).then(after: 6, .cosine(steps: 30)),
            "one_cycle": .oneCycle(
                maximum: 0.4, steps: 61, rising: 0.25, initialDivisor: 20, finalDivisor: 500),
        ]
        #expect(Set(torch.keys) == Set(schedules.keys).union(["plateau_min", "plateau_max"]))
        func makeOptimizer() throws -> SGD {
            let slower = ParameterGroup<SGD.Options>([Parameter(.ones([1]))]) { $0.learningRate = 0.02 }
            return try SGD(groups: [ParameterGroup([Parameter(.ones([1]))]), slower], learningRate: 0.1, momentum: 0.9)
        }
        for (name, expected) in torch {
            let optimizer = try makeOptimizer()
            let advance: (Int) throws -> Void
            if let schedule = schedules[name] {
                let scheduler = LRScheduler(optimizer, schedule)
                advance = { _ in try scheduler.step() }
            } else {
                let plateau = try name == "plateau_min"
                    ? ReduceLROnPlateau(
                        optimizer, factor: 0.5, patience: 2, threshold: 0.01, cooldown: 1, minimum: 0.003)
                    : ReduceLROnPlateau(
                        optimizer, mode: .max, factor: 0.3, patience: 1, threshold: 0.05, thresholdMode: .absolute)
                advance = { plateau.step(metrics[$0]) }
            }
            for step in 0..<Self.steps {
                for (ours, theirs) in zip(optimizer.learningRates, expected.rates[step]) {
                    #expect(abs(ours - theirs) <= 1e-13, "\(name), step \(step), \(context)")
                }
                #expect(abs(optimizer.options[0].momentum - expected.momenta[step]) <= 1e-13, "\(name), step \(step)")
                try advance(step)
            }
        }
    }

    // MARK: Groups, clipping, averages

    private func compareTraining(
        _ position: Int, _ before: Tensor, _ gradients: Tensor, _ after: StateDictionary, _ context: String
    ) throws {
        let setting = Self.settings[position], half = Self.elements / 2
        let parameters = [Parameter(before[..<half]), Parameter(before[half...])]
        let optimizer = try setting.make(parameters)
        let averages = try [.exponential(decay: Self.decay), .equal].map { try AveragedParameters(parameters, $0) }
        var formulas = before.scalars.enumerated().map { element, value in
            OptimizerFormula(setting.setting(ofGroup: element / half), value: value)
        }
        var expected = [[Bounded]](repeating: [], count: 2), norms: [(ours: Double, exact: Bounded)] = []
        for step in 0..<Self.steps {
            parameters[0].grad = gradients[step, ..<half]
            parameters[1].grad = gradients[step, half...]
            let ours = try clipGradNorm(parameters, maxNorm: Self.maxNorm)
            try optimizer.step()
            averages.forEach { $0.update() }

            let raw = gradients[step].scalars.map { Bounded($0) }
            let norm = Bounded.sum(raw.map { $0 * $0 }).squareRoot()
            norms.append((ours, norm))
            let factor = Bounded(Self.maxNorm) / (norm + Bounded(1e-6))
            let clip = Bounded(value: min(1, factor.value), error: factor.error)
            for element in raw.indices { formulas[element].step(gradient: raw[element] * clip) }
            let values = formulas.map(\.value)
            if step == 0 {
                expected = [values, values]
            } else {
                for (kind, weight) in [1 - Self.decay, 1 / Double(step + 1)].enumerated() {
                    expected[kind] = zip(expected[kind], values).map { average, value in
                        average + Bounded(weight) * (value - average)
                    }
                }
            }
        }
        try expect(parameters.flatMap(\.value.scalars), formulas.map(\.value), "value", position, after, context)
        for (kind, name) in ["exponential", "equal"].enumerated() {
            try expect(averages[kind].values.flatMap(\.scalars), expected[kind], name, position, after, context)
        }
        try expect(norms.map { Float($0.ours) }, norms.map(\.exact), "norms", position, after, context)
    }

    /// Ours and PyTorch's float32 lie within the bound. Its float64, whose roundings are 2^-29 times as large, lies
    /// within as much less, twice: the formula is computed in float64 too.
    private func expect(
        _ ours: [Float], _ formula: [Bounded], _ name: String, _ position: Int, _ after: StateDictionary,
        _ context: String
    ) throws {
        let single = try after.doubles("\(position).float32.\(name)")
        let double = try after.doubles("\(position).float64.\(name)")
        try #require(ours.count == formula.count && single.count == formula.count && double.count == formula.count)
        for (index, expected) in formula.enumerated() {
            #expect(expected.admits(ours[index]), "our \(name) \(index), \(context)")
            #expect(abs(single[index] - expected.value) <= expected.error, "PyTorch's \(name) \(index), \(context)")
            #expect(abs(double[index] - expected.value) <= 0x1p-28 * expected.error, "the rule of \(name), \(context)")
        }
        #expect(formula.map(\.error).max()! < 1e-2, "a bound that says something: \(name), \(context)")
    }
}
