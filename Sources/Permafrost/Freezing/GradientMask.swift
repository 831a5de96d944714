import CKernels

/// Which elements of a parameter are frozen, and at what: the union of the freezes that are on.
///
/// A mask never changes; freezing and thawing replace a parameter's mask. It is always explicit, never inferred from
/// a value or a gradient that happens to be zero. A frozen element's gradient is +0.0, selected and never multiplied,
/// so a NaN in the raw gradient goes nowhere; its value is one that no optimizer writes and every assignment
/// re-asserts.
public final class GradientMask {
    public let shape: Shape
    /// One byte an element, 0 = frozen: what optimizer updates, clipping and averages read.
    let bytes: MaskBytes
    /// What the backward kernels read: as `bytes`, less the elements frozen by `FreezeRoute.callback`. Nil when there
    /// are only such.
    let kernelBytes: MaskBytes?
    /// All frozen elements, whatever their route.
    let frozen: FrozenElements
    /// The frozen elements as runs of neighbours, when there are few of them for the size of the parameter.
    private let runs: [Range<Int>]?

    /// - Parameter frozen: not empty.
    init(shape: Shape, frozen: FrozenElements, byKernel: FrozenElements) {
        self.shape = shape
        self.frozen = frozen
        // A run costs about as much as eight elements of a pass over everything.
        let runs = frozen.runs
        self.runs = runs.count <= shape.elementCount / 8 + 1 ? runs : nil
        bytes = MaskBytes(freezing: frozen, of: shape.elementCount)
        if byKernel.isEmpty {
            kernelBytes = nil
        } else if byKernel.count == frozen.count {
            kernelBytes = bytes
        } else {
            kernelBytes = MaskBytes(freezing: byKernel, of: shape.elementCount)
        }
    }

    /// Makes the frozen elements of a gradient +0.0. Runs are looked at first, so that a gradient that is shared isn't
    /// copied when they are that already, as they are after kernels that read the mask.
    func clear(_ gradient: inout Tensor) {
        guard let runs else {
            gradient.withUnsafeMutableBufferPointer { elements in
                let status = withKernelContext {
                    pf_mask_gradient($0, Int64(elements.count), bytes.pointer, elements.baseAddress)
                }
                checkKernel(status, "masking a gradient")
            }
            return
        }
        let isClear = gradient.withUnsafeBufferPointer { elements in
            runs.allSatisfy { run in
                var bits: UInt32 = 0
                for position in run { bits |= elements[position].bitPattern }
                return bits == 0
            }
        }
        if isClear { return }
        gradient.withUnsafeMutableBufferPointer { elements in
            for run in runs { elements[run].update(repeating: 0) }
        }
    }

    public var frozenCount: Int { frozen.count }
    public var trainableCount: Int { bytes.count - frozen.count }

    /// The indices of the frozen elements, in row-major order.
    public var frozenIndices: [[Int]] {
        frozen.offsets.map { shape.indices(ofOffset: Int($0)) }
    }

    /// What the frozen elements are held at, in the order of `frozenIndices`.
    public var frozenValues: [Float] { frozen.values }

    /// A tensor of the parameter's shape with 1 where an element is trainable and 0 where it is frozen.
    public var trainable: Tensor {
        var result = Tensor.ones(shape)
        frozen.clear(in: &result)
        return result
    }
}

extension MaskBytes {
    fileprivate convenience init(freezing elements: FrozenElements, of count: Int) {
        self.init(count: count)
        for offset in elements.offsets {
            pointer[Int(offset)] = 0
        }
    }
}
