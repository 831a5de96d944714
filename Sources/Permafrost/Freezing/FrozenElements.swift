/// Elements of one parameter and the values that they are held at: offsets ascend, without repetition.
struct FrozenElements: Equatable {
    private(set) var offsets: [Int32] = []
    private(set) var values: [Float] = []

    var count: Int { offsets.count }
    var isEmpty: Bool { offsets.isEmpty }

    /// Elements with strictly ascending offsets.
    init(offsets: [Int32], values: [Float]) {
        precondition(offsets.count == values.count, "one value for each frozen element")
        self.offsets = offsets
        self.values = values
    }

    init() {}

    /// Elements in any order. One that `offsets` names twice has equal bits both times, or `conflict` is thrown.
    static func sorting(
        offsets: [Int], values: [Float], conflict: (_ offset: Int, _ first: Float, _ second: Float) -> FreezeError
    ) throws -> FrozenElements {
        // Most selections come in order; only lists and backward slices don't.
        if zip(offsets, offsets.dropFirst()).allSatisfy(<) {
            return FrozenElements(offsets: offsets.map { Int32($0) }, values: values)
        }
        let order = offsets.indices.sorted { (offsets[$0], $0) < (offsets[$1], $1) }
        var result = FrozenElements()
        result.reserve(order.count)
        for position in order {
            let offset = Int32(offsets[position]), value = values[position]
            if result.offsets.last == offset {
                let first = result.values[result.count - 1]
                guard first.bitPattern == value.bitPattern else {
                    throw conflict(offsets[position], first, value)
                }
            } else {
                result.append(offset, value)
            }
        }
        return result
    }

    private mutating func reserve(_ count: Int) {
        offsets.reserveCapacity(count)
        values.reserveCapacity(count)
    }

    private mutating func append(_ offset: Int32, _ value: Float) {
        offsets.append(offset)
        values.append(value)
    }

    /// The elements of both. An element of both has equal bits in them, or `conflict` is thrown.
    func union(
        _ other: FrozenElements, conflict: (_ offset: Int, _ held: Float, _ wanted: Float) -> FreezeError
    ) throws -> FrozenElements {
        if isEmpty { return other }
        if other.isEmpty { return self }
        var result = FrozenElements()
        result.reserve(count + other.count)
        var i = 0, j = 0
        while i < count || j < other.count {
            if j == other.count || (i < count && offsets[i] < other.offsets[j]) {
                result.append(offsets[i], values[i])
                i += 1
            } else if i == count || other.offsets[j] < offsets[i] {
                result.append(other.offsets[j], other.values[j])
                j += 1
            } else {
                guard values[i].bitPattern == other.values[j].bitPattern else {
                    throw conflict(Int(offsets[i]), values[i], other.values[j])
                }
                result.append(offsets[i], values[i])
                i += 1
                j += 1
            }
        }
        return result
    }

    /// These elements less those whose offset `isRemoved`.
    func removing(where isRemoved: (Int) -> Bool) -> FrozenElements {
        var result = FrozenElements()
        for (offset, value) in zip(offsets, values) where !isRemoved(Int(offset)) {
            result.append(offset, value)
        }
        return result
    }

    /// The offsets as runs of neighbours, ascending.
    var runs: [Range<Int>] {
        var result: [Range<Int>] = []
        for offset in offsets.lazy.map(Int.init) {
            if let last = result.last, last.upperBound == offset {
                result[result.count - 1] = last.lowerBound..<offset + 1
            } else {
                result.append(offset..<offset + 1)
            }
        }
        return result
    }

    /// The position, among these elements, of the first whose bits in `tensor` aren't those held here.
    func firstDifference(in tensor: Tensor) -> Int? {
        tensor.withUnsafeBufferPointer { elements in
            offsets.withUnsafeBufferPointer { offsets in
                values.withUnsafeBufferPointer { values in
                    offsets.indices.first { elements[Int(offsets[$0])].bitPattern != values[$0].bitPattern }
                }
            }
        }
    }

    /// Writes the held values into `tensor`. Nothing is written, and so nothing is copied, when all hold already.
    func assert(on tensor: inout Tensor) {
        guard let first = firstDifference(in: tensor) else { return }
        tensor.withUnsafeMutableBufferPointer { elements in
            for position in first..<count {
                elements[Int(offsets[position])] = values[position]
            }
        }
    }

    /// Makes these elements of `tensor` +0.0.
    func clear(in tensor: inout Tensor) {
        tensor.withUnsafeMutableBufferPointer { elements in
            for offset in offsets {
                elements[Int(offset)] = 0
            }
        }
    }
}
