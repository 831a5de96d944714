import Foundation
import Testing

@testable import Permafrost

/// Optimizers fed with gradients directly: their arithmetic, their state, their hooks.
@Suite struct OptimizerTests {
    /// A parameter and the stream that its gradients come from.
    private static func parameter(seed: UInt64 = 1, shape: Shape = [4, 3, 3, 3]) -> (Parameter, Generator) {
        let generator = Generator(seed: seed)
        return (Parameter(.randn(shape, generator: generator)), generator)
    }

    private static func feed(
        _ parameter: Parameter, _ optimizer: Optimizer, _ generator: Generator, steps: Int
    ) throws {
        for _ in 0..<steps {
            parameter.grad = .randn(parameter.shape, generator: generator)
            try optimizer.step()
        }
    }

    /// PyTorch's documented formulas, in double, one element at a time.
    private struct Reference {
        let kind: OptimizerKind
        var value: Double
        var first = 0.0, second = 0.0, largest = 0.0, step = 0
        /// How far a float implementation may be from `value`.
        ///
        /// Each step rounds the value at most thrice. The update's relative error grows with the averages that it is
        /// made of: each step adds at most three roundings to them, and a handful go into the quotient; it is
        /// relative to the largest update so far, since a momentum that cancels keeps its absolute error.
        var bound = 0.0
        var largestUpdate = 0.0

        mutating func update(_ rawGradient: Double) {
            step += 1
            let before = value, rounding = 0x1p-24
            var gradient = rawGradient
            if kind != .adamW { gradient += kind.weightDecay * value }
            switch kind {
            case .sgd, .sgdDecay:
                value -= OptimizerKind.learningRate * gradient
            case .sgdMomentum, .sgdNesterov:
                first = step == 1 ? gradient : 0.9 * first + gradient
                value -= OptimizerKind.learningRate * (kind == .sgdNesterov ? gradient + 0.9 * first : first)
            case .adam, .amsgrad, .adamW:
                if kind == .adamW { value *= 1 - OptimizerKind.learningRate * kind.weightDecay }
                first = 0.9 * first + 0.1 * gradient
                second = 0.999 * second + 0.001 * gradient * gradient
                largest = max(largest, second)
                let divisor = kind == .amsgrad ? largest : second
                let corrected = (divisor / (1 - pow(0.999, Double(step)))).squareRoot() + 1e-8
                value -= OptimizerKind.learningRate / (1 - pow(0.9, Double(step))) * first / corrected
            case .rmsprop:
                second = 0.99 * second + 0.01 * gradient * gradient
                value -= OptimizerKind.learningRate * gradient / (second.squareRoot() + 1e-8)
            case .rmspropCentered:
                second = 0.99 * second + 0.01 * gradient * gradient
                largest = 0.99 * largest + 0.01 * gradient
                first = 0.9 * first + gradient / ((second - largest * largest).squareRoot() + 1e-8)
                value -= OptimizerKind.learningRate * first
            case .adagrad:
                second += gradient * gradient
                let rate = OptimizerKind.learningRate / (1 + Double(step - 1) * 0.01)
                value -= rate * gradient / (second.squareRoot() + 1e-10)
            }
            largestUpdate = max(largestUpdate, abs(value - before))
            bound += rounding * (3 * abs(value) + Double(3 * step + 8) * largestUpdate)
        }
    }

    @Test(arguments: OptimizerKind.allCases, InstructionSet.supported)
    func followsTheDocumentedFormulas(kind: OptimizerKind, instructionSet: InstructionSet) throws {
        let (parameter, generator) = Self.parameter(seed: 7)
        var references = parameter.value.scalars.map { Reference(kind: kind, value: Double($0)) }
        let optimizer = try kind.make([parameter])
        for step in 1...200 {
            let gradient = Tensor.randn(parameter.shape, generator: generator)
            parameter.grad = gradient
            try withExecution(instructionSet: instructionSet) { try optimizer.step() }
            for (position, element) in gradient.scalars.enumerated() { references[position].update(Double(element)) }
            for (reference, value) in zip(references, parameter.value.scalars) {
                #expect(abs(reference.value - Double(value)) <= reference.bound, "seed 7, step \(step)")
            }
        }
    }

    @Test(arguments: OptimizerKind.allCases)
    func stateSavedAndLoadedContinuesToTheSameBits(kind: OptimizerKind) throws {
        let (whole, wholeStream) = Self.parameter()
        try Self.feed(whole, try kind.make([whole]), wholeStream, steps: 40)

        let (first, stream) = Self.parameter()
        let before = try kind.make([first])
        try Self.feed(first, before, stream, steps: 20)
        let second = Parameter(first.value)
        let after = try kind.make([second], learningRate: 0.5)
        try after.load(stateDictionary: before.stateDictionary())
        #expect(after.learningRates == before.learningRates)
        try Self.feed(second, after, stream, steps: 20)
        #expect(second.value.bitEquals(whole.value))
    }

    @Test func stateOfAnotherOptimizerIsRefusedByName() throws {
        let (parameter, generator) = Self.parameter()
        parameter.name = "conv1.weight"
        let adam = try Adam(parameters: [parameter])
        try Self.feed(parameter, adam, generator, steps: 1)
        let sgd = try SGD(parameters: [parameter], learningRate: 0.1, momentum: 0.9)
        let before = sgd.stateDictionary()
        let error = #expect(throws: OptimizerError.self) { try sgd.load(stateDictionary: adam.stateDictionary()) }
        #expect(error?.message.contains("conv1.weight.exp_avg is unexpected") == true)
        #expect(error?.message.contains("group0.momentum is missing") == true)
        #expect(sgd.stateDictionary().numbers == before.numbers)
    }

