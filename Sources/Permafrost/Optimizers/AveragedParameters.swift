/// Averages of parameters over training steps: exponential (EMA), or equally weighted (SWA; Izmailov et al., 2018).
///
/// A frozen element's average is its value to the bit, whenever it was frozen.
///
///     let averages = try AveragedParameters(net.parameters(), .exponential(decay: 0.999))
///     // after each optimizer step:
///     averages.update()
///     // to evaluate:
///     let accuracy = try averages.withAverages { try evaluate(net) }
public final class AveragedParameters {
    public enum Weighting: Equatable, Sendable {
        /// average <- decay * average + (1 - decay) * value
        case exponential(decay: Double)
        /// The mean of all values at updates.
        case equal
    }

    public let parameters: [Parameter]
    public let weighting: Weighting
    private var averages: [Tensor]
    /// The number of calls of `update()`. The first copies the values.
    public private(set) var updateCount = 0

    /// - Throws: `OptimizerError` when a decay isn't in 0 ... 1.
    public init(_ parameters: [Parameter], _ weighting: Weighting) throws {
        if case .exponential(let decay) = weighting, !(0...1).contains(decay) {
            throw OptimizerError("decay must be in 0 ... 1, not \(decay)")
        }
        self.parameters = parameters
        self.weighting = weighting
        averages = parameters.map(\.value)
    }

    /// Takes the present values into the averages.
    public func update() {
        for (position, parameter) in parameters.enumerated() {
            if updateCount == 0 {
                averages[position] = parameter.value
            } else {
                let weight: Float
                switch weighting {
                case .exponential(let decay): weight = Float(1 - decay)
                case .equal: weight = 1 / Float(updateCount + 1)
                }
                averages[position].addScaled(noGrad { parameter.value - averages[position] }, by: weight)
                parameter.gradientMask?.frozen.assert(on: &averages[position])
            }
        }
        updateCount += 1
    }

    /// The averages, in the order of `parameters`.
    public var values: [Tensor] {
        zip(parameters, averages).map { parameter, average in
            var value = average
            parameter.gradientMask?.frozen.assert(on: &value)
            return value
        }
    }

    /// Runs `body` while the parameters have their averages as values, and puts their own back.
    public func withAverages<R>(_ body: () throws -> R) rethrows -> R {
        let own = parameters.map(\.value)
        for (parameter, value) in zip(parameters, values) { parameter.value = value }
        defer {
            for (parameter, value) in zip(parameters, own) { parameter.value = value }
        }
        return try body()
    }

    /// What a checkpoint saves, in the order of `parameters`.
    public func state() -> (averages: [Tensor], updateCount: Int) {
        (values, updateCount)
    }

    /// - Throws: `OptimizerError` when the averages don't fit the parameters; nothing changes then.
    public func load(averages loaded: [Tensor], updateCount count: Int) throws {
        guard loaded.count == parameters.count, count >= 0 else {
            throw OptimizerError("\(parameters.count) averages were expected, but \(loaded.count) came")
        }
        for (parameter, average) in zip(parameters, loaded) where average.shape != parameter.shape {
            throw OptimizerError(
                "the average of \(parameter.label) has shape \(average.shape), expected \(parameter.shape)")
        }
        averages = loaded.map { $0.detached() }
        updateCount = count
    }
}
