import CKernels
import CReference
import Testing

extension KernelTests {
    @Suite("Matrix product") struct MatrixProduct {
        @Test("Random integer products equal the reference on every instruction set")
        func integers() {
            let problems: Int64 = 1500
            let report = run(
                ref_check_products, named: "products", problems: problems, seed: 11, data: ref_data_integers)
            expectPassed(report)
            expectResults(2 * problems, report)  // with and without a mask
            #expect(report.poisoned > 10_000)
        }

        @Test("Random fractional products keep the error bound, and their bits at 1, 2 and 3 threads")
        func fractions() {
            let problems: Int64 = 300
            let report = run(
                ref_check_products, named: "products", problems: problems, seed: 5, data: ref_data_fractions)
            expectPassed(report)
            expectResults(3 * 2 * problems, report)
        }
    }
}
