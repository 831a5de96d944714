/// Audits of saved weights: what was before against what is after, bit by bit.
///
///     let before = try StateDictionary(Safetensors.read("before.safetensors"))
///     let after = try StateDictionary(Safetensors.read("after.safetensors"))
///     print(try Audit(comparing: before, with: after, at: [FreezeSpecification(parsing: "conv1.weight[0]")]).report())
extension Audit {
    /// Every element of the float32 tensors.
    ///
    /// - Throws: `FreezeError` when one of the two lacks a tensor that the other has, or has it in another shape.
    public init(comparing before: StateDictionary, with after: StateDictionary) throws {
        self.init()
        let names = before.names.filter { before[stored: $0]?.dataType == .float32 }
        let others = after.names.filter { after[stored: $0]?.dataType == .float32 }
        let lacking = Set(names).symmetricDifference(others).sorted()
        guard lacking.isEmpty else {
            throw FreezeError("only one of the two has \(lacking.joined(separator: ", "))")
        }
        for name in names {
            let (from, to) = try Self.pair(name, before, after)
            add(name, offsets: Array(0..<from.count), of: from) { to }
        }
    }

    /// The elements that freezes written as text name. Where one gives a value, the elements must have it.
    ///
    /// - Throws: `FreezeError` when a name, an index or a shape doesn't fit, or an element hadn't the value before.
    public init(
        comparing before: StateDictionary, with after: StateDictionary, at freezes: [FreezeSpecification]
    ) throws {
        self.init()
        let parameters = before.names.compactMap { name in before[name].map { (name: name, parameter: Parameter($0)) } }
        var offsets: [String: Set<Int>] = [:]
        for freeze in freezes {
            let parameter = try freeze.find(in: parameters)
            let selected = try freeze.selection(in: parameter.shape)
                .offsets(in: parameter.value, of: freeze.parameter)
            if let value = freeze.value {
                try parameter.value.withUnsafeBufferPointer { elements in
                    let odd = selected.first { elements[$0].bitPattern != value.bitPattern }
                    guard let odd else { return }
                    let index = bracketed(parameter.shape.indices(ofOffset: odd))
                    throw FreezeError("\(freeze.parameter)\(index) was \(elements[odd]) before, not \(value)")
                }
            }
            offsets[freeze.parameter, default: []].formUnion(selected)
        }
        try add(offsets, before, after)
    }

    /// The elements of the freezes that were on in a checkpoint.
    ///
    /// - Throws: `FreezeError` when a name, an offset or a shape doesn't fit.
    public init(
        comparing before: StateDictionary, with after: StateDictionary, at freezes: [String: [FreezeRecord]]
    ) throws {
        self.init()
        try add(freezes.mapValues { Set($0.filter(\.isEnabled).flatMap(\.offsets)) }, before, after)
    }

    private mutating func add(
        _ offsets: [String: Set<Int>], _ before: StateDictionary, _ after: StateDictionary
    ) throws {
        for (name, chosen) in offsets.sorted(by: { $0.key < $1.key }) {
            let (from, to) = try Self.pair(name, before, after)
            if let outside = chosen.first(where: { !(0..<from.count).contains($0) }) {
                throw FreezeError("a freeze has element \(outside) of \(name), which has \(from.count) elements")
            }
            add(name, offsets: chosen.sorted(), of: from) { to }
        }
    }

    private static func pair(
        _ name: String, _ before: StateDictionary, _ after: StateDictionary
    ) throws -> (Tensor, Tensor) {
        guard let from = before[name] else { throw FreezeError("there was no \(name) before") }
        guard let to = after[name] else { throw FreezeError("there is no \(name) after") }
        guard from.shape == to.shape else {
            throw FreezeError("\(name) had shape \(from.shape) before and has \(to.shape) after")
        }
        return (from, to)
    }
}
