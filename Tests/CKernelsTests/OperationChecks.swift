import CKernels
import Testing

/// What the tests of the smaller operations share.

/// Half a unit in the last place of 1: the largest relative error of one rounding.
let roundoff = 0x1p-24

/// SplitMix64 (Steele, Lea and Flood, 2014).
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func integers(_ count: Int, in range: ClosedRange<Int>) -> [Float] {
        (0..<count).map { _ in Float(Int.random(in: range, using: &self)) }
    }

    mutating func fractions(_ count: Int, in range: ClosedRange<Float> = -4...4) -> [Float] {
        (0..<count).map { _ in Float.random(in: range, using: &self) }
    }

    /// 0 for about every third element, else some other byte.
    mutating func mask(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in Int.random(in: 0..<3, using: &self) == 0 ? 0 : UInt8.random(in: 1...255, using: &self) }
    }

    mutating func bool() -> Bool { Bool.random(using: &self) }
}

/// The bits, with one pattern for every NaN: which payload survives is nobody's promise.
func bits(_ values: [Float]) -> [UInt32] { values.map { $0.isNaN ? 0x7FC0_0000 : $0.bitPattern } }

/// Runs `body` on every instruction set at 1, 2 and 3 threads, expects the same bits at every thread count, and hands
/// the results of each instruction set to `check`.
func onEveryInstructionSet(
    _ label: @autoclosure () -> String, sourceLocation: SourceLocation = #_sourceLocation,
    run body: (UnsafePointer<pf_context>) -> [[Float]], check: (_ isa: pf_isa, _ results: [[Float]]) -> Void
) {
    for isa in supportedInstructionSets {
        var first: [[Float]] = []
        for threads: Int32 in [1, 2, 3] {
            var context = pf_context(threads: threads, numerics: pf_fast, isa: isa)
            let results = body(&context)
            if threads == 1 {
                first = results
            } else {
                for (result, first) in zip(results, first) {
                    expectSameBits(
                        result, first, "\(label()): \(name(of: isa)) at \(threads) threads",
                        sourceLocation: sourceLocation)
                }
            }
        }
        check(isa, first)
    }
}

/// Expects the same bits. (#expect would look for the shortest edit from one array to the other, for hours.)
func expectSameBits(
    _ results: [Float], _ expected: [Float], _ label: @autoclosure () -> String,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    let (results, expected) = (bits(results), bits(expected))
    if results != expected {
        let index =
            zip(results, expected).enumerated().first { $1.0 != $1.1 }?.offset ?? min(results.count, expected.count)
        let pair = [results, expected].map {
            $0.dropFirst(index).first.map { Float(bitPattern: $0).description } ?? "none"
        }
        Issue.record("\(label()): element \(index) is \(pair[0]), not \(pair[1])", sourceLocation: sourceLocation)
    }
}

/// Expects equal values: -0 equals 0 and a NaN a NaN.
func expectEqual(
    _ results: [Float], _ expected: [Float], _ label: @autoclosure () -> String,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard results.count == expected.count else {
        Issue.record("\(label()): \(results.count) elements, not \(expected.count)", sourceLocation: sourceLocation)
        return
    }
    for (index, (result, wanted)) in zip(results, expected).enumerated()
    where result != wanted && !(result.isNaN && wanted.isNaN) {
        Issue.record("\(label()): element \(index) is \(result), not \(wanted)", sourceLocation: sourceLocation)
        return
    }
}

/// Expects each element within `bound` of its expected value; a NaN never is.
func expectWithin(
    _ results: [Float], _ expected: [Double], bound: (Int) -> Double, _ label: @autoclosure () -> String,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard results.count == expected.count else {
        Issue.record("\(label()): \(results.count) elements, not \(expected.count)", sourceLocation: sourceLocation)
        return
    }
    for (index, (result, wanted)) in zip(results, expected).enumerated()
    where !(abs(Double(result) - wanted) <= bound(index)) {
        Issue.record(
            "\(label()): element \(index) is \(result), not \(wanted) within \(bound(index))",
            sourceLocation: sourceLocation)
        return
    }
}

/// Expects a refused call: its status, and nothing written.
func expectRefused(
    _ expected: pf_status, _ label: @autoclosure () -> String, sourceLocation: SourceLocation = #_sourceLocation,
    _ call: (_ output: UnsafeMutablePointer<Float>) -> pf_status
) {
    var output = [Float](repeating: -77, count: 64)
    let status = call(&output)
    #expect(status == expected, "\(label())", sourceLocation: sourceLocation)
    #expect(output.allSatisfy { $0 == -77 }, "\(label()): output written", sourceLocation: sourceLocation)
}
