/// One element under the update rules of PyTorch's documentation.
struct OptimizerFormula {
    private(set) var value: Bounded
    private let name: OptimizerSetting.Name
    private let rate, decay, momentum, dampening, beta1, beta2, alpha, epsilon, rateDecay: Double
    private let nesterov, amsgrad, centered, maximize: Bool
    private var steps = 0
    private var first = Bounded(0.0), second = Bounded(0.0), largest = Bounded(0.0), buffer = Bounded(0.0)

    init(_ setting: OptimizerSetting, value: Float) {
        self.value = Bounded(value)
        name = setting.name
        rate = setting.option("lr")
        decay = setting.option("weight_decay")
        momentum = setting.option("momentum")
        dampening = setting.option("dampening")
        (beta1, beta2) = (setting.option("beta1"), setting.option("beta2"))
        alpha = setting.option("alpha")
        epsilon = setting.option("eps")
        rateDecay = setting.option("lr_decay")
        nesterov = setting.flags.contains("nesterov")
        amsgrad = setting.flags.contains("amsgrad")
        centered = setting.flags.contains("centered")
        maximize = setting.flags.contains("maximize")
    }

    mutating func step(gradient: Bounded) {
        steps += 1
        var g = maximize ? -gradient : gradient
        if decay != 0, name != .adamw { g = g + Bounded(decay) * value }
        switch name {
        case .sgd:
            value = value - Bounded(rate) * direction(g)
        case .adam, .adamw:
            if name == .adamw { value = value * Bounded(1 - rate * decay) }
            let correction1 = 1 - power(beta1, steps), correction2 = 1 - power(beta2, steps)
            first = mean(first, g, beta1)
            second = Bounded(beta2) * second + Bounded(1 - beta2) * g * g
            largest = .max(largest, second)
            let denominator =
                (amsgrad ? largest : second).squareRoot() / Bounded(correction2.squareRoot()) + Bounded(epsilon)
            value = value - Bounded(rate / correction1) * first / denominator
        case .rmsprop:
            second = Bounded(alpha) * second + Bounded(1 - alpha) * g * g
            var square = second
            if centered {
                first = mean(first, g, alpha)
                square = square - first * first
            }
            let change = g / (square.squareRoot() + Bounded(epsilon))
            buffer = momentum == 0 ? change : Bounded(momentum) * buffer + change
            value = value - Bounded(rate) * buffer
        case .adagrad:
            second = second + g * g
            let step = rate / (1 + Double(steps - 1) * rateDecay)
            value = value - Bounded(step) * g / (second.squareRoot() + Bounded(epsilon))
        }
    }

    /// Where SGD goes; its first step sets the buffer to the gradient.
    private mutating func direction(_ g: Bounded) -> Bounded {
        if momentum == 0 { return g }
        buffer = steps == 1 ? g : Bounded(momentum) * buffer + Bounded(1 - dampening) * g
        return nesterov ? g + Bounded(momentum) * buffer : buffer
    }

    /// As a weighted sum, or as an interpolation, m + (1 - weight) (g - m).
    private func mean(_ m: Bounded, _ g: Bounded, _ weight: Double) -> Bounded {
        // The interpolation has m twice: its error counts once, by the weight that m has in all.
        let rounded =
            Bounded(m.value) + Bounded(1 - weight) * (Bounded(g.value) - Bounded(m.value))
        let propagated =
            weight * m.error + (1 - weight) * g.error + 4 * Bounded.rounding * (m.error + g.error)
        return .either(
            Bounded(weight) * m + Bounded(1 - weight) * g,
            Bounded(value: rounded.value, error: rounded.error + propagated))
    }

    private func power(_ base: Double, _ exponent: Int) -> Double {
        (0..<exponent).reduce(1) { product, _ in product * base }
    }
}
