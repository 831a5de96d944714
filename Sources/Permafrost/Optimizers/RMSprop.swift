import CKernels

/// RMSprop (Hinton, 2012), with momentum and centring (Graves, 2013); PyTorch's arithmetic and defaults.
public final class RMSprop: Optimizer {
    public struct Options: Equatable, Sendable {
        public var learningRate = 0.01
        /// How much of the mean square stays in a step.
        public var alpha = 0.99
        public var epsilon = 1e-8
        public var weightDecay = 0.0
        public var momentum = 0.0
        /// Divide by the standard deviation of the gradient instead of its root mean square.
        public var centered = false
        public var maximize = false
    }

    /// The settings of each group.
    public private(set) var options: [Options]

    public init(
        groups: [ParameterGroup<Options>], learningRate: Double = 0.01, alpha: Double = 0.99, epsilon: Double = 1e-8,
        weightDecay: Double = 0, momentum: Double = 0, centered: Bool = false, maximize: Bool = false
    ) throws {
        options = try Options(
            learningRate: learningRate, alpha: alpha, epsilon: epsilon, weightDecay: weightDecay, momentum: momentum,
            centered: centered, maximize: maximize
        ).configured(for: groups)
        try super.init(groups: groups.map(\.parameters))
    }

    public convenience init(
        parameters: [Parameter], learningRate: Double = 0.01, alpha: Double = 0.99, epsilon: Double = 1e-8,
        weightDecay: Double = 0, momentum: Double = 0, centered: Bool = false, maximize: Bool = false
    ) throws {
        try self.init(
            groups: [ParameterGroup(parameters)], learningRate: learningRate, alpha: alpha, epsilon: epsilon,
            weightDecay: weightDecay, momentum: momentum, centered: centered, maximize: maximize)
    }

    public override var bufferNames: [String] { ["square_avg", "grad_avg", "momentum_buffer"] }
    public override var sparesFrozenElements: Bool { true }

    public override var learningRates: [Double] {
        get { options.map(\.learningRate) }
        set { for group in options.indices { options[group].learningRate = newValue[group] } }
    }

    public override var momenta: [Double]? {
        get { options.map(\.momentum) }
        set { for group in options.indices { options[group].momentum = newValue?[group] ?? 0 } }
    }

    public override func settings(ofGroup group: Int) -> [String: Double] { options[group].settings }

    public override func setSettings(_ settings: [String: Double], ofGroup group: Int) throws {
        try options[group].set(settings)
    }

    public override func update(
        _ value: inout Tensor, gradient: Tensor, mask: GradientMask?, state: inout ParameterState, group: Int
    ) throws {
        let options = options[group], shape = value.shape
        var settings = pf_rmsprop(
            learning_rate: options.learningRate, alpha: options.alpha, epsilon: options.epsilon,
            weight_decay: options.weightDecay, momentum: options.momentum, maximize: options.maximize)
        let square = state.pointer(toBuffer: 0, shape: shape)
        let mean = options.centered ? state.pointer(toBuffer: 1, shape: shape) : nil
        let momentum = options.momentum == 0 ? nil : state.pointer(toBuffer: 2, shape: shape)
        let status = gradient.withUnsafeBufferPointer { gradient in
            value.withUnsafeMutableBufferPointer { value in
                withKernelContext {
                    pf_rmsprop_update(
                        $0, Int64(value.count), &settings, gradient.baseAddress, mask?.bytes.pointer, square, mean,
                        momentum, value.baseAddress)
                }
            }
        }
        try requireKernel(status, "RMSprop")
    }
}

extension RMSprop.Options: OptimizerOptions {
    static var numbers: [(name: String, path: WritableKeyPath<Self, Double>, range: NumberRange)] {
        [
            ("learningRate", \.learningRate, .notNegative), ("alpha", \.alpha, .belowOne),
            ("epsilon", \.epsilon, .notNegative), ("weightDecay", \.weightDecay, .notNegative),
            ("momentum", \.momentum, .notNegative),
        ]
    }
    static var flags: [(name: String, path: WritableKeyPath<Self, Bool>)] {
        [("centered", \.centered), ("maximize", \.maximize)]
    }
}
