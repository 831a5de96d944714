import ArgumentParser
import CKernels
import CReference
import Foundation

struct CheckCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Holds the convolutions against the reference on random problems, on each instruction set.",
        discussion: """
            Integers: every result must equal the naive double-precision reference, in exact numerics. Fractions: in \
            exact and in fast numerics, every result must lie within the bound that follows from its algorithm. Each \
            problem runs all passes, with and without masks, overwriting and accumulating.
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
        var rows: [CheckReport.Row] = [], failures: [String] = []
        for (data, numerics) in [
            (ref_data_integers, ref_numerics_exact), (ref_data_fractions, ref_numerics_exact),
            (ref_data_fractions, ref_numerics_fast),
        ] {
            var check = ref_check(
                seed: seed, first: 0, count: problems, numerics: Int32(numerics), isa: set, data: data,
                reproduction: nil)
            progress(
                "\(problems) problems of \(data == ref_data_integers ? "integers" : "fractions"), "
                    + (numerics == ref_numerics_exact ? "exact" : "fast"))
            var report = "Tests/check-kernels.sh convolutions".withCString { command in
                check.reproduction = command
                return ref_check_convolutions(&kernels, &check)
            }
            for isa in 1..<Int32(ref_isa_limit) where ref_report_results(&report, isa) > 0 {
                rows.append(
                    CheckReport.Row(
                        data: data == ref_data_integers ? "integers" : "fractions",
                        numerics: numerics == ref_numerics_exact ? .exact : .fast,
                        isa: kernels.isa_name(isa).map { String(cString: $0) } ?? "", problems: report.problems,
                        results: ref_report_results(&report, isa), failures: report.failures))
            }
            if report.failures > 0 { failures.append(String(cString: ref_report_failure(&report))) }
        }
        try output.print(CheckReport(seed: seed, rows: rows, algorithms: try algorithms(set)))
        if !failures.isEmpty { throw Failure(failures.joined(separator: "\n")) }
    }
}

extension CheckCommand {
    /// How many passes of the problems run each algorithm, by instruction set and numerics.
    private func algorithms(_ set: Int32) throws -> [CheckReport.Algorithm] {
        var counts: [[String]: Int] = [:]
        for index in 0..<problems {
            let problem = pf_convolution2d(ref_random_convolution(seed, index))
            for isa in 1..<Int32(ref_isa_limit) where pf_isa_supported(pf_isa(rawValue: isa)) {
                guard set == pf_isa_auto.rawValue || set == isa else { continue }
                for numerics in NumericsName.allCases {
                    let context = pf_context(threads: 0, numerics: numerics.value, isa: pf_isa(rawValue: isa))
                    for pass in Pass.allCases {
                        let name = try problem.algorithm(pass, context)
                        let isaName = String(cString: pf_isa_name(context.isa))
                        counts[[name, pass.rawValue, numerics.rawValue, isaName], default: 0] += 1
                    }
                }
            }
        }
        return counts.keys.sorted { $0.lexicographicallyPrecedes($1) }.map {
            CheckReport.Algorithm(
                algorithm: $0[0], pass: $0[1], numerics: $0[2], isa: $0[3], problems: counts[$0]!)
        }
    }
}

extension pf_convolution2d {
    init(_ p: ref_convolution) {
        self.init(
            batch: p.batch, input_channels: p.input_channels, input_height: p.input_height,
            input_width: p.input_width, output_channels: p.output_channels, kernel_height: p.kernel_height,
            kernel_width: p.kernel_width, stride_height: p.stride_height, stride_width: p.stride_width,
            padding_top: p.padding_top, padding_bottom: p.padding_bottom, padding_left: p.padding_left,
            padding_right: p.padding_right, dilation_height: p.dilation_height, dilation_width: p.dilation_width,
            groups: p.groups)
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

    struct Algorithm: Encodable {
        let algorithm, pass, numerics, isa: String
        let problems: Int
    }

    let seed: UInt64
    let rows: [Row]
    /// What the planner chose for these problems.
    let algorithms: [Algorithm]

    private var planTable: TextTable {
        var table = TextTable(["algorithm", "pass", "numerics", "isa", "problems"], left: 4)
        for row in algorithms { table.add([row.algorithm, row.pass, row.numerics, row.isa, "\(row.problems)"]) }
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

    var text: String { "Random problems against the reference, seed \(seed)\n\n\(table)\n\n\(planTable)" }
    var html: String {
        "<h1>Random problems against the reference, seed \(seed)</h1>\n\(table.html)\n\(planTable.html)"
    }
}
