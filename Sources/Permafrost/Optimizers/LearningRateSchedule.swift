import Foundation

/// A learning rate as a function of a group's base rate and the number of scheduler steps so far; PyTorch's formulas in
/// closed form.
public struct LearningRateSchedule {
    /// The rate after `step` scheduler steps.
    public let rate: (_ base: Double, _ step: Int) -> Double
    /// The momentum (Adam: beta1) after `step` scheduler steps, where the schedule moves it too; else nil.
    public let momentum: (_ step: Int) -> Double?
    /// The number of steps after which the schedule has no more values; nil when it goes on for ever.
    public let length: Int?

    public init(_ rate: @escaping (_ base: Double, _ step: Int) -> Double) {
        self.init(rate: rate, momentum: { _ in nil }, length: nil)
    }

    private init(
        rate: @escaping (Double, Int) -> Double, momentum: @escaping (Int) -> Double?, length: Int?
    ) {
        self.rate = rate
        self.momentum = momentum
        self.length = length
    }

    /// The base rate times `gamma` for every `size` steps.
    public static func step(size: Int, gamma: Double = 0.1) -> LearningRateSchedule {
        precondition(size > 0, "a schedule's step size must be positive, not \(size)")
        return LearningRateSchedule { base, step in base * pow(gamma, Double(step / size)) }
    }

    /// The base rate times `gamma` for every milestone that has been reached.
    public static func multiStep(milestones: [Int], gamma: Double = 0.1) -> LearningRateSchedule {
        LearningRateSchedule { base, step in
            base * pow(gamma, Double(milestones.count { $0 <= step }))
        }
    }

    /// The base rate times `gamma` for every step.
    public static func exponential(gamma: Double) -> LearningRateSchedule {
        LearningRateSchedule { base, step in base * pow(gamma, Double(step)) }
    }

    /// From the base rate to `minimum` along half a cosine (Loshchilov and Hutter, 2017) in `steps` steps.
    public static func cosine(steps: Int, minimum: Double = 0) -> LearningRateSchedule {
        precondition(steps > 0, "a schedule's number of steps must be positive, not \(steps)")
        return LearningRateSchedule { base, step in
            minimum + (base - minimum) * (1 + cos(.pi * Double(step) / Double(steps))) / 2
        }
    }

    /// From `start` times the base rate to `end` times it in `steps` equal steps, then constant: a warm-up.
    public static func linear(
        from start: Double = 1.0 / 3, to end: Double = 1, steps: Int = 5
    ) -> LearningRateSchedule {
        precondition(steps > 0, "a schedule's number of steps must be positive, not \(steps)")
        return LearningRateSchedule { base, step in
            base * (start + (end - start) * Double(min(step, steps)) / Double(steps))
        }
    }

    /// The 1cycle policy (Smith and Topin, 2018): from `maximum / initialDivisor` up to `maximum` during the first
    /// `rising` part of `steps`, then down to a `finalDivisor`-th of where it began, both along half a cosine;
    /// momentum the other way between `momentumRange`'s bounds.
    ///
    /// - Parameter maximum: the base rate when nil.
    public static func oneCycle(
        maximum: Double? = nil, steps: Int, rising: Double = 0.3, initialDivisor: Double = 25,
        finalDivisor: Double = 10_000, momentumRange: ClosedRange<Double>? = 0.85...0.95
    ) -> LearningRateSchedule {
        precondition(steps > 0, "a schedule's number of steps must be positive, not \(steps)")
        let peak = rising * Double(steps) - 1, last = Double(steps - 1)
        func value(_ step: Int, _ first: Double, _ middle: Double, _ final: Double) -> Double {
            let position = Double(step)
            if position <= peak { return anneal(first, middle, peak == 0 ? 1 : position / peak) }
            return anneal(middle, final, last == peak ? 1 : (position - peak) / (last - peak))
        }
        func anneal(_ start: Double, _ end: Double, _ part: Double) -> Double {
            end + (start - end) / 2 * (1 + cos(.pi * part))
        }
        return LearningRateSchedule(
            rate: { base, step in
                let top = maximum ?? base
                return value(step, top / initialDivisor, top, top / initialDivisor / finalDivisor)
            },
            momentum: { step in
                momentumRange.map { value(step, $0.upperBound, $0.lowerBound, $0.upperBound) }
            },
            length: steps - 1)
    }

    /// This schedule for the first `steps` steps and then `next`, which counts from there.
    public func then(after steps: Int, _ next: LearningRateSchedule) -> LearningRateSchedule {
        let first = self
        return LearningRateSchedule(
            rate: { base, step in step < steps ? first.rate(base, step) : next.rate(base, step - steps) },
            momentum: { step in step < steps ? first.momentum(step) : next.momentum(step - steps) },
            length: next.length.map { $0 + steps })
    }
}

/// What changes learning rates as training goes on, with a state that checkpoints save.
public protocol LearningRateScheduler: AnyObject {
    func stateDictionary() -> [String: Double]
    /// - Throws: `OptimizerError` for the state of something else; nothing changes then.
    func load(stateDictionary: [String: Double]) throws
}

/// Sets an optimizer's learning rates by a schedule, from the moment it is made and after each `step()`.
public final class LRScheduler: LearningRateScheduler {
    public let optimizer: Optimizer
    public let schedule: LearningRateSchedule
    /// The rates that the schedule is applied to: those of the optimizer when this scheduler was made.
    public private(set) var baseLearningRates: [Double]
    /// The number of calls of `step()`.
    public private(set) var stepCount = 0

