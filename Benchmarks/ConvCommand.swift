import ArgumentParser
import CKernels
import Foundation

struct ConvCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conv",
        abstract: "Times the passes of convolutions, checks each result, and compares with a peer in the same run.",
        discussion: """
            A layer is written as input channels x height x width, a dash, output channels, then k(ernel), s(tride), \
            p(adding), d(ilation) and g(roups), each where it isn't 1 (padding: 0): 64x56x56-128k3s2p1, or with two \
            extents 80x1x1500-384k1x3p0x1. Percentages of peak count the operations of direct convolution.
            """)

    @Argument(help: "Layers, or suites: \(Suite.all.map(\.name).joined(separator: " ")).")
    var layers = ["64x56x56-64k3p1"]
    @Option(help: "Images. (default: 8; the suite small: 1, 16 and 128)") var batch: Int?
    @Option(help: "Threads; 0 for as many as there are.") var threads: Int32 = 0
    @Option(help: "forward, input_gradient or weight_gradient; may be repeated.") var pass: [Pass] = []
    @Option(help: "fast or exact.") var numerics: NumericsName = .fast
    @Option(help: "auto, baseline, avx2, avx512 or neon.") var isa = "auto"
    @Option(help: "What to compare with: pytorch.") var peer: PeerName?
    @Option(help: "How many times the sides take turns.") var rounds = 7
    @Option(help: "The least milliseconds of a turn.") var turn = 50.0
    @Option(help: "Of the operands.") var seed: UInt64 = 0
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if let batch, batch <= 0 { throw ValidationError("--batch must be positive, not \(batch).") }
        guard threads >= 0 else { throw ValidationError("--threads can't be negative: \(threads).") }
        guard rounds > 0 else { throw ValidationError("--rounds must be positive, not \(rounds).") }
        guard turn > 0, turn.isFinite else { throw ValidationError("--turn must be positive.") }
    }

    func run() throws {
        let layers = try layers.flatMap { try Suite.layers($0, batch: batch) }
        var context = pf_context(threads: threads, numerics: numerics.value, isa: try instructionSet(isa))
        let torch = try peer.map { _ in try Peer(script: "conv.py") }
        torch?.pause()
        let ours = try Peer.worker("conv-worker")
        ours.pause()
        let peak = try measurePeak(context, seconds: 1), bandwidth = try measureBandwidth(context, seconds: 0.5)
        Thread.sleep(forTimeInterval: 0.3)  // the threads that measured it spin for 0.2 s before they sleep
        let measurement = ConvolutionMeasurement(
            ours: ours, peer: torch, context: context, peak: peak,
            alternation: Alternation(rounds: rounds, turn: turn / 1000))
        let rows = try layers.enumerated().flatMap { index, entry in
            if layers.count > 1 {
                progress("\(index + 1)/\(layers.count)  \(entry.suite) \(entry.layer), batch \(entry.layer.batch)")
            }
            return try measurement.measure(
                entry.layer, suite: entry.suite, passes: pass.isEmpty ? Pass.allCases : pass, seed: seed)
        }
        try output.print(
            ConvolutionReport(
                isa: String(cString: pf_isa_name(pf_isa_resolve(&context))), numerics: numerics,
                threads: context.threadCount, peak: peak, bandwidth: bandwidth, peer: torch?.greeting, rows: rows))
    }
}

/// What `conv --json` printed, in another form.
struct ShowCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Prints again what conv --json has printed: as a table, CSV or a page.")

    @Argument(help: "A file with the JSON object.") var file: String
    @Option(help: "List only rows whose ratio is below this; means are still those of all rows.") var below: Double?
    @OptionGroup var output: OutputOptions

    func run() throws {
        var report: ConvolutionReport
        do {
            report = try JSONDecoder().decode(ConvolutionReport.self, from: Data(contentsOf: URL(filePath: file)))
        } catch let error as DecodingError {
            throw Failure("'\(file)' isn't what conv --json prints: \(error)")
        } catch {
            throw Failure("'\(file)' can't be read: \(error.localizedDescription)")
        }
        if let below { report.rows = report.rows.filter { $0.ratio.map { $0 < below } ?? false } }
        try output.print(report)
    }
}

/// The instruction set of a name; throws for one that this machine lacks.
func instructionSet(_ name: String) throws -> pf_isa {
    var set = pf_isa_auto
    guard pf_isa_named(name, &set), pf_isa_supported(set) else {
        throw ValidationError("this machine has no instruction set '\(name)'.")
    }
    return set
}

extension Pass: ExpressibleByArgument {}

enum NumericsName: String, ExpressibleByArgument, CaseIterable, Codable {
    case fast, exact

    var value: pf_numerics { self == .fast ? pf_fast : pf_exact }
}
