import CKernels
import Foundation
import Testing

extension KernelTests {
    @Suite("Context and instruction sets") struct Context {
        static let all = [pf_isa_auto, pf_isa_baseline, pf_isa_avx2, pf_isa_avx512, pf_isa_neon]

        @Test("Names and instruction sets map to each other")
        func names() {
            #expect(Self.all.map(name(of:)) == ["auto", "baseline", "avx2", "avx512", "neon"])
            for isa in Self.all {
                var parsed = pf_isa(rawValue: -1)
                #expect(pf_isa_named(pf_isa_name(isa), &parsed))
                #expect(parsed == isa)
            }
            for unknown in ["", "AVX2", "avx", "avx512 ", "sse2"] {
                var untouched = pf_isa_neon
                #expect(!pf_isa_named(unknown, &untouched), "'\(unknown)'")
                #expect(untouched == pf_isa_neon)
            }
            #expect(name(of: pf_isa(rawValue: 99)) == "unknown")
            #expect(name(of: pf_isa(rawValue: -1)) == "unknown")
        }

        @Test("What is supported fits the architecture")
        func support() {
            #expect(pf_isa_supported(pf_isa_auto))
            #expect(pf_isa_supported(pf_isa_baseline))
            #expect(!pf_isa_supported(pf_isa(rawValue: 5)))
            #expect(!pf_isa_supported(pf_isa(rawValue: -1)))
            #if arch(x86_64)
                #expect(!pf_isa_supported(pf_isa_neon))
                #expect(!pf_isa_supported(pf_isa_avx512) || pf_isa_supported(pf_isa_avx2))
            #elseif arch(arm64)
                #expect(pf_isa_supported(pf_isa_neon))
                #expect(!pf_isa_supported(pf_isa_avx2))
            #endif
        }

        @Test("A context's own instruction set is used; auto stands for one that is supported")
        func resolution() {
            for isa in supportedInstructionSets {
                var context = pf_context(threads: 0, numerics: pf_fast, isa: isa)
                #expect(pf_isa_resolve(&context) == isa)
            }
            var automatic = pf_context()
            #expect(supportedInstructionSets.contains(pf_isa_resolve(&automatic)))
            #expect(pf_isa_resolve(nil) == pf_isa_resolve(&automatic))
        }

        @Test("PERMAFROST_ISA chooses what auto stands for", arguments: supportedInstructionSets.map { $0.rawValue })
        func environment(isa: Int32) async {
            // A process of its own: the variable is read once.
            await #expect(processExitsWith: .success) { [isa = isa as Int32] in
                setenv("PERMAFROST_ISA", name(of: pf_isa(rawValue: isa)), 1)
                #expect(pf_isa_resolve(nil).rawValue == isa)
            }
        }

        @Test("A PERMAFROST_ISA that names no supported instruction set is passed over")
        func unusableEnvironment() async {
            await #expect(processExitsWith: .success) {
                setenv("PERMAFROST_ISA", "altivec", 1)
                #expect(pf_isa_resolve(nil) == supportedInstructionSets.last)
            }
        }

        @Test("A context that asks for the impossible is refused by every pass", arguments: impossible)
        func refusals(_ context: Refusal) {
            let problem = pf_convolution2d(channels: 2, height: 4, width: 4, outputs: 2, kernel: 3)
            expectConvolutionStatus(context.status, problem, context: context.context)
            let product = pf_matrix_product(rows: 2, columns: 3, inner: 4)
            expectProductStatus(context.status, product, context: context.context)
        }

        struct Refusal: CustomTestStringConvertible, @unchecked Sendable {
            var testDescription: String
            var context: pf_context
            var status: pf_status
        }

        static let impossible: [Refusal] =
            [
                Refusal(
                    testDescription: "negative threads",
                    context: pf_context(threads: -1, numerics: pf_exact, isa: pf_isa_auto), status: pf_error_value),
                Refusal(
                    testDescription: "no such numerics",
                    context: pf_context(threads: 1, numerics: pf_numerics(rawValue: 2), isa: pf_isa_auto),
                    status: pf_error_value),
                Refusal(
                    testDescription: "no such instruction set",
                    context: pf_context(threads: 1, numerics: pf_exact, isa: pf_isa(rawValue: 77)),
                    status: pf_error_value),
            ]
            + all.filter { !pf_isa_supported($0) }.map {
                Refusal(
                    testDescription: "\(name(of: $0)) on this machine",
                    context: pf_context(threads: 1, numerics: pf_exact, isa: $0), status: pf_error_isa)
            }

        @Test("Every status has a message of its own")
        func messages() {
            let messages = (0...6).map { String(cString: pf_status_message(pf_status(rawValue: $0))) }
            #expect(Set(messages).count == messages.count)
            #expect(messages.allSatisfy { !$0.isEmpty && $0 != "unknown status" })
            #expect(String(cString: pf_status_message(pf_status(rawValue: 7))) == "unknown status")
            #expect(String(cString: pf_status_message(pf_status(rawValue: -1))) == "unknown status")
        }

        @Test("There is at least one thread, and without OpenMP exactly one")
        func threads() {
            #expect(pf_available_threads() >= 1)
            if !pf_openmp_available() { #expect(pf_available_threads() == 1) }
        }

        @Test("The measured peak is a rate, and senseless durations are refused")
        func peak() {
            for isa in supportedInstructionSets {
                var context = pf_context(threads: 1, numerics: pf_exact, isa: isa)
                var rate = 0.0
                #expect(pf_measure_peak(&context, 0.01, &rate) == pf_ok)
                #expect(rate > 1e7 && rate.isFinite, "\(name(of: isa)): \(rate)")
                #expect(pf_measure_peak(&context, 0.01, nil) == pf_error_null)
                for seconds in [-1, .nan] {
                    var untouched = -7.0
                    #expect(pf_measure_peak(&context, seconds, &untouched) == pf_error_value)
                    #expect(untouched == -7)
                }
            }
        }
    }
}
