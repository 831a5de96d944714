import CKernels

/// Adagrad (Duchi et al., 2011); PyTorch's arithmetic and defaults.
public final class Adagrad: Optimizer {
    public struct Options: Equatable, Sendable {
        public var learningRate = 0.01
        /// The rate of step n is the learning rate divided by 1 + (n - 1) times this.
        public var learningRateDecay = 0.0
        public var weightDecay = 0.0
        public var epsilon = 1e-10
        public var maximize = false
    }

    /// The settings of each group.
    public private(set) var options: [Options]

    public init(
        groups: [ParameterGroup<Options>], learningRate: Double = 0.01, learningRateDecay: Double = 0,
        weightDecay: Double = 0, epsilon: Double = 1e-10, maximize: Bool = false
    ) throws {
        options = try Options(
            learningRate: learningRate, learningRateDecay: learningRateDecay, weightDecay: weightDecay,
            epsilon: epsilon, maximize: maximize
        ).configured(for: groups)
        try super.init(groups: groups.map(\.parameters))
    }

    public convenience init(
        parameters: [Parameter], learningRate: Double = 0.01, learningRateDecay: Double = 0, weightDecay: Double = 0,
        epsilon: Double = 1e-10, maximize: Bool = false
    ) throws {
        try self.init(
            groups: [ParameterGroup(parameters)], learningRate: learningRate, learningRateDecay: learningRateDecay,
            weightDecay: weightDecay, epsilon: epsilon, maximize: maximize)
    }

    public override var bufferNames: [String] { ["sum"] }
    public override var sparesFrozenElements: Bool { true }

    public override var learningRates: [Double] {
        get { options.map(\.learningRate) }
        set { for group in options.indices { options[group].learningRate = newValue[group] } }
    }

    public override func settings(ofGroup group: Int) -> [String: Double] { options[group].settings }

    public override func setSettings(_ settings: [String: Double], ofGroup group: Int) throws {
        try options[group].set(settings)
    }

    public override func update(
        _ value: inout Tensor, gradient: Tensor, mask: GradientMask?, state: inout ParameterState, group: Int
    ) throws {
        let options = options[group]
        var settings = pf_adagrad(
            learning_rate: options.learningRate, learning_rate_decay: options.learningRateDecay,
            epsilon: options.epsilon, weight_decay: options.weightDecay, maximize: options.maximize,
            step: Int64(state.step))
        let sum = state.pointer(toBuffer: 0, shape: value.shape)
        let status = gradient.withUnsafeBufferPointer { gradient in
            value.withUnsafeMutableBufferPointer { value in
                withKernelContext {
                    pf_adagrad_update(
                        $0, Int64(value.count), &settings, gradient.baseAddress, mask?.bytes.pointer, sum,
                        value.baseAddress)
                }
            }
        }
        try requireKernel(status, "Adagrad")
    }
}

extension Adagrad.Options: OptimizerOptions {
    static var numbers: [(name: String, path: WritableKeyPath<Self, Double>, range: NumberRange)] {
        [
            ("learningRate", \.learningRate, .notNegative), ("learningRateDecay", \.learningRateDecay, .notNegative),
            ("weightDecay", \.weightDecay, .notNegative), ("epsilon", \.epsilon, .notNegative),
        ]
    }
    static var flags: [(name: String, path: WritableKeyPath<Self, Bool>)] { [("maximize", \.maximize)] }
}
