/// A dense, row-major array of 32-bit floats.
///
/// A tensor is a value: a copy is independent, shares its storage until one of the two is written, and no operation
/// changes another tensor's elements. What was computed from tensors that require a gradient carries a node of the
/// tape; copies share it.
///
/// Operators and subscripts trap on misuse, with a message that names what was expected and what came; functions that
/// take whole layers' worth of arguments (`conv2d`, `linear`, …) throw.
public struct Tensor {
    public let shape: Shape
    var storage: Storage
    /// Where the tape begins for this value; nil when no gradient flows through it.
    var node: Node?

    init(shape: Shape, storage: Storage, node: Node? = nil) {
        self.shape = shape
        self.storage = storage
        self.node = node
    }

    /// Contents are undefined: the caller writes every element.
    static func uninitialized(_ shape: Shape) -> Tensor {
        Tensor(shape: shape, storage: Storage(count: shape.elementCount))
    }

    public var rank: Int { shape.rank }
    /// The number of elements.
    public var count: Int { storage.count }

    /// The only element of a tensor with one element; traps otherwise.
    public func item() -> Float {
        precondition(count == 1, "item() needs a tensor with one element, not one of shape \(shape)")
        return storage.pointer.pointee
    }

    /// A copy of the elements in row-major order.
    public var scalars: [Float] {
        Array(UnsafeBufferPointer(start: storage.pointer, count: count))
    }

    /// Calls `body` with the elements in row-major order. The pointer is valid only inside.
    public func withUnsafeBufferPointer<R>(_ body: (UnsafeBufferPointer<Float>) throws -> R) rethrows -> R {
        defer { withExtendedLifetime(storage) {} }
        return try body(UnsafeBufferPointer(start: storage.pointer, count: count))
    }

    /// Calls `body` with the elements for writing; they are copied first if another tensor shares them.
    /// The tape doesn't see what is written.
    public mutating func withUnsafeMutableBufferPointer<R>(
        _ body: (UnsafeMutableBufferPointer<Float>) throws -> R
    ) rethrows -> R {
        makeUnique()
        defer { withExtendedLifetime(storage) {} }
        return try body(UnsafeMutableBufferPointer(start: storage.pointer, count: count))
    }

    mutating func makeUnique() {
        if !isKnownUniquelyReferenced(&storage) {
            storage = Storage(copying: storage)
        }
    }

    /// Whether shapes and all bits are equal: unlike ==, -0 differs from +0, and a NaN equals itself.
    public func bitEquals(_ other: Tensor) -> Bool {
        guard shape == other.shape else { return false }
        return withUnsafeBufferPointer { a in
            other.withUnsafeBufferPointer { b in
                zip(a, b).allSatisfy { $0.bitPattern == $1.bitPattern }
            }
        }
    }
}

// MARK: - Making tensors

extension Tensor {
    /// A scalar: rank 0, one element.
    public init(_ scalar: Float, requiresGrad: Bool = false) {
        self = .uninitialized([])
        storage.pointer.pointee = scalar
        self.requiresGrad = requiresGrad
    }

    /// A vector.
    public init(_ values: [Float], requiresGrad: Bool = false) {
        self.init(values, shape: [values.count], requiresGrad: requiresGrad)
    }

    /// The elements in row-major order; traps when their number isn't the shape's.
    public init(_ values: [Float], shape: Shape, requiresGrad: Bool = false) {
        precondition(
            values.count == shape.elementCount,
            "a tensor of shape \(shape) has \(shape.elementCount) elements, but \(values.count) came")
        self = .uninitialized(shape)
        values.withUnsafeBufferPointer { source in
            if let base = source.baseAddress { storage.pointer.update(from: base, count: values.count) }
        }
        self.requiresGrad = requiresGrad
    }

    /// A matrix from rows of equal length.
    public init(_ rows: [[Float]], requiresGrad: Bool = false) {
        let columns = rows.first?.count ?? 0
        precondition(rows.allSatisfy { $0.count == columns }, "the rows of a matrix must have equal lengths")
        self.init(rows.flatMap { $0 }, shape: [rows.count, columns], requiresGrad: requiresGrad)
    }

    public static func zeros(_ shape: Shape, requiresGrad: Bool = false) -> Tensor {
        full(shape, 0, requiresGrad: requiresGrad)
    }

    public static func ones(_ shape: Shape, requiresGrad: Bool = false) -> Tensor {
        full(shape, 1, requiresGrad: requiresGrad)
    }

    public static func full(_ shape: Shape, _ value: Float, requiresGrad: Bool = false) -> Tensor {
        var tensor = Tensor.uninitialized(shape)
        tensor.storage.pointer.update(repeating: value, count: tensor.count)
        tensor.requiresGrad = requiresGrad
        return tensor
    }

    /// 0, 1, …, count - 1.
    public static func arange(_ count: Int, requiresGrad: Bool = false) -> Tensor {
        var tensor = Tensor((0..<count).map(Float.init))
        tensor.requiresGrad = requiresGrad
        return tensor
    }
}

extension Tensor: ExpressibleByFloatLiteral, ExpressibleByIntegerLiteral {
    public init(floatLiteral value: Float) {
        self.init(value)
    }

    public init(integerLiteral value: Int) {
        self.init(Float(value))
    }
}

/// What is wrong with the arguments of a tensor operation.
public struct TensorError: Error, Equatable, CustomStringConvertible {
    public let message: String

    public init(_ message: String) {
        self.message = message
    }

    public var description: String { message }
}

/// Runs what throws a `TensorError` where the language or usage wants no `try`: operators, methods, subscripts.
@inline(__always)
func trapping<R>(_ body: () throws -> R) -> R {
    do {
        return try body()
    } catch {
        fatalError("\(error)")
    }
}
