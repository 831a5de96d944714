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

    @OptionGroup
    var options: TrainingOptions

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("At most so many. (default: as many as there are processors)", valueName: "count"))
    var threads: Int?

    @Option(help: ArgumentHelp("The run's folder. (default: a new one under runs)", valueName: "folder"))
    var out: String?

    @Flag(help: "Replace the run that --out holds.")
    var overwrite = false

    @Flag(
        help: """
            Go on with the run that --out holds, or with the newest under runs, from its last checkpoint: to the same \
            bits as if it hadn't stopped. A run that hasn't begun begins.
            """)
    var resume = false

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Save a checkpoint after so many steps too, not only after each epoch.", valueName: "count"))
    var checkpointEvery: Int?

    @Flag(help: "End standard output with one line of JSON.")
    var json = false

    func run() throws {
        if overwrite && out == nil { throw Failure("--overwrite needs the folder to replace: --out") }
        if overwrite && resume { throw Failure("--resume goes on with a run and --overwrite replaces it: give one") }
        let checkpointEvery = try positive(checkpointEvery, "checkpoint-every")
        try useThreads(threads)

        let begun = resume ? try findRun() : nil
        let configuration = try begun.map { try agreedConfiguration(of: $0) } ?? options.configuration()
        if begun == nil { try RunFolder.check(path: out ?? "runs", overwrite: overwrite || out == nil) }
        ExecutionContext.default.numerics = configuration.numerics.numerics
        let trainer = try Trainer(configuration)

        let folder: RunFolder
        if let begun {
            folder = begun
            try folder.prepareToResume(trainer)
        } else {
            let name = "\(configuration.dataset.rawValue)-\(configuration.model.rawValue)"
            folder = try out.map { try RunFolder.create(path: $0) } ?? RunFolder.createNew(in: "runs", name: name)
            try folder.write(configuration, to: folder.config)
        }
        report(trainer)
        try trainer.train(checkpointEvery: checkpointEvery, in: folder)

        let (result, test, audit, state) = try trainer.finish(run: folder.path, threads: Machine.threads)
        try state.safetensors(metadata: configuration.metadata).write(to: folder.weights)
        try folder.write(result, to: folder.result)
        print(summary(result, test, audit))
        if json { print(try result.jsonLine()) }
        if audit.changed > 0 { throw ExitCode.frozenElementMoved }
    }

    /// The run to go on with; nil when the folder of `--out` holds none yet.
    private func findRun() throws -> RunFolder? {
        if let out {
            let folder = RunFolder(path: out)
            return FileManager.default.fileExists(atPath: folder.config) ? folder : nil
        }
        guard let newest = RunFolder.newest(in: "runs") else {
            throw Failure("there is no run under runs to go on with")
        }
        return newest
    }

    /// What a run was begun with; throws when an option asks for something else.
    private func agreedConfiguration(of folder: RunFolder) throws -> RunConfiguration {
        let begun = try folder.readConfiguration()
        if let (option, value) = begun.difference(from: try options.changing(begun)) {
            throw Failure(
                "the run in '\(folder.path)' was begun with \(option) \(value); leave --\(option) out to go on with it")
        }
        return begun
    }

    /// What is about to happen, in two lines on standard error.
    private func report(_ trainer: Trainer) {
        let (run, data) = (trainer.configuration, trainer.data)
        let count = trainer.model.parameters().reduce(0) { $0 + $1.count }
        let threads = Machine.threads == 1 ? "1 thread" : "\(Machine.threads) threads"
        writeToStandardError(
            "\(run.dataset.rawValue): \(grouped(data.train.count)) images to train, "
                + "\(grouped(data.test.count)) to test; \(run.model.rawValue) with \(grouped(count)) parameters; "
                + "\(run.optimizer.rawValue), \(grouped(trainer.stepCount)) steps of \(run.batchSize); \(threads), "
                + "\(Machine.instructionSet.name)\n")
        writeToStandardError(
            (run.freeze.isEmpty
                ? "nothing is frozen" : "frozen by \(run.route.rawValue): \(run.freeze.joined(separator: " "))")
                + (trainer.step > 0 ? "; going on after step \(grouped(trainer.step))" : "") + "\n")
    }

    private func summary(
        _ result: RunResult, _ test: Evaluation, _ audit: AuditReport
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

/// Sets the number of threads from `--threads`.
func useThreads(_ count: Int?) throws {
    guard let count else { return }
    guard count >= 1 else { throw Failure("--threads must be at least 1, not \(count)") }
    guard count <= 1024 else { throw Failure("--threads must be at most 1024, not \(count)") }
    ExecutionContext.default.threads = count
}
