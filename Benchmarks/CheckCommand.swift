import ArgumentParser
import CReference
import Foundation

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Holds the convolutions against the reference on random problems, on each instruction set.",
        discussion: """
            Integers: the results of direct algorithms must equal the naive double-precision reference, those of \
            others lie within their bound. Fractions: every result must lie within the bound that follows from its \
            algorithm. Each problem runs all passes, with and without masks, overwriting and accumulating.
            """)

    @Option(help: "Problems of each kind.") var problems: Int64 = 2000
    @Option(help: "Of the sequence of problems.") var seed: UInt64 = 1
    @Option(help: "auto (each that the machine has), baseline, avx2, avx512 or neon.") var isa = "auto"
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard problems > 0 else { throw ValidationError("--problems must be positive, not \(problems).") }
    }

    func run() throws {
        let set = try instructionSet(isa).rawValue
        var kernels = ref_ckernels()
        var rows: [CheckReport.Row] = [], algorithms: [CheckReport.Algorithm] = [], failures: [String] = []
        for (data, numerics) in [
            (ref_data_integers, ref_numerics_exact), (ref_data_integers, ref_numerics_fast),
            (ref_data_fractions, ref_numerics_exact), (ref_data_fractions, ref_numerics_fast),
        ] {
            var check = ref_check(
                seed: seed, first: 0, count: problems, numerics: Int32(numerics), isa: set, data: data,
                reproduction: nil)
            let dataName = data == ref_data_integers ? "integers" : "fractions"
            let numericsName: NumericsName = numerics == ref_numerics_exact ? .exact : .fast
            progress("\(problems) problems of \(dataName), \(numericsName.rawValue)")
            var report = "Tests/check-kernels.sh convolutions".withCString { command in
                check.reproduction = command
                return ref_check_convolutions(&kernels, &check)
            }
            for isa in 1..<Int32(ref_isa_limit) where ref_report_results(&report, isa) > 0 {
                rows.append(
                    CheckReport.Row(
                        data: dataName, numerics: numericsName,
                        isa: kernels.isa_name(isa).map { String(cString: $0) } ?? "", problems: report.problems,
                        results: ref_report_results(&report, isa), failures: report.failures))
            }
            for index in 0..<Int32(ref_algorithm_limit) {
                guard let name = ref_report_algorithm_name(&report, index) else { break }
                let counts = (0..<3 as Range<Int32>).map { ref_report_algorithm_count(&report, index, $0) }
                algorithms.append(
                    CheckReport.Algorithm(
                        data: dataName, numerics: numericsName, algorithm: String(cString: name), forward: counts[0],
                        input_gradient: counts[1], weight_gradient: counts[2]))
            }
            if report.failures > 0 { failures.append(String(cString: ref_report_failure(&report))) }
        }
        try output.print(CheckReport(seed: seed, rows: rows, algorithms: algorithms))
        if !failures.isEmpty { throw Failure(failures.joined(separator: "\n")) }
    }
}

struct CheckReport: Report {
    struct Row: Encodable {
        let data: String
        let numerics: NumericsName
        let isa: String
        let problems, results: Int64
        /// Problems that failed, on any instruction set.
        let failures: Int64
    }

    static let columns = ["data", "numerics", "isa", "problems", "results", "failures"]

    /// How often an algorithm was chosen, by pass, over all instruction sets.
    struct Algorithm: Encodable {
        let data: String
        let numerics: NumericsName
        let algorithm: String
        let forward, input_gradient, weight_gradient: Int64
    }

    let seed: UInt64
    let rows: [Row]
    let algorithms: [Algorithm]

    private var algorithmTable: TextTable {
        var table = TextTable(["data", "numerics", "algorithm"] + Pass.allCases.map(\.rawValue), left: 3)
        for row in algorithms {
            table.add([
                row.data, row.numerics.rawValue, row.algorithm, "\(row.forward)", "\(row.input_gradient)",
                "\(row.weight_gradient)",
            ])
        }
        return table
    }

    private var table: TextTable {
        var table = TextTable(Self.columns, left: 3)
        for row in rows {
            table.add([
                row.data, row.numerics.rawValue, row.isa, "\(row.problems)", "\(row.results)", "\(row.failures)",
            ])
        }
        return table
    }

    var text: String { "Random problems against the reference, seed \(seed)\n\n\(table)\n\n\(algorithmTable)" }
    var html: String {
        "<h1>Random problems against the reference, seed \(seed)</h1>\n\(table.html)\n\(algorithmTable.html)"
    }
}
