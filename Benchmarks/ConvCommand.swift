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

    @Argument(help: "Layers.") var layers = ["64x56x56-64k3p1"]
    @Option(help: "Images.") var batch = 8
    @Option(help: "Threads; 0 for as many as there are.") var threads: Int32 = 0
    @Option(help: "forward, input_gradient or weight_gradient; may be repeated.") var pass: [Pass] = []
    @Option(help: "fast or exact.") var numerics: NumericsName = .fast
    @Option(help: "auto, baseline, avx2, avx512 or neon.") var isa = "auto"
    @Option(help: "What to compare with: pytorch.") var peer: PeerName?
    @Option(help: "How many times the sides take turns.") var rounds = 7
    @Option(help: "The least milliseconds of a turn.") var turn = 50.0
    @Option(help: "Of the operands.") var seed: UInt64 = 0
    @Flag(help: "Print one JSON object.") var json = false

    func validate() throws {
        guard batch > 0 else { throw ValidationError("--batch must be positive, not \(batch).") }
        guard threads >= 0 else { throw ValidationError("--threads can't be negative: \(threads).") }
        guard rounds > 0 else { throw ValidationError("--rounds must be positive, not \(rounds).") }
        guard turn > 0, turn.isFinite else { throw ValidationError("--turn must be positive.") }
    }

    struct Report: Encodable {
        let isa, numerics: String
        let peak_gigaflops: Double
        let peer: Peer.Greeting?
        let rows: [ConvolutionMeasurement.Row]
    }

    func run() throws {
        let layers = try layers.map { try Layer($0, batch: batch) }
        var set = pf_isa_auto
        guard pf_isa_named(isa, &set), pf_isa_supported(set) else {
            throw ValidationError("this machine has no instruction set '\(isa)'.")
        }
        var context = pf_context(threads: threads, numerics: numerics.value, isa: set)
        let torch = try peer.map { _ in try Peer(script: "conv.py") }
        torch?.pause()
        let ours = try Peer(command: [Bundle.main.executablePath ?? CommandLine.arguments[0], "worker"], name: "worker")
        ours.pause()
        let peak = try measurePeak(context, seconds: 1)
        Thread.sleep(forTimeInterval: 0.3)  // the threads that measured it spin for 0.2 s before they sleep
        let measurement = ConvolutionMeasurement(
            ours: ours, peer: torch, context: context, peak: peak, rounds: rounds, turn: turn / 1000)
        let rows = try layers.flatMap {
            try measurement.measure($0, suite: "", passes: pass.isEmpty ? Pass.allCases : pass, seed: seed)
        }
        let isaName = String(cString: pf_isa_name(pf_isa_resolve(&context)))
        if json {
            try printJSON(
                Report(
                    isa: isaName, numerics: numerics.rawValue, peak_gigaflops: peak / 1e9, peer: torch?.greeting,
                    rows: rows))
        } else {
            let count = rows.first?.threads ?? 0
            print("\(isaName), \(count) threads, peak \(String(format: "%.0f", peak / 1e9)) GFLOP/s, batch \(batch)\n")
            print(table(rows, torch?.greeting))
        }
    }

    private func table(_ rows: [ConvolutionMeasurement.Row], _ peer: Peer.Greeting?) -> TextTable {
        var table = TextTable(
            ["layer", "pass", "ms"] + (peer.map { ["\($0.name) ms", "ratio", "quartiles"] } ?? [])
                + ["GFLOP/s", "% of peak", "max error"], left: 2)
        for row in rows {
            var cells = [row.layer, row.pass.rawValue, String(format: "%.3f", row.ours_ms)]
            if let time = row.peer_ms, let ratio = row.ratio, let lower = row.ratio_lower, let upper = row.ratio_upper {
                cells += [
                    String(format: "%.3f", time), String(format: "%.2f", ratio),
                    String(format: "%.2f-%.2f", lower, upper),
                ]
            }
            table.add(
                cells + [
                    String(format: "%.0f", row.gigaflops), String(format: "%.0f", row.percent_of_peak),
                    String(format: "%.1e", row.max_error),
                ])
        }
        return table
    }
}

extension Pass: ExpressibleByArgument {}

enum NumericsName: String, ExpressibleByArgument, CaseIterable {
    case fast, exact

    var value: pf_numerics { self == .fast ? pf_fast : pf_exact }
}
