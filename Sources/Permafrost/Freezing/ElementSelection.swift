/// Which elements of a parameter a freeze or a thaw is about.
public enum ElementSelection {
    /// Every element.
    case all
    /// Those that a subscript with the same indices would select: `.at([0, 1, 2, 1])`, `.at([.all, .all, 1, 1])`.
    case at([any AxisIndex])
    /// Those at the given full indices; negative ones count from the end.
    case indices([[Int]])
    /// Those whose indices (one an axis, not negative) satisfy the predicate.
    case matching((_ indices: [Int]) throws -> Bool)
    /// Those whose present value satisfies the predicate, such as `{ $0 == 0 }` in a pruned network.
    case valued((_ value: Float) throws -> Bool)
    /// Those where a tensor of the parameter's shape is 1; elsewhere it must be 0.
    case ones(in: Tensor)

    /// Row-major offsets into `value`, in the order the selection names them.
    ///
    /// - Throws: `TensorError` for indices that don't fit, `FreezeError` when nothing matches; both name what came.
    func offsets(in value: Tensor, of parameter: String) throws -> [Int] {
        let shape = value.shape
        guard shape.elementCount <= Int(Int32.max) else {
            throw FreezeError("\(parameter) has more than 2^31 - 1 elements, which is the most that can be frozen")
        }
        let offsets: [Int]
        switch self {
        case .all:
            offsets = Array(0..<shape.elementCount)
        case .at(let indices):
            do {
                offsets = try Selection(indices, in: shape).offsets
            } catch let error as TensorError {
                throw FreezeError("\(parameter): \(error.message)")
            }
        case .indices(let list):
            offsets = try list.map { try Self.offset(of: $0, in: shape, of: parameter) }
        case .matching(let predicate):
            offsets = try (0..<shape.elementCount).filter { try predicate(shape.indices(ofOffset: $0)) }
        case .valued(let predicate):
            offsets = try value.withUnsafeBufferPointer { elements in
                try elements.indices.filter { try predicate(elements[$0]) }
            }
        case .ones(in: let chosen):
            guard chosen.shape == shape else {
                throw FreezeError(
                    "\(parameter) has shape \(shape), but the tensor of its frozen elements \(chosen.shape)")
            }
            offsets = try chosen.withUnsafeBufferPointer { elements in
                if let odd = elements.firstIndex(where: { $0 != 0 && $0 != 1 }) {
                    throw FreezeError(
                        "the tensor of frozen elements of \(parameter) must hold 0 and 1 only, but has "
                            + "\(elements[odd]) at \(bracketed(shape.indices(ofOffset: odd)))")
                }
                return elements.indices.filter { elements[$0] == 1 }
            }
        }
        guard !offsets.isEmpty else {
            throw FreezeError("the selection matches no element of \(parameter), whose shape is \(shape)")
        }
        return offsets
    }

    private static func offset(of indices: [Int], in shape: Shape, of parameter: String) throws -> Int {
        guard indices.count == shape.rank else {
            throw FreezeError(
                "\(parameter): \(bracketed(indices)) has \(indices.count) indices, but the shape \(shape) has "
                    + "\(shape.rank) axes")
        }
        var offset = 0
        for (axis, index) in indices.enumerated() {
            guard index >= -shape[axis], index < shape[axis] else {
                throw FreezeError(
                    "\(parameter): index \(index) is out of range for axis \(axis) of size \(shape[axis]) of a tensor "
                        + "of shape \(shape)")
            }
            offset = offset * shape[axis] + (index < 0 ? index + shape[axis] : index)
        }
        return offset
    }
}
