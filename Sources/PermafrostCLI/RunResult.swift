import Permafrost

/// What `--json` prints and `result.json` holds.
struct RunResult: Encodable {
    struct FrozenElement: Encodable {
        let parameter: String
        let index: [Int]
        let value: Float
        let bitsBefore: String
        let bitsAfter: String

        init(_ entry: AuditEntry) {
            parameter = entry.parameter
            index = entry.index
            value = entry.value
            bitsBefore = hexadecimal(entry.bitsBefore)
            bitsAfter = hexadecimal(entry.bitsAfter)
        }
    }

    let dataset: String
    let model: String
    let optimizer: String
    let route: String
    let seed: UInt64
    let epochs: Int
    let steps: Int
    let trainLoss: Double
    let testLoss: Double
    /// A fraction.
    let testAccuracy: Double
    let imagesPerSecond: Double
    let trainingSeconds: Double
    let threads: Int
    let instructionSet: String
    let frozen: [FrozenElement]
    /// How many frozen elements have other bits in the saved weights than before training.
    let changedElements: Int
    /// After how many optimizer steps a frozen element had other bits. With `pin` the next forward pass puts it back.
    let movedSteps: Int
    let weightsSHA256: String
    let run: String
}

func hexadecimal(_ bits: UInt32) -> String {
    let digits = String(bits, radix: 16)
    return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
}
