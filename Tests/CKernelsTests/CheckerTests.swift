import CKernels
import CReference
import Testing

extension KernelTests {
    /// The checker is only worth what it finds: kernels that are right but for one planted fault must fail.
    @Suite("The checker") struct Checker {
        /// A fault, planted in the library's own kernels.
        struct Fault: CustomTestStringConvertible, Sendable {
            var testDescription: String
            var data = ref_data_integers
            var plant: @Sendable (inout ref_kernels) -> Void
        }

        static let faults = [
            Fault(testDescription: "the last output is one too large in images of 16 columns and more") { kernels in
                kernels.forward = { context, problem, activation, input, weight, bias, output in
                    let status = ref_ckernels().forward(context, problem, activation, input, weight, bias, output)
                    let count = ref_output_count(problem)
                    if count > 0 && problem!.pointee.input_width >= 16 { output![Int(count) - 1] += 1 }
                    return status
                }
            },
            Fault(testDescription: "the input gradient overwrites where it should accumulate") { kernels in
                kernels.input_gradient = { context, problem, gradient, weight, _, result in
                    ref_ckernels().input_gradient(context, problem, gradient, weight, false, result)
                }
            },
            Fault(testDescription: "a frozen element is -0.0") { kernels in
                kernels.weight_gradient = { context, problem, input, gradient, mask, accumulate, result in
                    let status = ref_ckernels().weight_gradient(
                        context, problem, input, gradient, mask, accumulate, result)
                    for i in 0..<Int(ref_weight_count(problem)) where mask?[i] == 0 { result![i] = -0.0 }
                    return status
                }
            },
            Fault(testDescription: "a frozen element is multiplied by 0 instead of selected") { kernels in
                kernels.weight_gradient = { context, problem, input, gradient, mask, accumulate, result in
                    if accumulate {
                        for i in 0..<Int(ref_weight_count(problem)) where mask?[i] == 0 { result![i] = 0 }
                    }
                    let status = ref_ckernels().weight_gradient(
                        context, problem, input, gradient, nil, accumulate, result)
                    for i in 0..<Int(ref_weight_count(problem)) where mask?[i] == 0 {
                        result![i] = 0 * result![i].magnitude
                    }
                    return status
                }
            },
            Fault(testDescription: "only the mask byte 1 counts as trainable") { kernels in
                kernels.bias_gradient = { context, problem, gradient, mask, accumulate, result in
                    let status = ref_ckernels().bias_gradient(context, problem, gradient, mask, accumulate, result)
                    guard let mask else { return status }
                    for i in 0..<Int(problem!.pointee.output_channels) where mask[i] > 1 { result![i] = 0 }
                    return status
                }
            },
            Fault(testDescription: "a wrong output width for dilated kernels") { kernels in
                kernels.output_size = { problem, height, width in
                    let status = ref_ckernels().output_size(problem, height, width)
                    if problem!.pointee.dilation_width > 1 { width!.pointee += 1 }
                    return status
                }
            },
            Fault(testDescription: "a status other than success") { kernels in
                kernels.forward = { _, problem, _, _, _, _, _ in
                    problem!.pointee.groups > 1 ? pf_error_dimension.rawValue : pf_ok.rawValue
                }
            },
            Fault(testDescription: "bits that depend on the thread count", data: ref_data_fractions) { kernels in
                kernels.forward = { context, problem, activation, input, weight, bias, output in
                    let status = ref_ckernels().forward(context, problem, activation, input, weight, bias, output)
                    if context!.pointee.threads == 3, ref_output_count(problem) > 0 { output![0] = output![0].nextUp }
                    return status
                }
            },
            Fault(testDescription: "trainable bits that depend on the mask", data: ref_data_fractions) { kernels in
                kernels.weight_gradient = { context, problem, input, gradient, mask, accumulate, result in
                    let status = ref_ckernels().weight_gradient(
                        context, problem, input, gradient, mask, accumulate, result)
                    let count = Int(ref_weight_count(problem))
                    guard let mask, let first = (0..<count).first(where: { mask[$0] != 0 }) else { return status }
                    result![first] = result![first].nextDown
                    return status
                }
            },
            Fault(testDescription: "a relative error of 1e-4", data: ref_data_fractions) { kernels in
                kernels.input_gradient = { context, problem, gradient, weight, accumulate, result in
                    let status = ref_ckernels().input_gradient(context, problem, gradient, weight, accumulate, result)
                    for i in 0..<Int(ref_input_count(problem)) { result![i] *= 1.0001 }
                    return status
                }
            },
        ]

        @Test("finds a planted fault", arguments: faults)
        func finds(_ fault: Fault) {
            var kernels = ref_ckernels()
            fault.plant(&kernels)
            var report = run(
                ref_check_convolutions, named: "convolutions", problems: 60, seed: 3, data: fault.data, kernels: kernels
            )
            #expect(report.failures > 0)
            #expect(
                String(cString: ref_report_failure(&report)).contains("repeat: Tests/check-kernels.sh convolutions"))
        }

        @Test("finds a write between the rows of a product")
        func gap() {
            var kernels = ref_ckernels()
            kernels.multiply = { context, product, a, b, bias, mask, accumulate, result in
                let status = ref_ckernels().multiply(context, product, a, b, bias, mask, accumulate, result)
                let p = product!.pointee
                if p.rows > 1 && p.stride_result > p.columns { result![Int(p.columns)] = 0 }
                return status
            }
            let report = run(
                ref_check_products, named: "products", problems: 60, seed: 3, data: ref_data_integers, kernels: kernels)
            #expect(report.failures > 0)
        }

        @Test("ends the process on a read beyond an input")
        func strayRead() async {
            await #expect(processExitsWith: .failure) {
                var kernels = ref_ckernels()
                kernels.forward = { context, problem, activation, input, weight, bias, output in
                    // A value that depends on the stray element keeps the read from being optimised away.
                    if input![Int(ref_input_count(problem))] == 12345 { return 0 }
                    return ref_ckernels().forward(context, problem, activation, input, weight, bias, output)
                }
                _ = run(
                    ref_check_convolutions, named: "convolutions", problems: 60, seed: 3, data: ref_data_integers,
                    kernels: kernels)
            }
        }

        @Test("ends the process, or fails, on a write in front of an output")
        func strayWrite() async {
            await #expect(processExitsWith: .failure) {
                var kernels = ref_ckernels()
                kernels.forward = { context, problem, activation, input, weight, bias, output in
                    output![-1] = 1
                    return ref_ckernels().forward(context, problem, activation, input, weight, bias, output)
                }
                let report = run(
                    ref_check_convolutions, named: "convolutions", problems: 60, seed: 3, data: ref_data_integers,
                    kernels: kernels)
                precondition(report.failures == 0)
            }
        }
    }
}
