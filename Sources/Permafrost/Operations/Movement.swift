import CKernels

// MARK: - Shape

private final class ReshapeNode: Node {
    private let shape: Shape

    init(_ x: Tensor) {
        shape = x.shape
        super.init(x.node)
    }

    override var operation: String { "reshape" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) {
        pass.send(gradient!.withShape(shape), to: input0)
    }
}

extension Tensor {
    /// The same elements in row-major order under another shape. Traps when the shape doesn't have as many.
    public func reshaped(_ shape: Shape) -> Tensor {
        precondition(
            shape.elementCount == count,
            "reshaped: a tensor of shape \(self.shape) has \(count) elements, not the \(shape.elementCount) of \(shape)"
        )
        var result = withShape(shape)
        if Tensor.records(self) { result.node = ReshapeNode(self) }
        return result
    }

    /// The same, with one extent given as -1 and computed from the others.
    public func reshaped(_ extents: [Int]) -> Tensor {
        guard let open = extents.firstIndex(of: -1) else { return reshaped(Shape(extents)) }
        var extents = extents
        extents.remove(at: open)
        let known = Shape(extents).elementCount
        precondition(
            known > 0 && count % known == 0 && !extents.contains(-1),
            "reshaped: a tensor of shape \(shape) can't have -1 computed in a shape with extents \(extents)")
        extents.insert(count / known, at: open)
        return reshaped(Shape(extents))
    }

    /// Axes from `startAxis` on merged into one.
    public func flattened(startAxis: Int = 0) -> Tensor {
        guard rank > 0 else { return reshaped([1]) }
        guard let start = shape.normalizedAxis(startAxis) else {
            preconditionFailure("flattened: axis \(startAxis) of a tensor of shape \(shape)")
        }
        return reshaped(Shape(shape[..<start] + [shape[start...].reduce(1, *)]))
    }
}

// MARK: - Order of axes

private final class PermuteNode: Node {
    private let inverse: [Int]

    init(_ x: Tensor, _ axes: [Int]) {
        var inverse = axes
        for (i, axis) in axes.enumerated() { inverse[axis] = i }
        self.inverse = inverse
        super.init(x.node)
    }

    override var operation: String { "permute" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) {
        pass.send(gradient!.permuted(inverse), to: input0)
    }
}

extension Tensor {
    /// Axis i of the result is axis `axes[i]` of this tensor. Traps unless each axis is named once.
    public func permuted(_ axes: [Int]) -> Tensor {
        let order = axes.map { shape.normalizedAxis($0) ?? -1 }
        precondition(
            order.sorted() == Array(0..<rank), "permuted: \(axes) doesn't name each axis of shape \(shape) once")
        let dense = shape.denseStrides
        let target = Shape(order.map { shape[$0] })
        var result = Tensor.uninitialized(target)
        checkKernel(
            withKernelContext {
                pf_copy_strided(
                    $0, Int32(rank), target.asInt64, storage.pointer, order.map { dense[$0] }, pf_overwrite,
                    result.storage.pointer, target.denseStrides)
            }, "permuted")
        if Tensor.records(self) { result.node = PermuteNode(self, order) }
        return result
    }

    /// The last two axes exchanged. Traps on fewer than two.
    public func transposed() -> Tensor {
        precondition(rank >= 2, "transposed: a tensor of shape \(shape) has fewer than two axes")
        return permuted(Array(0..<rank - 2) + [rank - 1, rank - 2])
    }
}

// MARK: - Selections

private final class SliceNode: Node {
    private let selection: Selection

    init(_ x: Tensor, _ selection: Selection) {
        self.selection = selection
        super.init(x.node)
    }

    override var operation: String { "slice" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) {
        var result = Tensor.zeros(selection.source)
        result.write(gradient!, at: selection)
        pass.send(result, to: input0)
    }
}

private final class AssignNode: Node {
    private let selection: Selection
    private let valueShape: Shape

    init(_ x: Tensor, _ value: Tensor, _ selection: Selection) {
        self.selection = selection
        valueShape = value.shape
        super.init(x.node, value.node)
    }

