/// The extents of a tensor's axes, outermost first. At most eight axes; held inline, without an allocation.
///
/// An extent is between 0 and 2³¹ - 1, and a shape's number of elements fits an `Int`; a shape that breaks this
/// traps.
public struct Shape: Hashable, Sendable {
    public static let maximumRank = 8

    private var extents: SIMD8<Int32>
    public private(set) var rank: Int

    public init(_ extents: some Sequence<Int>) {
        self.extents = .zero
        rank = 0
        for extent in extents {
            append(extent)
        }
    }

    /// A shape with `extent` as its last axis added.
    mutating func append(_ extent: Int) {
        precondition(rank < Shape.maximumRank, "a shape has at most \(Shape.maximumRank) axes")
        guard let narrow = Int32(exactly: extent), narrow >= 0 else {
            preconditionFailure("an extent must be in 0 ..< 2^31, not \(extent)")
        }
        extents[rank] = narrow
        rank += 1
    }

    /// The product of all extents; 1 for the shape of a scalar.
    public var elementCount: Int {
        var count = 1
        for axis in 0..<rank {
            let (product, overflow) = count.multipliedReportingOverflow(by: Int(extents[axis]))
            precondition(!overflow, "the shape \(self) has more elements than can be addressed")
            count = product
        }
        return count
    }

    /// Elements between neighbours along each axis of a dense row-major tensor.
    var denseStrides: [Int64] {
        var strides = [Int64](repeating: 1, count: rank)
        var stride: Int64 = 1
        for axis in (0..<rank).reversed() {
            strides[axis] = stride
            stride *= Int64(extents[axis])
        }
        return strides
    }

    var asInt64: [Int64] { map { Int64($0) } }

    /// `axis` counted from the end when negative; nil when there is no such axis.
    func normalizedAxis(_ axis: Int) -> Int? {
        let normalized = axis < 0 ? axis + rank : axis
        return (0..<rank).contains(normalized) ? normalized : nil
    }

    /// The shape that both broadcast to by NumPy's rule, or nil when they don't.
    static func broadcast(_ a: Shape, _ b: Shape) -> Shape? {
        if a == b { return a }
        let rank = Swift.max(a.rank, b.rank)
        var result = SIMD8<Int32>.zero
        for axis in 0..<rank {
            let inA = axis - (rank - a.rank)
            let inB = axis - (rank - b.rank)
            let extentA = inA >= 0 ? a.extents[inA] : 1
            let extentB = inB >= 0 ? b.extents[inB] : 1
            guard extentA == extentB || extentA == 1 || extentB == 1 else { return nil }
            result[axis] = extentA == 1 ? extentB : extentA
        }
        var shape = Shape([])
        shape.extents = result
        shape.rank = rank
        return shape
    }

    /// Strides of a dense tensor of this shape read as one of the broader `target`: 0 along broadcast axes.
    func broadcastStrides(to target: Shape) -> [Int64] {
        let dense = denseStrides
        return (0..<target.rank).map { axis in
            let own = axis - (target.rank - rank)
            return own < 0 || extents[own] == 1 ? 0 : dense[own]
        }
    }
}

extension Shape: RandomAccessCollection {
    public var startIndex: Int { 0 }
    public var endIndex: Int { rank }

    public subscript(axis: Int) -> Int {
        precondition(axis >= 0 && axis < rank, "axis \(axis) of the shape \(self) with \(rank) axes")
        return Int(extents[axis])
    }
}

extension Shape: ExpressibleByArrayLiteral {
    public init(arrayLiteral extents: Int...) {
        self.init(extents)
    }
}

extension Shape: CustomStringConvertible {
    public var description: String {
        "[" + map(String.init).joined(separator: ", ") + "]"
    }
}
