import ArgumentParser
import CKernels
import Foundation

/// How a side of `compare` runs: `threads=1,isa=avx2,numerics=exact`, each where it isn't the default.
struct ContextDescription: ExpressibleByArgument {
    let text: String
    let context: pf_context

    init?(argument: String) {
        var context = pf_context(threads: 0, numerics: pf_fast, isa: pf_isa_auto)
        for setting in argument.split(separator: ",") {
            let halves = setting.split(separator: "=", omittingEmptySubsequences: false).map(String.init)
            guard halves.count == 2 else { return nil }
            switch halves[0] {
            case "threads":
                guard let threads = Int32(halves[1]), threads >= 0 else { return nil }
                context.threads = threads
            case "isa":
                guard pf_isa_named(halves[1], &context.isa) else { return nil }
            case "numerics":
                guard let numerics = NumericsName(rawValue: halves[1]) else { return nil }
                context.numerics = numerics.value
            default: return nil
            }
        }
        (text, self.context) = (argument, context)
    }
}

struct CompareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "compare",
        abstract: "Times the passes of convolutions in two settings in turns: threads, instruction sets, numerics.",
        discussion: """
            A side is written as threads=N,isa=NAME,numerics=NAME, each where it isn't the default; the ratio is the \
            first side's time over the second's. Says too whether the two results have the same bits: at any number \
            of threads they must, and the command fails where they don't.
            """)

    @Argument(help: "Layers or suites, as for conv.")
    var layers = ["64x56x56-64k3p1"]
    @Option(help: "A side, such as threads=1.") var first: ContextDescription
    @Option(help: "The other, such as threads=2.") var second: ContextDescription
    @Option(help: "Only layers of at least so many GFLOP a pass.") var above = 0.0
    @Option(help: "Images. (default: 8; the suite small: 1, 16 and 128)") var batch: Int?
    @Option(help: "forward, input_gradient or weight_gradient; may be repeated.") var pass: [Pass] = []
    @Option(help: "How many times the sides take turns.") var rounds = 7
    @Option(help: "The least milliseconds of a turn.") var turn = 50.0
    @Option(help: "Of the operands.") var seed: UInt64 = 0
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if let batch, batch <= 0 { throw ValidationError("--batch must be positive, not \(batch).") }
        guard rounds > 0 else { throw ValidationError("--rounds must be positive, not \(rounds).") }
        guard turn > 0, turn.isFinite else { throw ValidationError("--turn must be positive.") }
        for side in [first, second] where !pf_isa_supported(side.context.isa) {
            throw ValidationError("this machine lacks the instruction set of '\(side.text)'.")
        }
    }

    func run() throws {
        let layers = try layers.flatMap { try Suite.layers($0, batch: batch) }.filter {
            $0.layer.operations >= 1e9 * above
        }
        guard !layers.isEmpty else { throw Failure("no layer has \(above) GFLOP") }
        let alternation = Alternation(rounds: rounds, turn: turn / 1000)
        var rows: [CompareReport.Row] = []
        for (index, entry) in layers.enumerated() {
            if layers.count > 1 {
                progress("\(index + 1)/\(layers.count)  \(entry.suite) \(entry.layer), batch \(entry.layer.batch)")
            }
            let data = try ConvolutionData(entry.layer, seed: seed)
            let sides = try [first, second].map { side in
                try LoadedConvolution(
                    ConvolutionRequest(
                        op: .load, problem: .init(entry.layer), folder: data.folder.path, threads: side.context.threads,
                        numerics: Int32(side.context.numerics.rawValue), isa: Int32(side.context.isa.rawValue)))
            }
            for pass in pass.isEmpty ? Pass.allCases : pass {
                rows.append(try measure(entry.layer, entry.suite, sides, pass, alternation))
            }
        }
        try output.print(CompareReport(first: first.text, second: second.text, rows: rows))
        try requireSameBits(rows)
    }

    private func measure(
        _ layer: Layer, _ suite: String, _ sides: [LoadedConvolution], _ pass: Pass, _ alternation: Alternation
    ) throws -> CompareReport.Row {
        let clock = ContinuousClock()
        let comparison = try alternation.run(
            sides.map { side in
                { repetitions in
                    try (0..<repetitions).map { _ in try clock.measure { try side.run(pass) }.seconds }
                }
            })
        let results = sides.map { $0.results[pass]! }, other = comparison.best!
        return CompareReport.Row(
            suite: suite, layer: layer.description, batch: layer.batch, pass: pass, first_ms: 1e3 * comparison.ours,
            second_ms: 1e3 * other.seconds, ratio: 1 / other.ratio.median, ratio_lower: 1 / other.ratio.upperQuartile,
            ratio_upper: 1 / other.ratio.lowerQuartile,
            same_bits: memcmp(results[0].pointer, results[1].pointer, 4 * results[0].count) == 0)
    }

    /// Where the sides differ in nothing but the number of threads.
    private func requireSameBits(_ rows: [CompareReport.Row]) throws {
        var a = first.context, b = second.context
        guard a.numerics == b.numerics, pf_isa_resolve(&a) == pf_isa_resolve(&b) else { return }
        if let row = rows.first(where: { !$0.same_bits }) {
            throw Failure(
                "\(row.layer), \(row.pass.rawValue): the result has other bits with \(first.text) than with "
                    + second.text)
        }
    }
}

