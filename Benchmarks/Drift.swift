import Permafrost

/// The question behind this library as an experiment: does one element of a convolution's weight, set to 1 and frozen,
/// stay there?
///
/// A `Conv2d(3, 1, 3)` sees one random 1x3x10x10 image in every step and follows the mean of its output.
struct Drift {
    static let index = [0, 1, 2, 1]
    static let value: Float = 1
    static let steps = 20

    /// An optimizer, and when the element is frozen.
    struct Setting: Sendable {
        enum Rule: String, Sendable { case sgd, adam, adamw }

        let name: String
        let rule: Rule
        var momentum = 0.0
        var weightDecay = 0.0
        /// The step before which the element is set and frozen: 0 for the start.
        var freezeAt = 0

        static let learningRate = 0.05
        static let all = [
            Setting(name: "SGD", rule: .sgd),
            Setting(name: "SGD, weight decay 0.1", rule: .sgd, weightDecay: 0.1),
            Setting(name: "SGD, momentum 0.9, frozen at step 10", rule: .sgd, momentum: 0.9, freezeAt: 10),
            Setting(name: "Adam, frozen at step 10", rule: .adam, freezeAt: 10),
            Setting(name: "AdamW", rule: .adamw, weightDecay: 0.01),
        ]

        func optimizer(of parameters: [Parameter]) throws -> Optimizer {
            let rate = Setting.learningRate
            switch rule {
            case .sgd:
                return try SGD(
                    parameters: parameters, learningRate: rate, momentum: momentum, weightDecay: weightDecay)
            case .adam: return try Adam(parameters: parameters, learningRate: rate, weightDecay: weightDecay)
            case .adamw: return try AdamW(parameters: parameters, learningRate: rate, weightDecay: weightDecay)
            }
        }
    }

    /// What holds the element.
    enum Way: CaseIterable, Sendable {
        /// The freeze through the kernels' mask.
        case mask
        /// The freeze through a callback.
        case callback
        /// A full backward hook that zeroes the gradient.
        case recipe
        /// A forward pre-hook that writes the value.
        case pin
    }

    let weight, bias, input: Tensor

    init(seed: UInt64) {
        let generator = Generator(seed: seed)
        // PyTorch's own default for a convolution with 27 inputs an output.
        let limit = 1 / Float(27).squareRoot()
        weight = .uniform([1, 3, 3, 3], in: -limit..<limit, generator: generator)
        bias = .uniform([1], in: -limit..<limit, generator: generator)
        input = .randn([1, 3, 10, 10], generator: generator)
    }

    /// The element's value after the last step.
    func finalValue(_ setting: Setting, inputGrad: Bool, way: Way) throws -> Float {
        let conv = Conv2d(3, 1, 3)
        conv.weight.value = weight
        conv.bias?.value = bias
        var x = input
        x.requiresGrad = inputGrad
        let optimizer = try setting.optimizer(of: conv.parameters())
        for step in 0..<Drift.steps {
            if step == setting.freezeAt { try hold(conv, way) }
            optimizer.zeroGrad()
            try conv(x).mean().backward()
            try optimizer.step()
        }
        return conv.weight.value[element: 0, 1, 2, 1]
    }

    private func hold(_ conv: Conv2d, _ way: Way) throws {
        switch way {
        case .mask:
            try conv.weight.freeze(at: [0, 1, 2, 1], to: Drift.value)
        case .callback:
            try conv.weight.freeze(at: [0, 1, 2, 1], to: Drift.value, route: .callback)
        case .recipe:
            conv.weight[element: 0, 1, 2, 1] = Drift.value
            conv.registerFullBackwardHook { conv, _, _ in
                conv.weight.grad?[0, 1, 2, 1] = 0
                return nil
            }
        case .pin:
            conv.pin(\.weight, at: [0, 1, 2, 1], to: Drift.value)
        }
    }
}
