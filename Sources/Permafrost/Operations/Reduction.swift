import CKernels

extension Tensor {
    enum ReductionKind {
        case sum, max, min

        var kernel: pf_reduction {
            switch self {
            case .sum: pf_sum
            case .max: pf_max
            case .min: pf_min
            }
        }
    }

    /// Reduces over `axes` (normalised, ascending) and drops them; nothing is recorded.
    func reduced(_ kind: ReductionKind, axes: [Int]) -> Tensor {
        var result = Tensor(shape: shape, storage: storage)
        var last = axes.count - 1
        while last >= 0 {
            // Neighbouring axes are reduced in one call.
            var first = last
            while first > 0 && axes[first - 1] == axes[first] - 1 { first -= 1 }
            let low = axes[first]
            let high = axes[last]
            let outer = result.shape[..<low].reduce(1, *)
            let middle = result.shape[low...high].reduce(1, *)
            let inner = result.shape[(high + 1)...].reduce(1, *)
            let next = Tensor.uninitialized(Shape(Array(result.shape[..<low]) + result.shape[(high + 1)...]))
            if next.count > 0 {
                checkKernel(
                    withKernelContext {
                        pf_reduce(
                            $0, kind.kernel, Int64(outer), Int64(middle), Int64(inner), result.storage.pointer, nil,
                            pf_overwrite, next.storage.pointer)
                    }, "reduction")
            }
            result = next
            last = first - 1
        }
        return result
    }

    /// A copy broadcast to `shape`; nothing is recorded.
    func expanded(to shape: Shape) -> Tensor {
        guard self.shape != shape else { return self }
        let result = Tensor.uninitialized(shape)
        checkKernel(
            withKernelContext {
                pf_copy_strided(
                    $0, Int32(shape.rank), shape.asInt64, storage.pointer, self.shape.broadcastStrides(to: shape),
                    pf_overwrite, result.storage.pointer, shape.denseStrides)
            }, "broadcast")
        return result
    }

    private func normalized(axes: [Int]?, _ name: String) -> [Int] {
        guard let axes else { return Array(0..<rank) }
        let sorted = axes.map { axis -> Int in
            guard let normalized = shape.normalizedAxis(axis) else {
                preconditionFailure("\(name): axis \(axis) of a tensor of shape \(shape), which has \(rank) axes")
            }
            return normalized
        }.sorted()
        precondition(Set(sorted).count == sorted.count, "\(name): an axis is named twice in \(axes)")
        return sorted
    }

    private func keeping(_ axes: [Int]) -> Shape {
        Shape(shape.indices.map { axes.contains($0) ? 1 : shape[$0] })
    }

    /// The sum over `axes` (all when nil; negative count from the end). Traps on an axis that isn't there.
    public func sum(axes: [Int]? = nil, keepDims: Bool = false) -> Tensor {
        scaledSum(axes: axes, keepDims: keepDims, name: "sum") { _ in 1 }
    }

    /// The mean over `axes`; NaN over no elements.
    public func mean(axes: [Int]? = nil, keepDims: Bool = false) -> Tensor {
        scaledSum(axes: axes, keepDims: keepDims, name: "mean") { $0 }
    }

    private func scaledSum(
        axes: [Int]?, keepDims: Bool, name: String, divisor: (Float) -> Float
    ) -> Tensor {
        let axes = normalized(axes: axes, name)
        let kept = keeping(axes)
        var result = reduced(.sum, axes: axes)
        let divisor = divisor(Float(axes.reduce(1) { $0 * shape[$1] }))
        if divisor != 1 { result = result / divisor }
        if keepDims { result = result.withShape(kept) }
        if Tensor.records(self) {
            result.node = SumNode(self, kept: kept, divisor: divisor, name: name)
        }
        return result
    }

    /// The largest element, as a scalar that gradients don't flow through.
    public func max() -> Tensor { reduced(.max, axes: Array(0..<rank)) }
    /// The smallest element, as a scalar that gradients don't flow through.
    public func min() -> Tensor { reduced(.min, axes: Array(0..<rank)) }

    /// The index of the largest element along the last axis, for each row of it; the first of equals, and a NaN
    /// counts as largest. Traps on a scalar or an empty row.
    public func argmax() -> [Int32] {
        precondition(rank > 0 && shape[rank - 1] > 0, "argmax of a tensor of shape \(shape)")
        let columns = shape[rank - 1]
        let rows = count / columns
        var result = [Int32](repeating: 0, count: rows)
        checkKernel(
            withKernelContext { pf_argmax($0, Int64(rows), Int64(columns), storage.pointer, &result) }, "argmax")
        return result
    }
}

private final class SumNode: Node {
    private let shape: Shape, kept: Shape
    private let divisor: Float
    private let name: String

    init(_ x: Tensor, kept: Shape, divisor: Float, name: String) {
        shape = x.shape
        self.kept = kept
        self.divisor = divisor
        self.name = name
        super.init(x.node)
    }

    override var operation: String { name }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) {
        let part = divisor == 1 ? gradient! : gradient! / divisor
        pass.send(part.withShape(kept).expanded(to: shape), to: input0)
    }
}
