import CKernels

/// Adam (Kingma and Ba, 2015), with L2 weight decay and AMSGrad (Reddi et al., 2018); PyTorch's arithmetic and
/// defaults.
public class Adam: Optimizer {
    public struct Options: Equatable, Sendable {
        public var learningRate = 0.001
        public var beta1 = 0.9
        public var beta2 = 0.999
        public var epsilon = 1e-8
        public var weightDecay = 0.0
        /// Divide by the largest second moment so far instead of the present one.
        public var amsgrad = false
        public var maximize = false
    }

    /// The settings of each group.
    public private(set) var options: [Options]

    /// Whether weight decay shrinks the value instead of adding to the gradient.
    var isDecoupled: Bool { false }

    public init(
        groups: [ParameterGroup<Options>], learningRate: Double = 0.001, betas: (Double, Double) = (0.9, 0.999),
        epsilon: Double = 1e-8, weightDecay: Double = 0, amsgrad: Bool = false, maximize: Bool = false
    ) throws {
        options = try Options(
            learningRate: learningRate, beta1: betas.0, beta2: betas.1, epsilon: epsilon, weightDecay: weightDecay,
            amsgrad: amsgrad, maximize: maximize
        ).configured(for: groups)
        try super.init(groups: groups.map(\.parameters))
    }

    public convenience init(
        parameters: [Parameter], learningRate: Double = 0.001, betas: (Double, Double) = (0.9, 0.999),
        epsilon: Double = 1e-8, weightDecay: Double = 0, amsgrad: Bool = false, maximize: Bool = false
    ) throws {
        try self.init(
            groups: [ParameterGroup(parameters)], learningRate: learningRate, betas: betas, epsilon: epsilon,
            weightDecay: weightDecay, amsgrad: amsgrad, maximize: maximize)
    }

    public override var bufferNames: [String] { ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"] }
    public override var sparesFrozenElements: Bool { true }

    public override var learningRates: [Double] {
        get { options.map(\.learningRate) }
        set { for group in options.indices { options[group].learningRate = newValue[group] } }
    }

    public override var momenta: [Double]? {
        get { options.map(\.beta1) }
        set { for group in options.indices { options[group].beta1 = newValue?[group] ?? 0 } }
    }

    public override func settings(ofGroup group: Int) -> [String: Double] { options[group].settings }

    public override func setSettings(_ settings: [String: Double], ofGroup group: Int) throws {
        try options[group].set(settings)
    }

    public override func update(
        _ value: inout Tensor, gradient: Tensor, mask: GradientMask?, state: inout ParameterState, group: Int
    ) throws {
        let options = options[group], shape = value.shape
        var settings = pf_adam(
            learning_rate: options.learningRate, beta1: options.beta1, beta2: options.beta2, epsilon: options.epsilon,
            weight_decay: options.weightDecay, decoupled: isDecoupled, maximize: options.maximize,
            step: Int64(state.step))
        let first = state.pointer(toBuffer: 0, shape: shape)
        let second = state.pointer(toBuffer: 1, shape: shape)
        let largest = options.amsgrad ? state.pointer(toBuffer: 2, shape: shape) : nil
        let status = gradient.withUnsafeBufferPointer { gradient in
            value.withUnsafeMutableBufferPointer { value in
                withKernelContext {
                    pf_adam_update(
                        $0, Int64(value.count), &settings, gradient.baseAddress, mask?.bytes.pointer, first, second,
                        largest, value.baseAddress)
                }
            }
        }
        try requireKernel(status, "\(type(of: self))")
    }
}

/// AdamW (Loshchilov and Hutter, 2019): Adam whose weight decay multiplies the value by 1 - learning rate * decay.
public final class AdamW: Adam {
    override var isDecoupled: Bool { true }

    public override init(
        groups: [ParameterGroup<Options>], learningRate: Double = 0.001, betas: (Double, Double) = (0.9, 0.999),
        epsilon: Double = 1e-8, weightDecay: Double = 0.01, amsgrad: Bool = false, maximize: Bool = false
    ) throws {
        try super.init(
            groups: groups, learningRate: learningRate, betas: betas, epsilon: epsilon, weightDecay: weightDecay,
            amsgrad: amsgrad, maximize: maximize)
    }

    public convenience init(
        parameters: [Parameter], learningRate: Double = 0.001, betas: (Double, Double) = (0.9, 0.999),
        epsilon: Double = 1e-8, weightDecay: Double = 0.01, amsgrad: Bool = false, maximize: Bool = false
    ) throws {
        try self.init(
            groups: [ParameterGroup(parameters)], learningRate: learningRate, betas: betas, epsilon: epsilon,
            weightDecay: weightDecay, amsgrad: amsgrad, maximize: maximize)
    }
}

extension Adam.Options: OptimizerOptions {
    static var numbers: [(name: String, path: WritableKeyPath<Self, Double>, range: NumberRange)] {
        [
            ("learningRate", \.learningRate, .notNegative),
            ("beta1", \.beta1, .belowOne), ("beta2", \.beta2, .belowOne),
            ("epsilon", \.epsilon, .notNegative), ("weightDecay", \.weightDecay, .notNegative),
        ]
    }
    static var flags: [(name: String, path: WritableKeyPath<Self, Bool>)] {
        [("amsgrad", \.amsgrad), ("maximize", \.maximize)]
    }
}
