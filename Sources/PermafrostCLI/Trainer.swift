import Foundation
import Permafrost

/// A network in training. When it is made everything has been checked and is in place; nothing has been written.
final class Trainer {
    let configuration: RunConfiguration
    let data: DatasetSplit
    let model: Module
    /// The optimizer steps of the whole training.
    let stepCount: Int
    private let optimizer: Optimizer
    private let scheduler: LRScheduler
    private let loader: DataLoader
    private let audit: Audit
    private var position = Position()

    /// Where a training is; with the checkpoint's other parts, all that it needs to go on.
    private struct Position: Codable {
        /// Epochs that are over.
        var epoch = 0
        /// Batches of the present epoch that are behind, and the state of random numbers from before it.
        var batch = 0
        var epochStart: Generator.State?
        var step = 0
        /// The steps after which an audited element had other bits.
        var movedSteps = 0
        var trainingSeconds = 0.0
        var imageCount = 0
        var running = RunningMetrics()
        var trainLoss = 0.0
    }

    init(_ configuration: RunConfiguration) throws {
        self.configuration = configuration
        manualSeed(configuration.seed)
        model = try configuration.model.make(
            imageShape: configuration.dataset.imageShape, classCount: configuration.dataset.classCount)
        let freezes = try configuration.freeze.map { try FreezeSpecification(parsing: $0) }
        // The freezes say which elements are meant and give them their values; whether they stay is up to the route.
        let held = try freezes.apply(to: model, method: .mask)
        audit = Audit(ofFrozenIn: model.namedParameters())
        held.forEach { $0.remove() }
        try freezes.apply(to: model, method: configuration.route)

        optimizer = try configuration.makeOptimizer(for: model.parameters())
        data = try configuration.dataset.load(from: configuration.data, seed: configuration.seed)
        loader = DataLoader(data.train, batchSize: configuration.batchSize, shuffle: true)
        let (whole, overflow) = loader.batchCount.multipliedReportingOverflow(by: configuration.epochs)
        guard !overflow else { throw Failure("--epochs \(configuration.epochs) are more steps than can be counted") }
        stepCount = min(whole, configuration.steps ?? whole)
        scheduler = LRScheduler(
            optimizer,
            configuration.schedule == .cosine ? .cosine(steps: stepCount) : LearningRateSchedule { base, _ in base })
    }

    /// Epochs that are over.
    var epoch: Int { position.epoch }
    /// Steps that are done.
    var step: Int { position.step }

    private var imagesPerSecond: Double {
        position.trainingSeconds > 0 ? Double(position.imageCount) / position.trainingSeconds : 0
    }

    // MARK: Training

    /// Trains to the end, with progress on standard error, metrics and checkpoints in `folder`.
    func train(checkpointEvery interval: Int?, in folder: RunFolder) throws {
        var bar = ProgressBar()
        defer { bar.clear() }
        while step < stepCount {
            let label = "epoch \(epoch + 1)/\(configuration.epochs)"
            var batches = startEpoch()
            while step < stepCount, let batch = batches.next() {
                try trainStep(batch)
                position.batch = batches.position
                bar.update(
                    label: label, fraction: Double(position.batch) / Double(loader.batchCount), details: details)
                if let interval, step % interval == 0, step < stepCount { try save(in: folder) }
            }
            let test = try Evaluation(model, on: data.test)
            bar.clear()
            let metrics = EpochMetrics(
                epoch: epoch + 1, step: step, trainLoss: position.running.loss,
                trainAccuracy: position.running.accuracy, testLoss: test.loss, testAccuracy: test.accuracy,
                imagesPerSecond: imagesPerSecond, trainingSeconds: position.trainingSeconds)
            try folder.append(metrics)
            writeToStandardError("\(label)  \(metrics)\n")
            finishEpoch()
            try save(in: folder)
        }
    }

    /// The batches of the present epoch that are ahead.
    private func startEpoch() -> DataLoader.Iterator {
        let now = Generator.default.state
        if let start = position.epochStart {
            // The epoch was begun before a checkpoint: the same order again, and then the same numbers as after it.
            Generator.default.state = start
            var batches = loader.makeIterator()
            batches.position = position.batch
            Generator.default.state = now
            return batches
        }
        position.epochStart = now
        return loader.makeIterator()
    }

    private func finishEpoch() {
        position.trainLoss = position.running.loss
        position.running = RunningMetrics()
        position.epoch += 1
        position.batch = 0
        position.epochStart = nil
    }

