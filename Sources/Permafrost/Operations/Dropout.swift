import CKernels

private func dropped(_ x: Tensor, _ draw: Generator.State, _ probability: Float) throws -> Tensor {
    let result = Tensor.uninitialized(x.shape)
    try requireKernel(
        withKernelContext {
            pf_dropout(
                $0, draw.seed, draw.stream, Int64(x.count), probability, x.storage.pointer, result.storage.pointer)
        }, "dropout")
    return result
}

private final class DropoutNode: Node {
    private let draw: Generator.State
    private let probability: Float

    init(_ x: Tensor, _ draw: Generator.State, _ probability: Float) {
        self.draw = draw
        self.probability = probability
        super.init(x.node)
    }

    override var operation: String { "dropout" }

    /// Which elements were kept is drawn again from the counter instead of saved.
    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        pass.send(try dropped(gradient!, draw, probability), to: input0)
    }
}

/// Sets elements to zero with `probability`, independently, and scales the others by 1 / (1 - probability)
/// (Srivastava et al., 2014).
/// - Throws: `TensorError` when the probability isn't in 0 ... 1.
public func dropout(
    _ input: Tensor, probability: Float = 0.5, generator: Generator = .default
) throws -> Tensor {
    guard probability >= 0, probability <= 1 else {
        throw TensorError("dropout: the probability must be in 0 ... 1, not \(probability)")
    }
    let draw = generator.next()
    var result = try dropped(input, draw, probability)
    if Tensor.records(input) { result.node = DropoutNode(input, draw, probability) }
    return result
}
