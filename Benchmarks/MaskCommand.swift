import ArgumentParser
import CKernels
import Foundation

struct MaskCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mask",
        abstract: "Times the weight gradient under masks, relative to the dense one that it alternates with.")

    @Argument(help: "Layers, as for conv.")
    var layers = ["64x56x56-64k3p1", "256x14x14-256k3p1", "64x56x56-256k1"]
    @Option(help: "Images.") var batch = 8
    @Option(help: "Threads; 0 for as many as there are.") var threads: Int32 = 0
    @Option(help: "Only fast or exact. (default: both)") var numerics: NumericsName?
    @Option(help: "Alternations of dense and masked.") var rounds = 101
    @Option(help: "Of the operands and of scattered masks.") var seed: UInt64 = 0
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard batch > 0 else { throw ValidationError("--batch must be positive, not \(batch).") }
        guard threads >= 0 else { throw ValidationError("--threads can't be negative: \(threads).") }
        guard rounds > 0 else { throw ValidationError("--rounds must be positive, not \(rounds).") }
    }

    func run() throws {
        let layers = try layers.map { try Layer($0, batch: batch) }
        var rows: [MaskReport.Row] = []
        for layer in layers {
            let data = try ConvolutionData(layer, seed: seed)
            for numerics in numerics.map({ [$0] }) ?? [.exact, .fast] {
                progress("\(layer), \(numerics.rawValue)")
                rows += try measure(layer, data, numerics)
            }
        }
        try output.print(MaskReport(batch: batch, rounds: rounds, rows: rows))
    }

    private func measure(_ layer: Layer, _ data: ConvolutionData, _ numerics: NumericsName) throws -> [MaskReport.Row] {
        let loaded = try LoadedConvolution(
            ConvolutionRequest(
                op: .load, problem: .init(layer), folder: data.folder.path, threads: threads,
                numerics: Int32(numerics.value.rawValue)))
        try loaded.run(.weightGradient)
        let dense = loaded.results[.weightGradient]!.array
        let error = try data.error(of: dense, .weightGradient)
        guard error <= ConvolutionMeasurement.errorLimit else {
            throw Failure("\(layer), \(numerics.rawValue): the dense weight gradient is wrong by \(error)")
        }
        return try MaskCase.all(layer, seed: seed).map { entry in
            try loaded.run(.weightGradient, mask: entry.mask)
            try check(loaded.results[.weightGradient]!.array, dense, entry, "\(layer), \(numerics.rawValue)")
            return try time(loaded, entry, layer, numerics)
        }
    }

    /// Frozen elements are +0.0, the others what they are without a mask (up to the rounding of another algorithm).
    private func check(_ masked: [Float], _ dense: [Float], _ entry: MaskCase, _ what: String) throws {
        let limit = ConvolutionMeasurement.errorLimit * Double(dense.reduce(0) { max($0, abs($1)) })
        for (index, trainable) in entry.mask.enumerated() {
            let isRight =
                trainable == 0
                ? masked[index].bitPattern == 0 : abs(Double(masked[index]) - Double(dense[index])) <= limit
            guard isRight else {
                throw Failure("\(what), \(entry.name): element \(index) is \(masked[index]), not \(dense[index])")
            }
        }
    }

    private func time(
        _ loaded: LoadedConvolution, _ entry: MaskCase, _ layer: Layer, _ numerics: NumericsName
    ) throws -> MaskReport.Row {
        let clock = ContinuousClock()
        var dense: [Double] = [], masked: [Double] = []
        for round in 0..<rounds + 1 {
            // Who comes first changes from round to round; the first round warms up.
            for turn in 0..<2 {
                let isDense = (round + turn) % 2 == 0
                let seconds = try clock.measure {
                    try loaded.run(.weightGradient, mask: isDense ? nil : entry.mask)
                }.seconds
                guard round > 0 else { continue }
                if isDense { dense.append(seconds) } else { masked.append(seconds) }
            }
        }
        let ratios = Statistics(zip(masked, dense).map { $0 / $1 })
        let interval = ratios.medianInterval
        return MaskReport.Row(
            layer: layer.description, numerics: numerics, case: entry.name, frozen: entry.frozenShare,
            dense_ms: 1e3 * Statistics(dense).median, masked_ms: 1e3 * Statistics(masked).median,
            ratio: ratios.median, ratio_lower: interval.lowerBound, ratio_upper: interval.upperBound)
    }
}