    override var operation: String { "assignment" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) {
        if input1 != nil { pass.send(gradient!.slice(selection).summed(to: valueShape), to: input1) }
        if input0 != nil {
            var rest = gradient!
            rest.write(0, at: selection)
            pass.send(rest, to: input0)
        }
    }
}

extension Tensor {
    func slice(_ selection: Selection) -> Tensor {
        let (offset, strides) = selection.view
        var result = Tensor.uninitialized(selection.shape)
        checkKernel(
            withKernelContext {
                pf_copy_strided(
                    $0, Int32(selection.shape.rank), selection.shape.asInt64, storage.pointer + offset, strides,
                    pf_overwrite, result.storage.pointer, selection.shape.denseStrides)
            }, "subscript")
        if Tensor.records(self) { result.node = SliceNode(self, selection) }
        return result
    }

    /// Writes the elements of `value`, broadcast, in place; nothing is recorded.
    mutating func write(_ value: Tensor, at selection: Selection) {
        precondition(
            Shape.broadcast(value.shape, selection.shape) == selection.shape,
            "a value of shape \(value.shape) can't be written to a selection of shape \(selection.shape)")
        makeUnique()
        let (offset, strides) = selection.view
        checkKernel(
            withKernelContext {
                pf_copy_strided(
                    $0, Int32(selection.shape.rank), selection.shape.asInt64, value.storage.pointer,
                    value.shape.broadcastStrides(to: selection.shape), pf_overwrite, storage.pointer + offset, strides)
            }, "subscript")
    }

    mutating func assign(_ value: Tensor, at selection: Selection) {
        let isComputed = node != nil && !(node is Leaf)
        let records = isGradEnabled && (isComputed || value.node != nil)
        precondition(
            !records || isComputed || node == nil,
            "a tensor that requires a gradient can't be written into a leaf that does: no gradient could reach both")
        let next = records ? AssignNode(self, value, selection) : nil
        write(value, at: selection)
        if let next { node = next }
    }
}

// MARK: - Concatenation

private final class ConcatenateNode: Node {
    private let axis: Int
    private let extents: [Int]
    private let nodes: [Node?]

    init(_ tensors: [Tensor], axis: Int) {
        self.axis = axis
        extents = tensors.map { $0.shape[axis] }
        nodes = tensors.map(\.node)
        super.init()
        moreInputs = nodes.compactMap { $0 }
    }

    override var operation: String { "concatenate" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        var start = 0
        for (node, extent) in zip(nodes, extents) {
            if node != nil {
                var indices: [any AxisIndex] = Array(repeating: AllIndices(), count: axis)
                indices.append(start..<start + extent)
                pass.send(gradient!.slice(try Selection(indices, in: gradient!.shape)), to: node)
            }
            start += extent
        }
    }
}

/// The tensors one after the other along `axis`.
/// - Throws: `TensorError` when there is none, or when two differ in another extent.
public func concatenate(_ tensors: [Tensor], axis: Int = 0) throws -> Tensor {
    guard let first = tensors.first else { throw TensorError("concatenate: no tensors") }
    guard let along = first.shape.normalizedAxis(axis) else {
        throw TensorError("concatenate: axis \(axis) of a tensor of shape \(first.shape)")
    }
    for tensor in tensors {
        guard tensor.rank == first.rank,
            tensor.shape.indices.allSatisfy({ $0 == along || tensor.shape[$0] == first.shape[$0] })
        else {
            throw TensorError(
                "concatenate along axis \(along): shapes \(first.shape) and \(tensor.shape) differ in another axis")
        }
    }
    var extents = Array(first.shape)
    extents[along] = tensors.reduce(0) { $0 + $1.shape[along] }
    var result = Tensor.uninitialized(Shape(extents))
    var start = 0
    for tensor in tensors {
        var indices: [any AxisIndex] = Array(repeating: AllIndices(), count: along)
        indices.append(start..<start + tensor.shape[along])
        result.write(tensor, at: try Selection(indices, in: result.shape))
        start += tensor.shape[along]
    }
    if isGradEnabled, tensors.contains(where: { $0.node != nil }) {
        result.node = ConcatenateNode(tensors, axis: along)
    }
    return result
}