    public init(_ optimizer: Optimizer, _ schedule: LearningRateSchedule) {
        self.optimizer = optimizer
        self.schedule = schedule
        baseLearningRates = optimizer.learningRates
        apply()
    }

    /// Goes to the next rate: once an epoch, or once an optimizer step, as the schedule was meant.
    ///
    /// - Throws: `OptimizerError` when the schedule has come to its end.
    public func step() throws {
        if let length = schedule.length, stepCount >= length {
            throw OptimizerError("the learning rate's schedule ends after \(length) steps")
        }
        stepCount += 1
        apply()
    }

    private func apply() {
        optimizer.learningRates = baseLearningRates.map { schedule.rate($0, stepCount) }
        if let momentum = schedule.momentum(stepCount), let momenta = optimizer.momenta {
            optimizer.momenta = momenta.map { _ in momentum }
        }
    }

    /// What a checkpoint saves.
    public func stateDictionary() -> [String: Double] {
        var state = ["stepCount": Double(stepCount)]
        for (group, rate) in baseLearningRates.enumerated() { state["group\(group).baseLearningRate"] = rate }
        return state
    }

    /// - Throws: `OptimizerError` when something is missing, no count or no rate; nothing changes then.
    public func load(stateDictionary state: [String: Double]) throws {
        let rates = baseLearningRates.indices.compactMap { state["group\($0).baseLearningRate"] }
            .filter { $0.isFinite && $0 >= 0 }
        guard let count = state["stepCount"].flatMap(Int.init(exactly:)), count >= 0,
            rates.count == baseLearningRates.count
        else {
            throw OptimizerError("this isn't the state of a scheduler with \(baseLearningRates.count) groups")
        }
        stepCount = count
        baseLearningRates = rates
        apply()
    }
}

/// Lowers the learning rates when a metric has stopped getting better; PyTorch's rules and defaults.
public final class ReduceLROnPlateau: LearningRateScheduler {
    public enum Mode: Sendable { case min, max }
    public enum ThresholdMode: Sendable {
        /// Better is better by the threshold's share of the best.
        case relative
        /// Better is better by the threshold.
        case absolute
    }

    public let optimizer: Optimizer
    private let mode: Mode
    private let factor, threshold, minimum, epsilon: Double
    private let thresholdMode: ThresholdMode
    private let patience, cooldown: Int
    /// The best metric so far.
    public private(set) var best: Double
    private var badSteps = 0
    private var coolingSteps = 0

    /// - Parameters:
    ///   - mode: whether a smaller or a larger metric is better.
    ///   - factor: what a rate is multiplied by, less than 1.
    ///   - patience: how many steps without progress are borne.
    ///   - cooldown: how many steps after a reduction aren't counted.
    ///   - minimum: no rate falls below it.
    ///   - epsilon: a reduction by less isn't made.
    public init(
        _ optimizer: Optimizer, mode: Mode = .min, factor: Double = 0.1, patience: Int = 10, threshold: Double = 1e-4,
        thresholdMode: ThresholdMode = .relative, cooldown: Int = 0, minimum: Double = 0, epsilon: Double = 1e-8
    ) throws {
        guard factor > 0, factor < 1 else {
            throw OptimizerError("factor must be greater than 0 and less than 1, not \(factor)")
        }
        self.optimizer = optimizer
        self.mode = mode
        self.factor = factor
        self.patience = patience
        self.threshold = threshold
        self.thresholdMode = thresholdMode
        self.cooldown = cooldown
        self.minimum = minimum
        self.epsilon = epsilon
        best = mode == .min ? .infinity : -.infinity
    }

    /// Takes the metric of another epoch.
    public func step(_ metric: Double) {
        if isBetter(metric) {
            best = metric
            badSteps = 0
        } else {
            badSteps += 1
        }
        if coolingSteps > 0 {
            coolingSteps -= 1
            badSteps = 0
        }
        if badSteps > patience {
            optimizer.learningRates = optimizer.learningRates.map { rate in
                let reduced = Swift.max(rate * factor, minimum)
                return rate - reduced > epsilon ? reduced : rate
            }
            coolingSteps = cooldown
            badSteps = 0
        }
    }

    private func isBetter(_ metric: Double) -> Bool {
        switch (mode, thresholdMode) {
        case (.min, .relative): metric < best * (1 - threshold)
        case (.min, .absolute): metric < best - threshold
        case (.max, .relative): metric > best * (1 + threshold)
        case (.max, .absolute): metric > best + threshold
        }
    }

    /// What a checkpoint saves; the learning rates are the optimizer's.
    public func stateDictionary() -> [String: Double] {
        ["best": best, "badSteps": Double(badSteps), "coolingSteps": Double(coolingSteps)]
    }

    /// - Throws: `OptimizerError` when something is missing or no count; nothing changes then.
    public func load(stateDictionary state: [String: Double]) throws {
        guard let best = state["best"], let bad = state["badSteps"].flatMap(Int.init(exactly:)),
            let cooling = state["coolingSteps"].flatMap(Int.init(exactly:)), bad >= 0, cooling >= 0
        else {
            throw OptimizerError("this isn't the state of a ReduceLROnPlateau")
        }
        (self.best, badSteps, coolingSteps) = (best, bad, cooling)
    }
}
