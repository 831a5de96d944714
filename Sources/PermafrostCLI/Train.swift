import ArgumentParser
import Foundation
import Permafrost

struct Train: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Trains a network and audits its frozen elements.",
        discussion: """
            Without arguments: a small network on the optical digits, with conv1.weight[0,0,1,1] frozen at 1. Exit \
            code 2 means that a frozen element has other bits in the saved weights than before training.
            """)

    @Option(help: "digits (part of the program) or fashion-mnist (Debian's package dataset-fashion-mnist).")
    var dataset = DatasetName.digits

    @Option(
        help: ArgumentHelp(
            "The folder with the data set's gzip IDX files.", valueName: "folder"))
    var data: String?

    @Option(help: "cnn, lenet or resnet20.")
    var model = ModelName.cnn

    // Numbers are taken whatever they look like: a negative one is then refused as a number, not as an unknown option.

    @Option(parsing: .unconditional, help: ArgumentHelp("Passes over the training images.", valueName: "count"))
    var epochs: Int?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("End after so many steps, if that is sooner.", valueName: "count"))
    var steps: Int?

    @Option(parsing: .unconditional, help: ArgumentHelp("Images a step.", valueName: "count"))
    var batchSize: Int?

    @Option(help: "sgd, adam or adamw.")
    var optimizer = OptimizerName.sgd

    @Option(
        name: [.long, .customLong("lr")], parsing: .unconditional,
        help: ArgumentHelp(
            "The learning rate at the start. (default: sgd 0.05, adam and adamw 0.001)", valueName: "rate"))
    var learningRate: Double?

    @Option(help: "The learning rate's course: cosine, down to 0 at the last step, or constant.")
    var schedule = ScheduleName.cosine

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
            first two are exact.
            """)
    var route = FreezeMethod.mask

    @Option(parsing: .unconditional, help: "Decides initial weights, the digits' split and the order of images.")
    var seed: UInt64 = 0

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("At most so many. (default: as many as there are processors)", valueName: "count"))
    var threads: Int?

    @Option(help: "fast or exact: whether faster algorithms with other roundings may be used.")
    var numerics = Numerics.fast

    @Option(help: ArgumentHelp("The run's folder. (default: a new one under runs)", valueName: "folder"))
    var out: String?

    @Flag(help: "Replace the run that --out holds.")
    var overwrite = false

    @Flag(help: "End standard output with one line of JSON.")
    var json = false

    func run() throws {
        let configuration = try makeConfiguration()
        try RunFolder.check(path: out ?? "runs", overwrite: overwrite || out == nil)
        try useThreads(threads)
        ExecutionContext.default.numerics = numerics
        let trainer = try Trainer(configuration)

        let folder = try out.map { try RunFolder.create(path: $0) }
            ?? RunFolder.createNew(in: "runs", name: "\(dataset.rawValue)-\(model.rawValue)")
        try folder.write(configuration, to: folder.config)
        report(trainer)
        try trainer.train { try folder.append($0) }

        let (result, test, audit, state) = try trainer.finish(run: folder.path, threads: Machine.threads)
        try state.safetensors(metadata: metadata(for: configuration)).write(to: folder.weights)
        try folder.write(result, to: folder.result)
        print(summary(result, test, audit, of: configuration))
        if json { print(try result.jsonLine()) }
        if audit.changed > 0 { throw ExitCode.frozenElementMoved }
    }

    /// The options with the defaults that depend on others; throws for those that don't make sense.
    private func makeConfiguration() throws -> RunConfiguration {
        func positive(_ value: Int?, _ option: String) throws {
            if let value, value <= 0 { throw Failure("--\(option) must be at least 1, not \(value)") }
        }
        try positive(epochs, "epochs")
        try positive(steps, "steps")
        try positive(batchSize, "batch-size")
        if overwrite && out == nil { throw Failure("--overwrite needs the folder to replace: --out") }
        try dataset.check(data: data)
        let isAdam = optimizer != .sgd
        let misplaced = [
            ("momentum", momentum != nil && isAdam), ("nesterov", nesterov && isAdam),
            ("beta1", beta1 != nil && !isAdam), ("beta2", beta2 != nil && !isAdam),
            ("epsilon", epsilon != nil && !isAdam),
        ]
        if let (option, _) = misplaced.first(where: { $0.1 }) {
            throw Failure("--\(option) means nothing to --optimizer \(optimizer.rawValue)")
        }
        if freeze.contains("none") && freeze.count > 1 {
            throw Failure("--freeze none can't stand beside other --freeze options")
        }
        return RunConfiguration(
            dataset: dataset, data: dataset == .digits ? nil : data ?? FashionMNIST.defaultDirectory, model: model,
            epochs: epochs ?? (dataset == .digits ? 15 : 5), steps: steps,
            batchSize: batchSize ?? (dataset == .digits ? 32 : 64),
            optimizer: optimizer, learningRate: learningRate ?? (isAdam ? 0.001 : 0.05), schedule: schedule,
            momentum: momentum ?? (isAdam ? 0 : 0.9), nesterov: nesterov,
            weightDecay: weightDecay ?? (optimizer == .adamw ? 0.01 : 0), beta1: beta1 ?? 0.9, beta2: beta2 ?? 0.999,
            epsilon: epsilon ?? 1e-8,
            freeze: freeze.isEmpty ? ["conv1.weight[0,0,1,1]=1"] : freeze.filter { $0 != "none" },
            route: route.rawValue, seed: seed, numerics: "\(numerics)")
    }

    /// What is about to happen, in two lines on standard error.
    private func report(_ trainer: Trainer) {
        let configuration = trainer.configuration
        let count = trainer.model.parameters().reduce(0) { $0 + $1.count }
        writeToStandardError(
            "\(dataset.rawValue): \(grouped(trainer.data.train.count)) images to train, "
                + "\(grouped(trainer.data.test.count)) to test; \(model.rawValue) with \(grouped(count)) parameters; "
                + "\(optimizer.rawValue), \(grouped(trainer.stepCount)) steps of \(configuration.batchSize); "
                + "\(Machine.threads) thread\(Machine.threads == 1 ? "" : "s"), \(Machine.instructionSet.name)\n")
        let frozen = configuration.freeze.isEmpty
            ? "nothing is frozen" : "frozen by \(route.rawValue): \(configuration.freeze.joined(separator: " "))"
        writeToStandardError(frozen + "\n")
    }

    private func summary(
        _ result: RunResult, _ test: Evaluation, _ audit: AuditReport, of configuration: RunConfiguration
    ) -> String {
        var lines = [
            "test accuracy \(percent(test.accuracy, digits: 2)) (\(grouped(test.correct)) of \(grouped(test.count))) "
                + "after \(grouped(result.steps)) steps in \(String(format: "%.1f", result.trainingSeconds)) s, "
                + "\(grouped(Int(result.imagesPerSecond))) images/s"
        ]
        if audit.checked == 0 {
            lines.append("audit: nothing is frozen")
        } else {
            lines.append("audit: \(audit)")
            for entry in audit.entries.prefix(8) {
                let index = entry.index.map(String.init).joined(separator: ",")
                lines.append(
                    "  \(entry.parameter)[\(index)] = \(entry.value)  bits before \(hexadecimal(entry.bitsBefore)), "
                        + "after \(hexadecimal(entry.bitsAfter))\(entry.isChanged ? ": MOVED" : "")")
            }
            if audit.entries.count > 8 {
                lines.append("  and \(grouped(audit.entries.count - 8)) more in \(result.run)/result.json")
            }
            lines.append(
                result.movedSteps == 0
                    ? "  looked at after each of \(grouped(result.steps)) steps: never moved"
                    : "  moved by \(grouped(result.movedSteps)) of \(grouped(result.steps)) steps"
                        + (audit.changed == 0 ? ", and written back before each forward pass" : ""))
        }
        lines.append("run folder \(result.run)")
        return lines.joined(separator: "\n")
    }
}

/// What weights carry so that they can be loaded without their run: strings, as the format wants.
func metadata(for configuration: RunConfiguration) -> [String: String] {
    [
        // The mark by which Python's readers know whose conventions the names follow.
        "format": "pt", "permafrost.version": configuration.version,
        "permafrost.dataset": configuration.dataset.rawValue, "permafrost.model": configuration.model.rawValue,
        "permafrost.seed": String(configuration.seed),
    ]
}

/// Sets the number of threads from `--threads`.
func useThreads(_ count: Int?) throws {
    guard let count else { return }
    guard count >= 1 else { throw Failure("--threads must be at least 1, not \(count)") }
    guard count <= 1024 else { throw Failure("--threads must be at most 1024, not \(count)") }
    ExecutionContext.default.threads = count
}

extension FreezeMethod: ExpressibleByArgument {}

extension Numerics: ExpressibleByArgument {
    public init?(argument: String) {
        guard let found = Numerics.allCases.first(where: { "\($0)" == argument }) else { return nil }
        self = found
    }

    public var defaultValueDescription: String { "\(self)" }
    public static var allValueStrings: [String] { allCases.map { "\($0)" } }
}
