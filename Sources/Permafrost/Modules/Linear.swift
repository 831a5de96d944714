/// input · weightᵀ + bias over the last axis: [..., inputFeatures] -> [..., outputFeatures].
open class Linear: Module {
    /// [outputFeatures, inputFeatures]
    public let weight: Parameter
    /// [outputFeatures]
    public let bias: Parameter?
    public let inputFeatures: Int
    public let outputFeatures: Int

    /// Weights and biases are drawn uniformly from ±1/√inputFeatures. Traps when a size isn't positive.
    public init(_ inputFeatures: Int, _ outputFeatures: Int, bias: Bool = true) {
        precondition(
            inputFeatures > 0 && outputFeatures > 0,
            "Linear: the numbers of features must be positive, not \(inputFeatures) and \(outputFeatures)")
        self.inputFeatures = inputFeatures
        self.outputFeatures = outputFeatures
        weight = .uniform([outputFeatures, inputFeatures], fanIn: inputFeatures)
        self.bias = bias ? .uniform([outputFeatures], fanIn: inputFeatures) : nil
        super.init()
    }

    public convenience init(inputFeatures: Int, outputFeatures: Int, bias: Bool = true) {
        self.init(inputFeatures, outputFeatures, bias: bias)
    }

    open override func forward(_ input: Tensor) throws -> Tensor {
        guard input.shape.last == inputFeatures else {
            throw ModuleError(self, "expected an input of shape [..., \(inputFeatures)], got \(input.shape)")
        }
        return try naming { try linear(input, weight.tensor, bias: bias?.tensor) }
    }

    open override func stateEntries() -> [StateEntry] {
        affineEntries(weight, bias) + reflectedEntries(below: Linear.self)
    }

    open override var extraDescription: String {
        "\(inputFeatures), \(outputFeatures)" + (bias == nil ? ", bias: false" : "")
    }
}
