import Foundation
import Permafrost

/// A network in training: everything is checked and in place before the run's folder is made.
final class Trainer {
    let configuration: RunConfiguration
    let data: DatasetSplit
    let model: Module
    private let optimizer: Optimizer
    private let scheduler: LRScheduler
    private let loader: DataLoader
    private let audit: Audit
    let stepCount: Int

    /// The steps done so far.
    private(set) var step = 0
    /// The steps after which an audited element had other bits.
    private(set) var movedSteps = 0
    private(set) var trainingSeconds = 0.0
    private var imageCount = 0
    private(set) var trainLoss = 0.0

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
        try freezes.apply(to: model, method: FreezeMethod(rawValue: configuration.route)!)

        optimizer = try configuration.makeOptimizer(for: model.parameters())
        data = try configuration.dataset.load(from: configuration.data, seed: configuration.seed)
        loader = DataLoader(data.train, batchSize: configuration.batchSize, shuffle: true)
        let whole = loader.batchCount * configuration.epochs
        stepCount = min(whole, configuration.steps ?? whole)
        scheduler = LRScheduler(
            optimizer,
            configuration.schedule == .cosine ? .cosine(steps: stepCount) : LearningRateSchedule { base, _ in base })
    }

    var imagesPerSecond: Double { trainingSeconds > 0 ? Double(imageCount) / trainingSeconds : 0 }

    /// Trains to the end; reports progress on standard error and the metrics to `record`.
    func train(_ record: (EpochMetrics) throws -> Void) throws {
        var bar = ProgressBar()
        defer { bar.clear() }
        var epoch = 0
        while step < stepCount {
            epoch += 1
            var running = RunningMetrics()
            let label = "epoch \(epoch)/\(configuration.epochs)"
            for batch in loader where step < stepCount {
                let before = ContinuousClock.now
                let (loss, correct) = try trainStep(batch)
                trainingSeconds += (ContinuousClock.now - before).seconds
                imageCount += batch.count
                running.add(loss: loss, correct: correct, count: batch.count)
                let position = step - (epoch - 1) * loader.batchCount
                bar.update(
                    label: label, fraction: Double(position) / Double(loader.batchCount),
                    details: [
                        String(format: "loss %.4f", running.loss), "accuracy \(percent(running.accuracy))",
                        "\(grouped(Int(imagesPerSecond))) images/s",
                        "\(formatted(seconds: trainingSeconds / Double(step) * Double(stepCount - step))) left",
                    ])
            }
            trainLoss = running.loss
            let test = try Evaluation(model, on: data.test)
            bar.clear()
            let metrics = EpochMetrics(
                epoch: epoch, step: step, trainLoss: running.loss, trainAccuracy: running.accuracy,
                testLoss: test.loss, testAccuracy: test.accuracy, imagesPerSecond: imagesPerSecond,
                trainingSeconds: trainingSeconds)
            try record(metrics)
            writeToStandardError("\(label)  \(metrics)\n")
        }
    }

    private func trainStep(_ batch: Batch) throws -> (loss: Double, correct: Int) {
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
        step += 1
        if audit.report(entryLimit: 0).changed > 0 { movedSteps += 1 }
        return (value, countCorrect(logits, batch.labels))
    }

    /// Measures the trained network and audits it as it is then: what is saved is what was measured.
    func finish(run: String, threads: Int) throws -> (RunResult, Evaluation, AuditReport, StateDictionary) {
        let test = try Evaluation(model, on: data.test)
        let report = audit.report(entryLimit: .max)
        let state = model.stateDictionary()
        let result = RunResult(
            dataset: configuration.dataset.rawValue, model: configuration.model.rawValue,
            optimizer: configuration.optimizer.rawValue, route: configuration.route, seed: configuration.seed,
            epochs: configuration.epochs, steps: step, trainLoss: trainLoss, testLoss: test.loss,
            testAccuracy: test.accuracy, imagesPerSecond: imagesPerSecond, trainingSeconds: trainingSeconds,
            threads: threads, instructionSet: Machine.instructionSet.name,
            frozen: report.entries.map(RunResult.FrozenElement.init), changedElements: report.changed,
            movedSteps: movedSteps, weightsSHA256: state.dataDigest, run: run)
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
private struct RunningMetrics {
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