    @Test func groupsHaveSettingsOfTheirOwn() throws {
        let a = Parameter(.ones([2])), b = Parameter(.ones([2]))
        let optimizer = try SGD(
            groups: [ParameterGroup([a]) { $0.learningRate = 0.5 }, ParameterGroup([b])], learningRate: 0.25)
        a.grad = .ones([2])
        b.grad = .ones([2])
        try optimizer.step()
        #expect(a.value.scalars == [0.5, 0.5])
        #expect(b.value.scalars == [0.75, 0.75])
    }

    @Test func aParameterWithoutGradientStays() throws {
        let a = Parameter(.ones([2])), b = Parameter(.ones([2]), requiresGrad: false)
        let optimizer = try AdamW(parameters: [a, b], learningRate: 0.1, weightDecay: 0.5)
        b.grad = .ones([2])
        try optimizer.step()
        #expect(a.value.scalars == [1, 1])
        #expect(b.value.scalars == [1, 1])
    }

    @Test func badSettingsAreNamed() {
        let parameter = Parameter(.ones([1]))
        func message(_ body: () throws -> Optimizer) -> String {
            do { _ = try body() } catch { return "\(error)" }
            return ""
        }
        #expect(message { try SGD(parameters: [parameter], learningRate: -1) }.contains("must be not negative"))
        #expect(message { try SGD(parameters: [parameter], learningRate: .nan) }.contains("learningRate"))
        #expect(message { try SGD(parameters: [parameter], learningRate: 1, nesterov: true) }.contains("nesterov"))
        #expect(message { try Adam(parameters: [parameter], betas: (1, 0.9)) }.contains("beta1"))
        #expect(message { try Adam(parameters: [parameter, parameter]) }.contains("twice"))
        #expect(message { try Adam(parameters: []) }.contains("at least one parameter"))
    }

    @Test func stepHooksRunAroundTheUpdate() throws {
        let parameter = Parameter(.ones([1]))
        let optimizer = try SGD(parameters: [parameter], learningRate: 0.5)
        parameter.grad = .ones([1])
        var seen: [String] = []
        let pre = optimizer.registerStepPreHook { _ in seen.append("pre \(parameter.value.item())") }
        optimizer.registerStepPostHook { _ in seen.append("post \(parameter.value.item())") }
        try optimizer.step()
        pre.remove()
        try optimizer.step()
        #expect(seen == ["pre 1.0", "post 0.5", "post 0.0"])
    }

    @Test func zeroGradDropsOrClears() throws {
        let parameter = Parameter(.ones([2]))
        let optimizer = try SGD(parameters: [parameter], learningRate: 0.5)
        parameter.grad = .ones([2])
        optimizer.zeroGrad(setToNil: false)
        #expect(parameter.grad?.scalars == [0, 0])
        optimizer.zeroGrad()
        #expect(parameter.grad == nil)
    }

    /// A user's own optimizer that knows nothing of masks.
    private final class SignDescent: Optimizer {
        override var bufferNames: [String] { ["last_sign"] }
        override var learningRates: [Double] {
            get { [0.125] }
            set {}
        }

        override func update(
            _ value: inout Tensor, gradient: Tensor, mask: GradientMask?, state: inout ParameterState, group: Int
        ) throws {
            let sign = Tensor(gradient.scalars.map { $0 < 0 ? -1 : 1 }, shape: gradient.shape)
            value -= 0.125 * sign
            state.buffers[0] = sign
        }
    }

    @Test func anOptimizerThatIgnoresMasksCannotMoveFrozenElements() throws {
        let parameter = Parameter(Tensor([0.3, 0.5]))
        try parameter.freeze(at: [0])
        let optimizer = try SignDescent(groups: [[parameter]])
        for _ in 0..<100 {
            parameter.grad = .ones([2])
            try optimizer.step()
        }
        #expect(parameter.value.scalars == [0.3, 0.5 - 12.5])
        #expect(optimizer.state(of: parameter)?.buffers[0]?.scalars == [0, 1])
    }
}

/// The optimizers that the freezing tests go through.
enum OptimizerKind: String, CaseIterable, CustomStringConvertible {
    case sgd, sgdDecay, sgdMomentum, sgdNesterov, adam, amsgrad, adamW, rmsprop, rmspropCentered, adagrad

    static let learningRate = 0.01
    var description: String { rawValue }
    var weightDecay: Double { self == .sgd || self == .sgdMomentum ? 0 : 0.05 }

    func make(_ parameters: [Parameter], learningRate: Double = Self.learningRate) throws -> Optimizer {
        switch self {
        case .sgd, .sgdDecay:
            try SGD(parameters: parameters, learningRate: learningRate, weightDecay: weightDecay)
        case .sgdMomentum, .sgdNesterov:
            try SGD(
                parameters: parameters, learningRate: learningRate, momentum: 0.9, weightDecay: weightDecay,
                nesterov: self == .sgdNesterov)
        case .adam, .amsgrad:
            try Adam(
                parameters: parameters, learningRate: learningRate, weightDecay: weightDecay, amsgrad: self == .amsgrad)
        case .adamW:
            try AdamW(parameters: parameters, learningRate: learningRate, weightDecay: weightDecay)
        case .rmsprop, .rmspropCentered:
            try RMSprop(
                parameters: parameters, learningRate: learningRate, weightDecay: weightDecay,
                momentum: self == .rmspropCentered ? 0.9 : 0, centered: self == .rmspropCentered)
        case .adagrad:
            try Adagrad(
                parameters: parameters, learningRate: learningRate, learningRateDecay: 0.01, weightDecay: weightDecay)
        }
    }
}
