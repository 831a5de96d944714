import Permafrost
import Testing

/// A given sequence of gradients through each optimizer: the values every so many steps.
func compareOptimizers(_ goldens: Goldens) throws {
    for golden in try goldens.cases("optimizer") {
        let parameter = Parameter(try golden.tensor("before"))
        let gradients = try golden.tensor("gradients"), after = try golden.tensor("after")
        let every = Int(try golden.number("every")), steps = gradients.shape[0]
        let optimizer = try makeOptimizer(golden, parameter)
        var formulas = try parameter.value.scalars.map { try OptimizerFormula(golden, value: $0) }
        for step in 0..<steps {
            let gradient = gradients[step]
            parameter.grad = gradient
            try optimizer.step()
            for (element, scalar) in gradient.scalars.enumerated() {
                formulas[element].step(gradient: Bounded(scalar))
            }
            if (step + 1) % every == 0 {
                expect(
                    parameter.value, and: after[step / every], within: formulas.map(\.value),
                    "value after \(step + 1) steps", of: golden)
            }
        }
    }
}

private func makeOptimizer(_ golden: GoldenCase, _ parameter: Parameter) throws -> Optimizer {
    let rate = try golden.number("lr"), name = try golden.text("optimizer")
    let maximize = try golden.flag("maximize", default: false)
    if name == "sgd" {
        return try SGD(
            parameters: [parameter], learningRate: rate, momentum: golden.number("momentum", default: 0),
            dampening: golden.number("dampening", default: 0), weightDecay: golden.number("weight_decay", default: 0),
            nesterov: golden.flag("nesterov", default: false), maximize: maximize)
    }
    if name == "rmsprop" {
        return try RMSprop(
            parameters: [parameter], learningRate: rate, alpha: golden.number("alpha", default: 0.99),
            epsilon: golden.number("eps", default: 1e-8), weightDecay: golden.number("weight_decay", default: 0),
            momentum: golden.number("momentum", default: 0), centered: golden.flag("centered", default: false),
            maximize: maximize)
    }
    if name == "adagrad" {
        return try Adagrad(
            parameters: [parameter], learningRate: rate, learningRateDecay: golden.number("lr_decay", default: 0),
            weightDecay: golden.number("weight_decay", default: 0), epsilon: golden.number("eps", default: 1e-10),
            maximize: maximize)
    }
    let betas = golden.entry.settings["betas"] == nil ? [0.9, 0.999] : try golden.numbers("betas")
    let epsilon = try golden.number("eps", default: 1e-8), amsgrad = try golden.flag("amsgrad", default: false)
    if name == "adam" {
        return try Adam(
            parameters: [parameter], learningRate: rate, betas: (betas[0], betas[1]), epsilon: epsilon,
            weightDecay: golden.number("weight_decay", default: 0), amsgrad: amsgrad, maximize: maximize)
    }
    return try AdamW(
        parameters: [parameter], learningRate: rate, betas: (betas[0], betas[1]), epsilon: epsilon,
        weightDecay: golden.number("weight_decay", default: 0.01), amsgrad: amsgrad, maximize: maximize)
}

/// One element under the update rules of PyTorch's documentation.
private struct OptimizerFormula {
    private(set) var value: Bounded
    private let name: String
    private let rate, rateDecay, decay, momentum, dampening, beta1, beta2, alpha, epsilon: Double
    private let nesterov, maximize, amsgrad, centered: Bool
    private var steps = 0
    private var buffer = Bounded(0.0), second = Bounded(0.0), largest = Bounded(0.0), mean = Bounded(0.0)

    init(_ golden: GoldenCase, value: Float) throws {
        self.value = Bounded(value)
        name = try golden.text("optimizer")
        rate = try golden.number("lr")
        decay = try golden.number("weight_decay", default: name == "adamw" ? 0.01 : 0)
        momentum = try golden.number("momentum", default: 0)
        dampening = try golden.number("dampening", default: 0)
        let betas = golden.entry.settings["betas"] == nil ? [0.9, 0.999] : try golden.numbers("betas")
        (beta1, beta2) = (betas[0], betas[1])
        epsilon = try golden.number("eps", default: name == "adagrad" ? 1e-10 : 1e-8)
        rateDecay = try golden.number("lr_decay", default: 0)
        alpha = try golden.number("alpha", default: 0.99)
        centered = try golden.flag("centered", default: false)
        nesterov = try golden.flag("nesterov", default: false)
        maximize = try golden.flag("maximize", default: false)
        amsgrad = try golden.flag("amsgrad", default: false)
    }

    mutating func step(gradient: Bounded) {
        steps += 1
        var g = maximize ? -gradient : gradient
        if decay != 0, name != "adamw" { g = g + Bounded(decay) * value }
        if name == "sgd" {
            if momentum != 0 {
                buffer = steps == 1 ? g : Bounded(momentum) * buffer + Bounded(1 - dampening) * g
                g = nesterov ? g + Bounded(momentum) * buffer : buffer
            }
            value = value - Bounded(rate) * g
            return
        }
        if name == "rmsprop" {
            second = Bounded(alpha) * second + Bounded(1 - alpha) * g * g
            var variance = second
            if centered {
                // The mean also as an interpolation, as Adam's first moment below.
                mean = .either(Bounded(alpha) * mean + Bounded(1 - alpha) * g, mean + Bounded(1 - alpha) * (g - mean))
                variance = second - mean * mean
            }
            let update = g / (variance.squareRoot() + Bounded(epsilon))
            buffer = momentum == 0 ? update : Bounded(momentum) * buffer + update
            value = value - Bounded(rate) * buffer
            return
        }
        if name == "adagrad" {
            second = second + g * g
            let rate = rate / (1 + Double(steps - 1) * rateDecay)
            value = value - Bounded(rate) * g / (second.squareRoot() + Bounded(epsilon))
            return
        }
        if name == "adamw" { value = value * Bounded(1 - rate * decay) }
        // The first moment also as an interpolation, m + (1 - beta1) (g - m).
        buffer = .either(
            Bounded(beta1) * buffer + Bounded(1 - beta1) * g, buffer + Bounded(1 - beta1) * (g - buffer))
        second = Bounded(beta2) * second + Bounded(1 - beta2) * g * g
        largest = .max(largest, second)
        let correction1 = 1 - power(beta1, steps), correction2 = 1 - power(beta2, steps)
        let denominator =
            (amsgrad ? largest : second).squareRoot() / Bounded(correction2.squareRoot()) + Bounded(epsilon)
        value = value - Bounded(rate / correction1) * buffer / denominator
    }

    private func power(_ base: Double, _ exponent: Int) -> Double {
        (0..<exponent).reduce(1) { product, _ in product * base }
    }
}
