import Permafrost

/// An optimizer with its settings, under PyTorch's names; both of Adam's `betas` have their own.
struct OptimizerSetting: Encodable, Sendable, CustomStringConvertible {
    enum Name: String, Encodable {
        case sgd, adam, adamw, rmsprop, adagrad
    }

    let name: Name
    var options: [String: Double] = [:]
    /// Those that are on.
    var flags: Set<String> = []

    var description: String {
        let settings = options.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" } + flags.sorted()
        return "\(name.rawValue) (\(settings.joined(separator: ", ")))"
    }

    /// The value of an option; PyTorch's default where it isn't set.
    func option(_ option: String) -> Double {
        switch option {
        case _ where options[option] != nil: options[option]!
        case "lr": name == .rmsprop || name == .adagrad ? 0.01 : 0.001
        case "weight_decay": name == .adamw ? 0.01 : 0
        case "beta1": 0.9
        case "beta2": 0.999
        case "alpha": 0.99
        case "eps": name == .adagrad ? 1e-10 : 1e-8
        case "momentum", "dampening", "lr_decay": 0
        default: preconditionFailure("no optimizer has an option \(option)")
        }
    }

    func make(_ parameters: [Parameter]) throws -> Optimizer {
        let rate = option("lr"), decay = option("weight_decay"), maximize = flags.contains("maximize")
        let betas = (option("beta1"), option("beta2")), amsgrad = flags.contains("amsgrad")
        switch name {
        case .sgd:
            return try SGD(
                parameters: parameters, learningRate: rate, momentum: option("momentum"),
                dampening: option("dampening"), weightDecay: decay, nesterov: flags.contains("nesterov"),
                maximize: maximize)
        case .adam:
            return try Adam(
                parameters: parameters, learningRate: rate, betas: betas, epsilon: option("eps"), weightDecay: decay,
                amsgrad: amsgrad, maximize: maximize)
        case .adamw:
            return try AdamW(
                parameters: parameters, learningRate: rate, betas: betas, epsilon: option("eps"), weightDecay: decay,
                amsgrad: amsgrad, maximize: maximize)
        case .rmsprop:
            return try RMSprop(
                parameters: parameters, learningRate: rate, alpha: option("alpha"), epsilon: option("eps"),
                weightDecay: decay, momentum: option("momentum"), centered: flags.contains("centered"),
                maximize: maximize)
        case .adagrad:
            return try Adagrad(
                parameters: parameters, learningRate: rate, learningRateDecay: option("lr_decay"), weightDecay: decay,
                epsilon: option("eps"), maximize: maximize)
        }
    }
}
