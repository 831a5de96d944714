import CKernels

/// A block of floats from the kernels' arena. Tensors share it and copy it before they write.
///
/// Its elements may be deferred: they are computed when they are first asked for, so that an operation that knows what
/// it is given can compute both in one pass over memory, and what nobody reads is never written. Whoever reads
/// `pointer` finds the bits that computing them at once would have given.
final class Storage {
    let count: Int
    private var block: UnsafeMutablePointer<Float>?
    /// What will compute the elements; nil once they are there.
    private(set) var deferred: DeferredElements?

    /// Contents are undefined. Traps when the system has no memory left.
    init(count: Int) {
        self.count = count
        block = Storage.allocate(count)
    }

    init(count: Int, deferred: DeferredElements) {
        self.count = count
        self.deferred = deferred
    }

    convenience init(copying other: Storage) {
        self.init(count: other.count)
        pointer.update(from: other.pointer, count: count)
    }

    @inline(__always)
    var pointer: UnsafeMutablePointer<Float> {
        if deferred != nil { compute() }
        return block.unsafelyUnwrapped
    }

    private func compute() {
        block = deferred.take()!.compute(count: count)
    }

    /// The block, for who holds the only reference to this storage: it has no elements any more.
    func surrenderBlock() -> UnsafeMutablePointer<Float> {
        let elements = pointer
        block = nil
        return elements
    }

    static func allocate(_ count: Int) -> UnsafeMutablePointer<Float> {
        let bytes = count * MemoryLayout<Float>.stride
        guard let block = pf_memory_allocate(bytes) else {
            fatalError("out of memory: a tensor of \(count) elements needs \(bytes) bytes")
        }
        return block.assumingMemoryBound(to: Float.self)
    }

    deinit {
        pf_memory_release(block)
    }
}

/// An operation that hasn't run yet, with its operands and the context that it was called in. The operands' own
/// elements are there, but that an activation may wait for a convolution.
class DeferredElements {
    final var context: pf_context

    init() {
        context = withKernelContext { $0.pointee }
    }

    /// Runs the operation into a block of the arena, which becomes the caller's.
    func compute(count: Int) -> UnsafeMutablePointer<Float> {
        preconditionFailure("\(type(of: self)) must override compute(count:)")
    }

    /// A block for the result: that of an operand of its size if nobody else will read it.
    final func block(replacing operand: inout Storage, count: Int) -> UnsafeMutablePointer<Float> {
        isKnownUniquelyReferenced(&operand) ? operand.surrenderBlock() : Storage.allocate(count)
    }
}