/// What of a weight is frozen.
struct MaskCase {
    let name: String
    /// One byte an element, 0 where it is frozen.
    let mask: [UInt8]

    var frozenShare: Double { Double(mask.count { $0 == 0 }) / Double(mask.count) }

    static func all(_ layer: Layer, seed: UInt64) -> [MaskCase] {
        let taps = layer.taps, channels = layer.inputChannels / layer.groups
        func mask(_ name: String, isFrozen: (_ filter: Int, _ channel: Int, _ tap: Int) -> Bool) -> MaskCase {
            var bytes: [UInt8] = []
            for filter in 0..<layer.outputChannels {
                for channel in 0..<channels {
                    for tap in 0..<taps { bytes.append(isFrozen(filter, channel, tap) ? 0 : 1) }
                }
            }
            return MaskCase(name: name, mask: bytes)
        }
        var random = SplitMix(state: seed)
        var cases = [
            mask("nothing") { _, _, _ in false },
            mask("one element") { $0 == 0 && $1 == channels / 2 && $2 == taps / 2 },
            mask("half of the filters") { filter, _, _ in filter % 2 == 0 },
            mask("half of the input channels") { _, channel, _ in channel % 2 == 0 },
        ]
        if taps > 1 { cases.append(mask("all but the centre tap") { _, _, tap in tap != taps / 2 }) }
        for percent in [50, 90, 99] as [UInt64] {
            cases.append(mask("\(percent) % scattered") { _, _, _ in random.next() % 100 < percent })
        }
        cases.append(mask("everything") { _, _, _ in true })
        return cases
    }
}

struct MaskReport: Report {
    struct Row: Encodable {
        let layer: String
        let numerics: NumericsName
        let `case`: String
        /// The share of the weight.
        let frozen: Double
        let dense_ms, masked_ms: Double
        /// The masked time over the dense one: the median over the rounds, and its 95 % interval.
        let ratio, ratio_lower, ratio_upper: Double
    }

    static let columns = [
        "layer", "numerics", "case", "frozen", "dense_ms", "masked_ms", "ratio", "ratio_lower", "ratio_upper",
    ]

    let batch, rounds: Int
    let rows: [Row]

    private var title: String {
        "The weight gradient under masks over the dense one, batch \(batch): medians of \(rounds) alternations"
    }

    private var table: TextTable {
        var table = TextTable(
            ["layer", "numerics", "frozen", "share", "dense ms", "masked ms", "ratio", "95 % interval"], left: 3)
        for row in rows {
            table.add([
                row.layer, row.numerics.rawValue, row.case, fixed(100 * row.frozen, 1) + " %", fixed(row.dense_ms, 3),
                fixed(row.masked_ms, 3), fixed(row.ratio, 3),
                "\(fixed(row.ratio_lower, 3))-\(fixed(row.ratio_upper, 3))",
            ])
        }
        return table
    }

    var text: String { "\(title)\n\n\(table)" }

    var html: String {
        var order: [String] = [], groups: [String: [BarChart.Bar]] = [:]
        for row in rows {
            let label = "\(row.layer) \(row.numerics.rawValue)"
            if groups[label] == nil { order.append(label) }
            groups[label, default: []].append(
                .init(
                    value: row.ratio, spread: row.ratio_lower...max(row.ratio_lower, row.ratio_upper),
                    pass: .weightGradient))
        }
        return "<h1>\(title)</h1>\n" + BarChart(groups: order.map { ($0, groups[$0]!) }).svg + "\n" + table.html
    }
}
