import CKernels

/// Stochastic gradient descent with momentum, Nesterov's variant and L2 weight decay; PyTorch's arithmetic, where the
/// first update sets the momentum buffer to the gradient.
public final class SGD: Optimizer {
    public struct Options: Equatable, Sendable {
        public var learningRate: Double
        public var momentum = 0.0
        public var dampening = 0.0
        /// L2: this times the value is added to the gradient.
        public var weightDecay = 0.0
        public var nesterov = false
        public var maximize = false
    }

    /// The settings of each group.
    public private(set) var options: [Options]

    public init(
        groups: [ParameterGroup<Options>], learningRate: Double, momentum: Double = 0, dampening: Double = 0,
        weightDecay: Double = 0, nesterov: Bool = false, maximize: Bool = false
    ) throws {
        options = try Options(
            learningRate: learningRate, momentum: momentum, dampening: dampening, weightDecay: weightDecay,
            nesterov: nesterov, maximize: maximize
        ).configured(for: groups)
        if let odd = options.first(where: { $0.nesterov && ($0.momentum == 0 || $0.dampening != 0) }) {
            throw OptimizerError(
                "nesterov needs a momentum and no dampening; momentum is \(odd.momentum), dampening \(odd.dampening)")
        }
        try super.init(groups: groups.map(\.parameters))
    }

    public convenience init(
        parameters: [Parameter], learningRate: Double, momentum: Double = 0, dampening: Double = 0,
        weightDecay: Double = 0, nesterov: Bool = false, maximize: Bool = false
    ) throws {
        try self.init(
            groups: [ParameterGroup(parameters)], learningRate: learningRate, momentum: momentum, dampening: dampening,
            weightDecay: weightDecay, nesterov: nesterov, maximize: maximize)
    }

    public override var bufferNames: [String] { ["momentum_buffer"] }
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
        var settings = pf_sgd(
            learning_rate: Float(options.learningRate), momentum: Float(options.momentum),
            dampening: Float(options.dampening), weight_decay: Float(options.weightDecay), nesterov: options.nesterov,
            maximize: options.maximize, first_step: state.buffers[0] == nil)
        let momentum = options.momentum == 0 ? nil : state.pointer(toBuffer: 0, shape: shape)
        let status = gradient.withUnsafeBufferPointer { gradient in
            value.withUnsafeMutableBufferPointer { value in
                withKernelContext {
                    pf_sgd_update(
                        $0, Int64(value.count), &settings, gradient.baseAddress, mask?.bytes.pointer, momentum,
                        value.baseAddress)
                }
            }
        }
        try requireKernel(status, "SGD")
    }
}

extension SGD.Options: OptimizerOptions {
    static var numbers: [(name: String, path: WritableKeyPath<Self, Double>, range: NumberRange)] {
        [
            ("learningRate", \.learningRate, .notNegative), ("momentum", \.momentum, .notNegative),
            ("dampening", \.dampening, .any), ("weightDecay", \.weightDecay, .notNegative),
        ]
    }
    static var flags: [(name: String, path: WritableKeyPath<Self, Bool>)] {
        [("nesterov", \.nesterov), ("maximize", \.maximize)]
    }
}
