import Foundation
import Permafrost
import Testing

/// The same 200 gradients through each optimizer, here and in PyTorch.
@Suite(.enabled(if: PyTorch.isAvailable, PyTorch.reason)) struct OptimizerSequenceTests {
    private static let settings: [OptimizerSetting] = [
        .init(name: .sgd, options: ["lr": 0.05]),
        .init(name: .sgd, options: ["lr": 0.05, "weight_decay": 0.1]),
        .init(name: .sgd, options: ["lr": 0.05, "momentum": 0.9]),
        .init(name: .sgd, options: ["lr": 0.05, "momentum": 0.9, "dampening": 0.3]),
        .init(name: .sgd, options: ["lr": 0.05, "momentum": 0.9, "weight_decay": 0.01], flags: ["nesterov"]),
        .init(name: .sgd, options: ["lr": 0.05, "momentum": 0.5], flags: ["maximize"]),
        .init(name: .adam),
        .init(name: .adam, options: ["lr": 0.02, "beta1": 0.8, "beta2": 0.99, "eps": 1e-4, "weight_decay": 0.1]),
        .init(name: .adam, flags: ["amsgrad"]),
        .init(name: .adam, options: ["weight_decay": 0.1], flags: ["amsgrad", "maximize"]),
        .init(name: .adamw),
        .init(name: .adamw, options: ["lr": 0.01, "weight_decay": 0.3]),
        .init(name: .adamw, options: ["beta1": 0.7, "beta2": 0.9], flags: ["amsgrad"]),
        .init(name: .rmsprop),
        .init(name: .rmsprop, options: ["momentum": 0.9, "weight_decay": 0.01]),
        .init(name: .rmsprop, flags: ["centered"]),
        .init(name: .rmsprop, options: ["alpha": 0.9, "eps": 1e-3, "momentum": 0.5], flags: ["centered", "maximize"]),
        .init(name: .adagrad),
        .init(name: .adagrad, options: ["lr": 0.1, "lr_decay": 0.01, "weight_decay": 0.1, "eps": 1e-3]),
        .init(name: .adagrad, flags: ["maximize"]),
    ]
    private static let steps = 200, elements = 9, every = 10

    /// Ours and PyTorch's in float32 lie within the formula's running error bound. In float64 roundings are 2^-29 times
    /// as large, and so are the bounds on PyTorch's error and on the formula's own: that the two agree as closely as
    /// that shows that the formula is PyTorch's.
    @Test func sameGradientsGiveTheSameParameters() throws {
        let seed = UInt64.random(in: 0 ... .max), generator = Generator(seed: seed)
        var gradients = Tensor.randn([Self.steps, Self.elements], generator: generator)
        for element in 0..<Self.elements {
            // Sizes of 0.1 to 1000: an update that isn't scaled as it should be shows. Where the value's decay is large
            // beside the gradient, errors feed back through the value, and a bound doesn't see that they shrink there.
            let scale = pow(10, -1 + 4 * Float(element) / Float(Self.elements - 1))
            gradients[.all, element] = gradients[.all, element] * scale
        }
        let before = Tensor.randn([Self.elements], generator: generator)

        let after = try inPyTorch(before, gradients)
        for (position, setting) in Self.settings.enumerated() {
            let single = try after.doubles("\(position).float32"), double = try after.doubles("\(position).float64")
            let ours = try values(setting, before, gradients), formula = formulas(setting, before, gradients)
            try #require(ours.count == formula.count && single.count == formula.count && double.count == formula.count)
            for (index, expected) in formula.enumerated() {
                let (row, element) = index.quotientAndRemainder(dividingBy: Self.elements)
                let place = "\(setting), element \(element) after \((row + 1) * Self.every) steps, seed \(seed)"
                #expect(expected.admits(ours[index]), "ours: \(place)")
                #expect(abs(single[index] - expected.value) <= expected.error, "PyTorch's: \(place)")
                #expect(abs(double[index] - expected.value) <= 0x1p-28 * expected.error, "PyTorch's rule: \(place)")
            }
            // A bound that says something: nothing next to the way of the element that went farthest.
            let way = formula.indices.map { abs(formula[$0].value - Double(before.scalars[$0 % Self.elements])) }.max()!
            #expect(formula.map(\.error).max()! < 0.01 * way, "\(setting), seed \(seed)")
        }
    }

    private func inPyTorch(_ before: Tensor, _ gradients: Tensor) throws -> StateDictionary {
        struct Request: Encodable {
            let settings: [OptimizerSetting]
            let every: Int
        }
        let folder = try PeerFolder()
        var given = StateDictionary()
        given["before"] = before
        given["gradients"] = gradients
        try folder.write(given, to: "gradients.safetensors")
        try folder.run("optimizer_sequences.py", request: Request(settings: Self.settings, every: Self.every))
        return try folder.state("after.safetensors")
    }

    private func values(_ setting: OptimizerSetting, _ before: Tensor, _ gradients: Tensor) throws -> [Float] {
        let parameter = Parameter(before), optimizer = try setting.make([parameter])
        var result: [Float] = []
        for step in 0..<Self.steps {
            parameter.grad = gradients[step]
            try optimizer.step()
            if (step + 1) % Self.every == 0 { result += parameter.value.scalars }
        }
        return result
    }

    private func formulas(_ setting: OptimizerSetting, _ before: Tensor, _ gradients: Tensor) -> [Bounded] {
        var formulas = before.scalars.map { OptimizerFormula(setting, value: $0) }
        var result: [Bounded] = []
        for step in 0..<Self.steps {
            for (element, gradient) in gradients[step].scalars.enumerated() {
                formulas[element].step(gradient: Bounded(gradient))
            }
            if (step + 1) % Self.every == 0 { result += formulas.map(\.value) }
        }
        return result
    }
}
