import CKernels

extension Tensor {
    /// The selected elements, or their replacement.
    ///
    /// Reading gives a tensor whose axes are those not indexed by an `Int`; gradients flow through it. Writing
    /// takes a tensor that broadcasts to the selection's shape, and copies the elements first only if another
    /// tensor shares them:
    ///
    ///     w[.all, .all, 1, 1] = -1
    ///     let row = x[0, 1..<3, .every(2)]
    ///
    /// Writing to a leaf changes its value; writing to a tensor that was computed is recorded on the tape, so that
    /// no gradient flows to what was overwritten. Traps when an index is out of range, naming its axis.
    public subscript(_ indices: any AxisIndex...) -> Tensor {
        get { slice(trapping { try Selection(indices, in: shape) }) }
        set { assign(newValue, at: trapping { try Selection(indices, in: shape) }) }
    }

    /// One element; traps unless there is an index for each axis, in range (negative counts from the end).
    public subscript(element indices: Int...) -> Float {
        get { storage.pointer[offset(of: indices)] }
        set {
            let offset = offset(of: indices)
            if node == nil || node is Leaf {
                makeUnique()
                storage.pointer[offset] = newValue
            } else {
                assign(Tensor(newValue), at: trapping { try Selection(indices, in: shape) })
            }
        }
    }

    /// The row-major position of one element.
    func offset(of indices: [Int]) -> Int {
        precondition(
            indices.count == rank, "\(indices.count) indices for one element of a tensor of shape \(shape)")
        var offset = 0
        for axis in 0..<rank {
            let extent = shape[axis]
            let index = indices[axis] < 0 ? indices[axis] + extent : indices[axis]
            precondition(
                index >= 0 && index < extent,
                "index \(indices[axis]) is out of range for axis \(axis) of size \(extent) of a tensor of shape "
                    + "\(shape)"
            )
            offset = offset * extent + index
        }
        return offset
    }
}
