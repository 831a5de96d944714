extension Parameter {
    /// PyTorch's default for the weights and biases of convolutions and linear layers: uniform in ±1/√fanIn. For
    /// weights that is Kaiming's uniform initialisation (He et al., 2015) with a = √5.
    static func uniform(_ shape: Shape, fanIn: Int) -> Parameter {
        let bound = fanIn > 0 ? 1 / Float(fanIn).squareRoot() : 0
        return Parameter(bound > 0 ? .uniform(shape, in: -bound..<bound) : .zeros(shape))
    }
}