struct CompareReport: Report {
    struct Row: Encodable {
        let suite, layer: String
        let batch: Int
        let pass: Pass
        let first_ms, second_ms: Double
        /// The first side's time over the second's: the median over the rounds, and its quartiles.
        let ratio, ratio_lower, ratio_upper: Double
        let same_bits: Bool
    }

    static let columns = [
        "suite", "layer", "batch", "pass", "first_ms", "second_ms", "ratio", "ratio_lower", "ratio_upper", "same_bits",
    ]

    let first, second: String
    let rows: [Row]
    /// Of the ratios, by pass.
    let geomean: [String: Double]

    init(first: String, second: String, rows: [Row]) {
        (self.first, self.second, self.rows) = (first, second, rows)
        geomean = Dictionary(grouping: rows, by: \.pass.rawValue).mapValues { geometricMean($0.map(\.ratio)) }
    }

    private var title: String { "Convolutions with \(first) and with \(second): times in turns" }

    private var means: String {
        let parts = Pass.allCases.compactMap { pass in
            geomean[pass.rawValue].map { "\(pass.rawValue) \(fixed($0, 2))" }
        }
        return "Geometric means of the ratios: \(parts.joined(separator: ", "))"
    }

    private var table: TextTable {
        var table = TextTable(
            ["layer", "batch", "pass", "\(first) ms", "\(second) ms", "ratio", "quartiles", "bits"], left: 1)
        for row in rows {
            table.add([
                row.layer, "\(row.batch)", row.pass.rawValue, fixed(row.first_ms, 3), fixed(row.second_ms, 3),
                fixed(row.ratio, 2), "\(fixed(row.ratio_lower, 2))-\(fixed(row.ratio_upper, 2))",
                row.same_bits ? "same" : "differ",
            ])
        }
        return table
    }

    var text: String { "\(title)\n\n\(table)\n\n\(means)" }

    var html: String {
        var order: [String] = [], groups: [String: [BarChart.Bar]] = [:]
        for row in rows {
            let label = "\(row.batch) x \(row.layer)"
            if groups[label] == nil { order.append(label) }
            groups[label, default: []].append(
                .init(
                    value: row.ratio, spread: row.ratio_lower...max(row.ratio_lower, row.ratio_upper), pass: row.pass))
        }
        return "<h1>\(escaped(title))</h1>\n<p>\(means)</p>\n\(passKey())\n"
            + BarChart(groups: order.map { ($0, groups[$0]!) }).svg + "\n" + table.html
    }
}
