import CKernels
import CReference
import Testing

/// Everything that calls kernels, one test at a time: each calling thread owns an OpenMP team, and tests that run side
/// by side would fight for the processors.
@Suite(.serialized)
enum KernelTests {}

/// The instruction sets that this machine has kernels for.
let supportedInstructionSets = (1..<Int32(ref_isa_limit)).map { pf_isa(rawValue: $0) }.filter(pf_isa_supported)

func name(of isa: pf_isa) -> String { String(cString: pf_isa_name(isa)) }

typealias RandomCheck = (UnsafePointer<ref_kernels>, UnsafePointer<ref_check>) -> ref_report

/// Runs one of CReference's checks on the kernels, or on `kernels`.
func run(
    _ check: RandomCheck, named name: StaticString, problems: Int64, seed: UInt64, data: ref_data,
    numerics: pf_numerics = pf_exact, kernels: ref_kernels = ref_ckernels()
) -> ref_report {
    var kernels = kernels
    return "Tests/check-kernels.sh \(name)".withCString { reproduction in
        var options = ref_check(
            seed: seed, first: 0, count: problems, numerics: numerics.rawValue, isa: 0, data: data,
            reproduction: reproduction)
        return check(&kernels, &options)
    }
}

/// Records an issue with the first failure's seed, shape and element.
func expectPassed(_ report: ref_report, sourceLocation: SourceLocation = #_sourceLocation) {
    var report = report
    let failure = String(cString: ref_report_failure(&report))
    #expect(
        report.failures == 0, "\(report.failures) problems failed; the first:\n\(failure)",
        sourceLocation: sourceLocation)
    #expect(report.mistrusted == 0, "problems whose results are mostly zero", sourceLocation: sourceLocation)
}

/// Expects `results` compared on each instruction set that the machine has.
func expectResults(_ results: Int64, _ report: ref_report, sourceLocation: SourceLocation = #_sourceLocation) {
    var report = report
    for isa in supportedInstructionSets {
        #expect(
            ref_report_results(&report, isa.rawValue) == results, "\(name(of: isa))", sourceLocation: sourceLocation)
    }
}
