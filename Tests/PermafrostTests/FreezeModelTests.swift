import Testing

@testable import Permafrost

@Suite struct FreezeModelTests {
    /// Random sequences of everything that changes freezes, beside a model of them that is as plain as can be.
    @Test(arguments: 0..<200)
    func randomFreezesAreWhatAPlainModelSays(seed: Int) throws {
        var random = SplitMix(state: UInt64(seed))
        let parameter = Parameter(.zeros([3, 4]))
        var handles: [FreezeHandle] = []
        // Of each freeze: its elements with their values, and whether it is on; nil when it is removed.
        var model: [(elements: [Int: Float], isOn: Bool)?] = []
        var values = [Float](repeating: 0, count: 12)

        func union(with extra: [Int: Float] = [:]) -> [Int: Float]? {
            var result = extra
            for case let freeze? in model where freeze.isOn {
                for (offset, value) in freeze.elements {
                    if let held = result.updateValue(value, forKey: offset), held != value { return nil }
                }
            }
            return result
        }

        for step in 0..<60 {
            let chosen = handles.isEmpty ? nil : Int.random(in: handles.indices, using: &random)
            switch (Int.random(in: 0..<8, using: &random), chosen) {
            case (0...2, _), (_, nil):
                var elements: [Int: Float] = [:]
                for _ in 0..<Int.random(in: 1...5, using: &random) {
                    elements[Int.random(in: 0..<12, using: &random)] = Float(Int.random(in: 1...2, using: &random))
                }
                let list = elements.map { (indices: [$0.key / 4, $0.key % 4], value: $0.value) }
                let route = Bool.random(using: &random) ? FreezeRoute.mask : .callback
                if union(with: elements) == nil {
                    #expect(throws: FreezeError.self) { try parameter.freeze(list, route: route) }
                } else {
                    handles.append(try parameter.freeze(list, route: route))
                    model.append((elements, true))
                }
            case (3, let position?):
                handles[position].remove()
                model[position] = nil
            case (4, let position?):
                handles[position].disable()
                model[position]?.isOn = false
            case (5, let position?):
                if let freeze = model[position], union(with: freeze.elements) != nil {
                    try handles[position].enable()
                    model[position]?.isOn = true
                } else {
                    #expect(throws: FreezeError.self) { try handles[position].enable() }
                }
            case (6, _):
                let row = Int.random(in: 0..<3, using: &random)
                try parameter.thaw(at: [row])
                model = model.map { freeze in
                    guard let freeze else { return nil }
                    let rest = freeze.elements.filter { $0.key / 4 != row }
                    return rest.isEmpty ? nil : (rest, freeze.isOn)
                }
            default:
                let value = Float(Int.random(in: 3...9, using: &random))
                parameter.value = .full([3, 4], value)
                values = Array(repeating: value, count: 12)
            }
            let frozen = try #require(union())
            for (offset, value) in frozen { values[offset] = value }
            let expected = frozen.sorted { $0.key < $1.key }
            let indices = parameter.gradientMask?.frozenIndices ?? [], held = parameter.gradientMask?.frozenValues ?? []
            #expect(indices == expected.map { [$0.key / 4, $0.key % 4] }, "seed \(seed), step \(step)")
            #expect(held == expected.map(\.value), "seed \(seed), step \(step)")
            #expect(parameter.value.scalars == values, "seed \(seed), step \(step)")
            #expect(handles.map(\.isActive) == model.map { $0 != nil }, "seed \(seed), step \(step)")
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
private struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
