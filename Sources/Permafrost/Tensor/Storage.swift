import CKernels

/// A block of floats from the kernels' arena. Tensors share it and copy it before they write.
final class Storage {
    let pointer: UnsafeMutablePointer<Float>
    let count: Int

    /// Contents are undefined. Traps when the system has no memory left.
    init(count: Int) {
        let bytes = count * MemoryLayout<Float>.stride
        guard let block = pf_memory_allocate(bytes) else {
            fatalError("out of memory: a tensor of \(count) elements needs \(bytes) bytes")
        }
        pointer = block.assumingMemoryBound(to: Float.self)
        self.count = count
    }

    convenience init(copying other: Storage) {
        self.init(count: other.count)
        pointer.update(from: other.pointer, count: count)
    }

    deinit {
        pf_memory_release(pointer)
    }
}
