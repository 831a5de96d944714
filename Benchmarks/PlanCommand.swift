import ArgumentParser
import CKernels

struct PlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan", abstract: "Says which algorithm each pass of a convolution would run, why, and its cost.",
        discussion: """
            Where there is a choice, `why` lists the algorithms that could run with the planner's estimates of their \
            times, the direct one's being 1. The least runs.
            """)

    @Argument(help: "Layers or suites, as for conv.") var layers = ["64x56x56-64k3p1"]
    @Option(help: "Images. (default: 8; the suite small: 1, 16 and 128)") var batch: Int?
    @Option(help: "fast or exact.") var numerics: NumericsName = .fast
    @Option(help: "auto, baseline, avx2, avx512 or neon.") var isa = "auto"
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if let batch, batch <= 0 { throw ValidationError("--batch must be positive, not \(batch).") }
    }

    func run() throws {
        var context = pf_context(threads: 0, numerics: numerics.value, isa: try instructionSet(isa))
        let rows = try layers.flatMap { try Suite.layers($0, batch: batch) }.flatMap { suite, layer in
            try Pass.allCases.map { pass in
                var problem = layer.problem, bytes = 0
                let status = pf_convolution2d_workspace(&context, &problem, pass.kernelPass, &bytes)
                guard status == pf_ok else { throw Failure("\(layer): \(String(cString: pf_status_message(status)))") }
                return PlanReport.Row(
                    suite: suite, layer: layer.description, batch: layer.batch, pass: pass,
                    algorithm: try layer.algorithm(pass, context), gigaoperations: layer.operations / 1e9,
                    operations_per_byte: layer.operations / layer.bytes, workspace_bytes: bytes,
                    why: try layer.reason(pass, context))
            }
        }
        try output.print(
            PlanReport(isa: String(cString: pf_isa_name(pf_isa_resolve(&context))), numerics: numerics, rows: rows))
    }
}

struct PlanReport: Report {
    struct Row: Encodable {
        let suite, layer: String
        let batch: Int
        let pass: Pass
        let algorithm: String
        /// Of direct convolution.
        let gigaoperations, operations_per_byte: Double
        let workspace_bytes: Int
        let why: String
    }

    static let columns = [
        "suite", "layer", "batch", "pass", "algorithm", "gigaoperations", "operations_per_byte", "workspace_bytes",
        "why",
    ]

    let isa: String
    let numerics: NumericsName
    let rows: [Row]

    private var table: TextTable {
        var table = TextTable(
            ["layer", "pass", "algorithm", "why", "batch", "GFLOP", "FLOP a byte", "workspace MB"], left: 4)
        for row in rows {
            table.add([
                row.layer, row.pass.rawValue, row.algorithm, row.why, "\(row.batch)", fixed(row.gigaoperations, 3),
                fixed(row.operations_per_byte, 1), fixed(Double(row.workspace_bytes) / 1e6, 2),
            ])
        }
        return table
    }

    var text: String { "\(isa), numerics \(numerics.rawValue)\n\n\(table)" }
    var html: String { "<h1>Plans: \(isa), numerics \(numerics.rawValue)</h1>\n\(table.html)" }
}
