import ArgumentParser
import CKernels
import Foundation

struct RooflineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "roofline",
        abstract: "Measures what the machine can do: fused multiply-adds in registers, and streaming from memory.")

    @Option(help: "Seconds to spend on each figure.") var seconds = 0.5
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard seconds > 0, seconds.isFinite else { throw ValidationError("--seconds must be positive.") }
    }

    func run() throws {
        let threads = Array(1...pf_available_threads())
        let sets = [pf_isa_baseline, pf_isa_avx2, pf_isa_avx512, pf_isa_neon].filter { pf_isa_supported($0) }
        let rows = try sets.flatMap { isa in
            try threads.map { count in
                RooflineReport.Row(
                    isa: String(cString: pf_isa_name(isa)), threads: count,
                    gigaflops: try measurePeak(
                        pf_context(threads: count, numerics: pf_fast, isa: isa), seconds: seconds) / 1e9)
            }
        }
        let stream = try threads.map { count in
            RooflineReport.Stream(
                threads: count,
                gigabytes_per_second: try measureBandwidth(
                    pf_context(threads: count, numerics: pf_fast, isa: pf_isa_auto), seconds: seconds) / 1e9)
        }
        try output.print(RooflineReport(rows: rows, stream: stream))
    }
}

struct RooflineReport: Report {
    struct Row: Encodable {
        let isa: String
        let threads: Int32
        let gigaflops: Double
    }

    struct Stream: Encodable {
        let threads: Int32
        let gigabytes_per_second: Double
    }

    static let columns = ["isa", "threads", "gigaflops"]

    let rows: [Row]
    let stream: [Stream]

    private static let titles = ["Multiply-adds in registers, two operations each", "y += a x on 256 MB a vector"]

    private var tables: [TextTable] {
        var peak = TextTable(["instruction set", "threads", "GFLOP/s"], left: 1)
        for row in rows { peak.add([row.isa, "\(row.threads)", fixed(row.gigaflops, 1)]) }
        var memory = TextTable(["threads", "GB/s"], left: 1)
        for row in stream { memory.add(["\(row.threads)", fixed(row.gigabytes_per_second, 1)]) }
        return [peak, memory]
    }

    var text: String { zip(Self.titles, tables).map { "\($0)\n\n\($1)" }.joined(separator: "\n\n") }
    var html: String {
        "<h1>Roofline</h1>\n" + zip(Self.titles, tables).map { "<h2>\($0)</h2>\n\($1.html)" }.joined(separator: "\n")
    }
}

/// Floating-point operations a second of multiply-adds in registers.
func measurePeak(_ context: pf_context, seconds: Double) throws -> Double {
    var context = context, rate = 0.0
    let status = pf_measure_peak(&context, seconds, &rate)
    guard status == pf_ok else { throw Failure("measuring the peak: \(String(cString: pf_status_message(status)))") }
    return rate
}

/// Bytes a second of y += a x: two reads and a write an element.
func measureBandwidth(_ context: pf_context, seconds: Double) throws -> Double {
    let count = 64 << 20
    defer { pf_memory_trim() }
    return try withBuffers(count: count) { x, y in
        var context = context
        x.update(repeating: 1, count: count)
        y.update(repeating: 0, count: count)
        let clock = ContinuousClock(), start = clock.now
        var times: [Double] = []
        repeat {
            times.append(clock.measure { _ = pf_add_scaled(&context, Int64(count), 0.5, x, y) }.seconds)
        } while (clock.now - start).seconds < seconds || times.count < 3
        return 12 * Double(count) / Statistics(times).median
    }
}

/// Two blocks of the arena, given back to it when `body` ends.
private func withBuffers<R>(
    count: Int, _ body: (UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>) throws -> R
) throws -> R {
    let x = try FloatBuffer(count: count), y = try FloatBuffer(count: count)
    return try withExtendedLifetime((x, y)) { try body(x.pointer, y.pointer) }
}

extension Duration {
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
