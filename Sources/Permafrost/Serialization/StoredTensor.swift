/// The element types of the safetensors format, in the order in which its writer lays tensors out (last first).
public enum DataType: String, CaseIterable, Sendable {
    case bool = "BOOL"
    case uint8 = "U8"
    case int8 = "I8"
    case float8E5M2 = "F8_E5M2"
    case float8E4M3 = "F8_E4M3"
    case float8E8M0 = "F8_E8M0"
    case int16 = "I16"
    case uint16 = "U16"
    case float16 = "F16"
    case bfloat16 = "BF16"
    case int32 = "I32"
    case uint32 = "U32"
    case float32 = "F32"
    case complex64 = "C64"
    case float64 = "F64"
    case int64 = "I64"
    case uint64 = "U64"

    /// Bytes an element.
    public var size: Int {
        switch self {
        case .bool, .uint8, .int8, .float8E5M2, .float8E4M3, .float8E8M0: 1
        case .int16, .uint16, .float16, .bfloat16: 2
        case .int32, .uint32, .float32: 4
        case .complex64, .float64, .int64, .uint64: 8
        }
    }
}

/// A tensor as a file holds it: any element type, dense, row-major, little-endian.
public struct StoredTensor: Hashable, Sendable {
    public let dataType: DataType
    public let shape: [Int]
    public let bytes: [UInt8]

    /// Traps when the number of bytes isn't that of the shape and type.
    public init(dataType: DataType, shape: [Int], bytes: [UInt8]) {
        precondition(
            byteCount(of: shape, dataType) == bytes.count,
            "\(bytes.count) bytes for a \(dataType.rawValue) tensor of shape \(shape)")
        self.dataType = dataType
        self.shape = shape
        self.bytes = bytes
    }

    /// Stores float32, to the bit.
    public init(_ tensor: Tensor) {
        self.init(
            dataType: .float32, shape: Array(tensor.shape),
            bytes: tensor.withUnsafeBufferPointer { Array(UnsafeRawBufferPointer($0)) })
    }

    public init(_ integers: [Int64], shape: [Int]) {
        self.init(dataType: .int64, shape: shape, bytes: integers.withUnsafeBytes { Array($0) })
    }

    public var count: Int { bytes.count / dataType.size }

    /// The elements as a float32 tensor: float32 to the bit; float16 and bfloat16 exactly; float64 and integers rounded
    /// to the nearest. Nil for other types and for shapes that a `Tensor` can't have (more than 8 axes, an extent of
    /// 2^31 or more).
    public func tensor() -> Tensor? {
        guard shape.count <= Shape.maximumRank, shape.allSatisfy({ $0 <= Int32.max }) else { return nil }
        if dataType == .float32 {
            var result = Tensor.uninitialized(Shape(shape))
            result.withUnsafeMutableBufferPointer { UnsafeMutableRawBufferPointer($0).copyBytes(from: bytes) }
            return result
        }
        let values: [Float]
        switch dataType {
        case .float16: values = elements(of: UInt16.self).map(floatFromHalf)
        case .bfloat16: values = elements(of: UInt16.self).map { Float(bitPattern: UInt32($0) << 16) }
        case .float64: values = elements(of: UInt64.self).map { Float(Double(bitPattern: $0)) }
        case .int64: values = elements(of: Int64.self).map(Float.init)
        case .int32: values = elements(of: Int32.self).map(Float.init)
        case .int16: values = elements(of: Int16.self).map(Float.init)
        case .int8: values = elements(of: Int8.self).map(Float.init)
        case .uint64: values = elements(of: UInt64.self).map(Float.init)
        case .uint32: values = elements(of: UInt32.self).map(Float.init)
        case .uint16: values = elements(of: UInt16.self).map(Float.init)
        case .uint8, .bool: values = bytes.map(Float.init)
        case .float32, .complex64, .float8E5M2, .float8E4M3, .float8E8M0: return nil
        }
        return Tensor(values, shape: Shape(shape))
    }

    /// The elements of an int64 tensor; nil for other types.
    public var int64s: [Int64]? {
        dataType == .int64 ? elements(of: Int64.self) : nil
    }

    private func elements<T: BitwiseCopyable>(of type: T.Type) -> [T] {
        bytes.withUnsafeBytes { raw in
            (0..<count).map { raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<T>.size, as: T.self) }
        }
    }
}

/// Bytes of a dense tensor; nil when that overflows or an extent is negative.
func byteCount(of shape: [Int], _ type: DataType) -> Int? {
    var count = type.size
    // An extent of 0 makes the product 0 whatever the others are, but they are still checked: the order must not
    // matter.
    for extent in shape where extent != 0 {
        let (product, overflow) = count.multipliedReportingOverflow(by: extent)
        guard extent >= 0, !overflow else { return nil }
        count = product
    }
    return shape.contains(0) ? 0 : count
}

/// IEEE 754 binary16 to binary32, exact. (`Float16` doesn't exist on every platform.)
private func floatFromHalf(_ half: UInt16) -> Float {
    let sign = UInt32(half & 0x8000) << 16
    let exponent = UInt32(half >> 10 & 0x1f)
    let fraction = UInt32(half & 0x3ff)
    switch exponent {
    case 0: return Float(bitPattern: sign | (Float(fraction) * 0x1p-24).bitPattern)
    case 0x1f: return Float(bitPattern: sign | 0x7f80_0000 | fraction << 13)
    default: return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
    }
}
