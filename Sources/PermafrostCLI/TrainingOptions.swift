import ArgumentParser
import Permafrost

/// The options of `train` that decide what comes out. What isn't given has a default, or in a resumed run the value
/// that the run began with.
struct TrainingOptions: ParsableArguments {
    @Option(
        help: """
            The digits are part of the program, fashion-mnist is in Debian's package dataset-fashion-mnist. (default: \
            digits)
            """)
    var dataset: DatasetName?

    @Option(
        help: ArgumentHelp(
            "The folder with the data set's gzip IDX files.", valueName: "folder"))
    var data: String?

    @Option(help: "(default: cnn)")
    var model: ModelName?

    // Numbers are taken whatever they look like: a negative one is then refused as a number, not as an unknown option.

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Passes over the training images. (default: digits 15, fashion-mnist 5)", valueName: "count"))
    var epochs: Int?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("End after so many steps, if that is sooner.", valueName: "count"))
    var steps: Int?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Images a step. (default: digits 32, fashion-mnist 64)", valueName: "count"))
    var batchSize: Int?

    @Option(help: "(default: sgd)")
    var optimizer: OptimizerName?

    @Option(
        name: [.long, .customLong("lr")], parsing: .unconditional,
        help: ArgumentHelp(
            "The learning rate at the start. (default: sgd 0.05, adam and adamw 0.001)", valueName: "rate"))
    var learningRate: Double?

    @Option(help: "The learning rate's course; cosine goes down to 0 at the last step. (default: cosine)")
    var schedule: ScheduleName?

    @Option(parsing: .unconditional, help: "For sgd. (default: 0.9)")
    var momentum: Double?

    @Flag(help: "Nesterov momentum, for sgd.")
    var nesterov = false

    @Option(parsing: .unconditional, help: ArgumentHelp("(default: sgd and adam 0, adamw 0.01)", valueName: "decay"))
    var weightDecay: Double?

    @Option(parsing: .unconditional, help: "For adam and adamw. (default: 0.9)")
    var beta1: Double?

    @Option(parsing: .unconditional, help: "For adam and adamw. (default: 0.999)")
    var beta2: Double?

    @Option(parsing: .unconditional, help: "For adam and adamw. (default: 1e-08)")
    var epsilon: Double?

    @Option(
        help: ArgumentHelp(
            "Elements to freeze, as in 'conv1.weight[0,0,1,1]=1'; NumPy's slices are allowed, without a value they "
                + "stay where they are. May come several times. none: nothing. (default: conv1.weight[0,0,1,1]=1)",
            valueName: "elements"))
    var freeze: [String] = []

    @Option(
        help: """
            How to hold them: mask (the backward kernel zeroes their gradient), callback (Swift does), recipe (a full \
            backward hook zeroes it), pin (a forward pre-hook writes the value). Under decay or momentum only the \
            first two are exact. (default: mask)
            """)
    var route: FreezeMethod?

    @Option(
        parsing: .unconditional,
        help: "Decides initial weights, the digits' split and the order of images. (default: 0)")
    var seed: UInt64?

    @Option(help: "Whether faster algorithms with other roundings may be used. (default: fast)")
    var numerics: NumericsName?

    /// The configuration of a new run.
    func configuration() throws -> RunConfiguration {
        let dataset = dataset ?? .digits
        let optimizer = optimizer ?? .sgd
        let isAdam = optimizer != .sgd
        let defaults = RunConfiguration(
            dataset: dataset, data: dataset == .digits ? nil : FashionMNIST.defaultDirectory, model: .cnn,
            epochs: dataset == .digits ? 15 : 5, steps: nil, batchSize: dataset == .digits ? 32 : 64,
            optimizer: optimizer, learningRate: isAdam ? 0.001 : 0.05, schedule: .cosine,
            momentum: isAdam ? 0 : 0.9, nesterov: false, weightDecay: optimizer == .adamw ? 0.01 : 0, beta1: 0.9,
            beta2: 0.999, epsilon: 1e-8, freeze: ["conv1.weight[0,0,1,1]=1"], route: .mask, seed: 0,
            numerics: .fast)
        return try changing(defaults)
    }

    /// A configuration with what is given in place of what it has.
    func changing(_ base: RunConfiguration) throws -> RunConfiguration {
        var result = base
        result.dataset = dataset ?? base.dataset
        result.data = data ?? base.data
        result.model = model ?? base.model
        result.epochs = try positive(epochs, "epochs") ?? base.epochs
        result.steps = try positive(steps, "steps") ?? base.steps
        result.batchSize = try positive(batchSize, "batch-size") ?? base.batchSize
        result.optimizer = optimizer ?? base.optimizer
        result.learningRate = learningRate ?? base.learningRate
        result.schedule = schedule ?? base.schedule
        result.momentum = momentum ?? base.momentum
        result.nesterov = nesterov || base.nesterov
        result.weightDecay = weightDecay ?? base.weightDecay
        result.beta1 = beta1 ?? base.beta1
        result.beta2 = beta2 ?? base.beta2
        result.epsilon = epsilon ?? base.epsilon
        if !freeze.isEmpty { result.freeze = freeze.filter { $0 != "none" } }
        result.route = route ?? base.route
        result.seed = seed ?? base.seed
        result.numerics = numerics ?? base.numerics
        try check(result)
        return result
    }

    /// Throws for options that don't make sense together.
    private func check(_ result: RunConfiguration) throws {
        try result.dataset.check(data: data)
        let isAdam = result.optimizer != .sgd
        let misplaced = [
            ("momentum", momentum != nil && isAdam), ("nesterov", nesterov && isAdam),
            ("beta1", beta1 != nil && !isAdam), ("beta2", beta2 != nil && !isAdam),
            ("epsilon", epsilon != nil && !isAdam),
        ]
        if let (option, _) = misplaced.first(where: { $0.1 }) {
            throw Failure("--\(option) means nothing to --optimizer \(result.optimizer.rawValue)")
        }
        if freeze.contains("none") && freeze.count > 1 {
            throw Failure("--freeze none can't stand beside other --freeze options")
        }
    }
}

/// The value of an option that counts something.
func positive(_ value: Int?, _ option: String) throws -> Int? {
    if let value, value <= 0 { throw Failure("--\(option) must be at least 1, not \(value)") }
    return value
}

extension FreezeMethod: ExpressibleByArgument, Codable {}
