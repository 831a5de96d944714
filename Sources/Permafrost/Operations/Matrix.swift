import CKernels

/// One kernel call on row-major operands; nothing is recorded.
private func product(
    rows: Int, columns: Int, inner: Int, _ a: Tensor, transposeA: Bool = false, _ b: Tensor,
    transposeB: Bool = false, bias: Tensor? = nil, mask: MaskBytes? = nil, shape: Shape, name: String
) throws -> Tensor {
    let result = Tensor.uninitialized(shape)
    var problem = pf_matrix_product(
        rows: Int64(rows), columns: Int64(columns), inner: Int64(inner), transpose_a: transposeA,
        transpose_b: transposeB, stride_a: Int64(transposeA ? rows : inner),
        stride_b: Int64(transposeB ? inner : columns), stride_result: Int64(columns))
    try requireKernel(
        withKernelContext {
            pf_matrix_multiply(
                $0, &problem, a.storage.pointer, b.storage.pointer, bias?.storage.pointer, mask?.pointer, pf_overwrite,
                result.storage.pointer)
        }, name)
    return result
}

private final class MatmulNode: Node {
    private var a: Tensor?, b: Tensor?

    init(_ a: Tensor, _ b: Tensor) {
        self.a = a.detached()
        self.b = b.detached()
        super.init(a.node, b.node)
    }

    override var operation: String { "matmul" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        let gradient = gradient!
        let a = a!
        let b = b!
        let rows = a.shape[0]
        let inner = a.shape[1]
        let columns = b.shape[1]
        if input0 != nil {
            let part = try product(
                rows: rows, columns: inner, inner: columns, gradient, b, transposeB: true, shape: a.shape,
                name: operation)
            pass.send(part, to: input0)
        }
        if input1 != nil {
            let part = try product(
                rows: inner, columns: columns, inner: rows, a, transposeA: true, gradient,
                mask: (input1 as? Leaf)?.gradientMask, shape: b.shape, name: operation)
            pass.send(part, to: input1)
        }
    }

    override func releaseSaved() {
        a = nil
        b = nil
        isReleased = true
    }
}

/// The matrix product of [rows, inner] and [inner, columns].
/// - Throws: `TensorError` when an operand isn't a matrix or the inner extents differ.
public func matmul(_ a: Tensor, _ b: Tensor) throws -> Tensor {
    guard a.rank == 2, b.rank == 2, a.shape[1] == b.shape[0] else {
        throw TensorError("matmul: needs [rows, inner] and [inner, columns], got \(a.shape) and \(b.shape)")
    }
    var result = try product(
        rows: a.shape[0], columns: b.shape[1], inner: a.shape[1], a, b, shape: [a.shape[0], b.shape[1]], name: "matmul")
    if Tensor.records(a, b) { result.node = MatmulNode(a, b) }
    return result
}

private final class LinearNode: Node {
    private var x: Tensor?, weight: Tensor?
    private let rows: Int

    init(_ x: Tensor, _ weight: Tensor, _ bias: Tensor?, rows: Int) {
        if weight.node != nil { self.x = x.detached() }
        if x.node != nil { self.weight = weight.detached() }
        self.rows = rows
        inputShape = x.shape
        outputs = weight.shape[0]
        inputs = weight.shape[1]
        super.init(x.node, weight.node, bias?.node)
    }

    private let inputShape: Shape
    private let outputs: Int, inputs: Int

    override var operation: String { "linear" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        let gradient = gradient!
        if input0 != nil {
            let part = try product(
                rows: rows, columns: inputs, inner: outputs, gradient, weight!, shape: inputShape, name: operation)
            pass.send(part, to: input0)
        }
        if input1 != nil {
            let part = try product(
                rows: outputs, columns: inputs, inner: rows, gradient, transposeA: true, x!,
                mask: (input1 as? Leaf)?.gradientMask, shape: [outputs, inputs], name: operation)
            pass.send(part, to: input1)
        }
        if input2 != nil {
            let part = Tensor.uninitialized([outputs])
            try requireKernel(
                withKernelContext {
                    pf_reduce(
                        $0, pf_sum, 1, Int64(rows), Int64(outputs), gradient.storage.pointer,
                        (input2 as? Leaf)?.gradientMask?.pointer, pf_overwrite, part.storage.pointer)
                }, operation)
            pass.send(part, to: input2)
        }
    }

    override func releaseSaved() {
        x = nil
        weight = nil
        isReleased = true
    }
}

/// `input` times the transpose of `weight`, plus `bias`, along the last axis.
///
/// - Parameters:
///   - input: [..., inputs]
///   - weight: [outputs, inputs]
///   - bias: [outputs], or nil
/// - Returns: [..., outputs]
/// - Throws: `TensorError` when shapes don't fit.
public func linear(_ input: Tensor, _ weight: Tensor, bias: Tensor? = nil) throws -> Tensor {
    guard weight.rank == 2 else {
        throw TensorError("linear: the weight must be [outputs, inputs], not of shape \(weight.shape)")
    }
    let outputs = weight.shape[0]
    let inputs = weight.shape[1]
    guard input.rank >= 1, input.shape[input.rank - 1] == inputs else {
        throw TensorError(
            "linear: the input must be [..., \(inputs)] for a weight of shape \(weight.shape), not \(input.shape)")
    }
    if let bias, bias.shape != [outputs] {
        throw TensorError("linear: the bias must be of shape [\(outputs)], not \(bias.shape)")
    }
    let rows = input.shape.dropLast().reduce(1, *)
    var result = try product(
        rows: rows, columns: outputs, inner: inputs, input, weight, transposeB: true, bias: bias,
        shape: Shape(input.shape.dropLast() + [outputs]), name: "linear")
    if Tensor.records(input, weight, bias) { result.node = LinearNode(input, weight, bias, rows: rows) }
    return result
}
