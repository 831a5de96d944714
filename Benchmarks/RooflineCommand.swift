import ArgumentParser
import CKernels
import Foundation

struct RooflineCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "roofline",
        abstract: "Measures what the machine can do: fused multiply-adds in registers, and streaming from memory.")

    @Option(help: "Seconds to spend on each figure.") var seconds = 0.5
    @Flag(help: "Print one JSON object.") var json = false

    func validate() throws {
        guard seconds > 0, seconds.isFinite else { throw ValidationError("--seconds must be positive.") }
    }

    struct Row: Encodable {
        let isa: String
        let threads: Int32
        let gigaflops: Double
    }

    struct Bandwidth: Encodable {
        let threads: Int32
        let gigabytes_per_second: Double
    }

    struct Report: Encodable {
        let rows: [Row]
        let stream: [Bandwidth]
    }

    func run() throws {
        let threads = Array(1...pf_available_threads())
        let sets = [pf_isa_baseline, pf_isa_avx2, pf_isa_avx512, pf_isa_neon].filter { pf_isa_supported($0) }
        let rows = try sets.flatMap { isa in
            try threads.map { count in
                let context = pf_context(threads: count, numerics: pf_fast, isa: isa)
                return Row(
                    isa: String(cString: pf_isa_name(isa)), threads: count,
                    gigaflops: try measurePeak(context, seconds: seconds) / 1e9)
            }
        }
        let stream = try threads.map { Bandwidth(threads: $0, gigabytes_per_second: try bandwidth(threads: $0) / 1e9) }
        if json {
            try printJSON(Report(rows: rows, stream: stream))
            return
        }
        var table = TextTable(["instruction set", "threads", "GFLOP/s"], left: 1)
        for row in rows { table.add([row.isa, "\(row.threads)", String(format: "%.1f", row.gigaflops)]) }
        print("Multiply-adds in registers (two operations each)\n\n\(table)\n")
        table = TextTable(["stream", "threads", "GB/s"], left: 1)
        for row in stream {
            table.add(["y += a x", "\(row.threads)", String(format: "%.1f", row.gigabytes_per_second)])
        }
        print("Memory, 256 MB a vector\n\n\(table)")
    }

    /// Bytes a second of y += a x: two reads and a write an element.
    private func bandwidth(threads: Int32) throws -> Double {
        let count = 64 << 20
        let x = try FloatBuffer(count: count), y = try FloatBuffer(count: count)
        var context = pf_context(threads: threads, numerics: pf_fast, isa: pf_isa_auto)
        x.pointer.update(repeating: 1, count: count)
        y.pointer.update(repeating: 0, count: count)
        let clock = ContinuousClock(), start = clock.now
        var times: [Double] = []
        repeat {
            let time = clock.measure { pf_add_scaled(&context, Int64(count), 0.5, x.pointer, y.pointer) }
            times.append(time.seconds)
        } while (clock.now - start).seconds < seconds || times.count < 3
        return 12 * Double(count) / Statistics(times).median
    }
}

/// Floating-point operations a second of multiply-adds in registers.
func measurePeak(_ context: pf_context, seconds: Double) throws -> Double {
    var context = context, rate = 0.0
    let status = pf_measure_peak(&context, seconds, &rate)
    guard status == pf_ok else { throw Failure("measuring the peak: \(String(cString: pf_status_message(status)))") }
    return rate
}

extension Duration {
    var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