    private func trainStep(_ batch: Batch) throws {
        let start = ContinuousClock.now
        optimizer.zeroGrad()
        let logits = try model(batch.images)
        let loss = try crossEntropy(logits, batch.labels)
        let value = Double(loss.item())
        guard value.isFinite else {
            throw Failure("the loss is no finite number in step \(step + 1); try a smaller --learning-rate")
        }
        try loss.backward()
        try optimizer.step()
        try scheduler.step()
        position.trainingSeconds += (ContinuousClock.now - start).seconds
        position.step += 1
        position.imageCount += batch.count
        position.running.add(loss: value, correct: countCorrect(logits, batch.labels), count: batch.count)
        if audit.report(entryLimit: 0).changed > 0 { position.movedSteps += 1 }
    }

    /// What stands behind the progress bar.
    private var details: [String] {
        let left = position.trainingSeconds / Double(step) * Double(stepCount - step)
        return [
            String(format: "loss %.4f", position.running.loss), "accuracy \(percent(position.running.accuracy))",
            "\(grouped(Int(imagesPerSecond))) images/s", "\(formatted(seconds: left)) left",
        ]
    }

    // MARK: Checkpoints

    private func save(in folder: RunFolder) throws {
        var checkpoint = Checkpoint(of: model, optimizer: optimizer, scheduler: scheduler, generator: .default)
        checkpoint.values = configuration.metadata
        checkpoint.values["training"] = try position.jsonLine()
        try checkpoint.write(to: folder.checkpoint)
    }

    /// Goes to where `checkpoint` was saved.
    func restore(_ checkpoint: Checkpoint) throws {
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        guard let text = checkpoint.values["training"],
            let saved = try? decoder.decode(Position.self, from: Data(text.utf8)), isPossible(saved)
        else { throw Failure("it wasn't saved by a training like this one") }
        try checkpoint.restore(model, optimizer: optimizer, scheduler: scheduler, generator: .default)
        position = saved
    }

    /// Whether this training can come to a position: every step is behind in an epoch that is over or in the present
    /// one.
    private func isPossible(_ position: Position) -> Bool {
        (0...configuration.epochs).contains(position.epoch) && (0...loader.batchCount).contains(position.batch)
            && (0...stepCount).contains(position.step)
            && position.step == min(position.epoch * loader.batchCount + position.batch, stepCount)
            && (0...position.step).contains(position.movedSteps) && position.imageCount >= 0
            && position.trainingSeconds >= 0
    }

    // MARK: The end

    /// Measures the trained network and audits it as it is then: what is saved is what was measured.
    func finish(run: String, threads: Int) throws -> (RunResult, Evaluation, AuditReport, StateDictionary) {
        let test = try Evaluation(model, on: data.test)
        let report = audit.report(entryLimit: .max)
        let state = model.stateDictionary()
        let result = RunResult(
            dataset: configuration.dataset.rawValue, model: configuration.model.rawValue,
            optimizer: configuration.optimizer.rawValue, route: configuration.route.rawValue,
            seed: configuration.seed, epochs: configuration.epochs, steps: step, trainLoss: position.trainLoss,
            testLoss: test.loss, testAccuracy: test.accuracy, imagesPerSecond: imagesPerSecond,
            trainingSeconds: position.trainingSeconds, threads: threads, instructionSet: Machine.instructionSet.name,
            frozen: report.entries.map(RunResult.FrozenElement.init), changedElements: report.changed,
            movedSteps: position.movedSteps, weightsSHA256: state.dataDigest, run: run)
        return (result, test, report, state)
    }
}

/// One line of `metrics.jsonl`.
struct EpochMetrics: Encodable, CustomStringConvertible {
    let epoch: Int
    let step: Int
    let trainLoss: Double
    let trainAccuracy: Double
    let testLoss: Double
    let testAccuracy: Double
    let imagesPerSecond: Double
    let trainingSeconds: Double

    var description: String {
        String(format: "loss %.4f", trainLoss) + "  accuracy \(percent(trainAccuracy))  "
            + "test \(percent(testAccuracy))  \(grouped(Int(imagesPerSecond))) images/s"
    }
}

/// Means over what an epoch has seen so far.
private struct RunningMetrics: Codable {
    private var lossSum = 0.0
    private var correct = 0
    private var count = 0

    mutating func add(loss: Double, correct: Int, count: Int) {
        lossSum += loss * Double(count)
        self.correct += correct
        self.count += count
    }

    var loss: Double { lossSum / Double(count) }
    var accuracy: Double { Double(correct) / Double(count) }
}

extension Duration {
    var seconds: Double {
        Double(components.seconds) + Double(components.attoseconds) * 1e-18
    }
}
