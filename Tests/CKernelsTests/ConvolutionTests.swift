import CKernels
import CReference
import Testing

extension KernelTests {
    @Suite("Convolution") struct Convolution {
        /// Forward; input gradient in two writing modes; weight and bias gradient in two modes, masked and not.
        static let resultsPerProblem: Int64 = 11
        /// Masked weight and bias gradients in two writing modes, from inputs full of NaN.
        static let spoiledResultsPerProblem: Int64 = 4

        @Test("Random integer problems equal the reference on every instruction set")
        func integers() {
            let problems: Int64 = 2600
            var report = run(
                ref_check_convolutions, named: "convolutions", problems: problems, seed: 2026, data: ref_data_integers)
            expectPassed(report)
            expectResults(problems * (Self.resultsPerProblem + Self.spoiledResultsPerProblem), report)
            #expect(report.poisoned > 100_000)
            // A sequence that misses a kind of shape or of mask would prove little about it.
            for raw in 0..<ref_feature_count.rawValue {
                let feature = ref_feature(rawValue: raw)
                let count = ref_report_feature(&report, feature)
                #expect(count >= 25, "only \(count) problems with: \(String(cString: ref_feature_name(feature)))")
            }
        }

        /// Three thread counts, masked and not: the bits are the same, and within the error bound of a sum in any
        /// order.
        @Test("Random fractional problems keep the error bound, and their bits at 1, 2 and 3 threads")
        func fractions() {
            let problems: Int64 = 500
            let report = run(
                ref_check_convolutions, named: "convolutions", problems: problems, seed: 7, data: ref_data_fractions)
            expectPassed(report)
            expectResults(problems * (3 * Self.resultsPerProblem + Self.spoiledResultsPerProblem), report)
        }

        /// Fast numerics may choose other algorithms than exact ones: their results have a wider bound, and bits that
        /// don't depend on the thread count either.
        @Test("Fast numerics keep each algorithm's error bound, and their bits at 1, 2 and 3 threads")
        func fastNumerics() {
            let problems: Int64 = 700
            var report = run(
                ref_check_convolutions, named: "convolutions", problems: problems, seed: 31, data: ref_data_fractions,
                numerics: pf_fast)
            expectPassed(report)
            expectResults(problems * (3 * Self.resultsPerProblem + Self.spoiledResultsPerProblem), report)
            var reached: Set<String> = []
            for index in 0..<Int32(ref_algorithm_limit) {
                guard let name = ref_report_algorithm_name(&report, index).map({ String(cString: $0) }) else { break }
                reached.insert(name)
                // The weight gradient has no algorithm of its own for stride 2.
                for pass: Int32 in 0..<(name.hasSuffix("stride 2") ? 2 : 3) {
                    #expect(ref_report_algorithm_count(&report, index, pass) >= 3, "\(name) in pass \(pass)")
                }
            }
            let names: Set = [
                "direct", "depthwise", "winograd 1x2", "winograd 1x4", "winograd 1x4 stride 2", "winograd 2x2",
                "winograd 2x4", "winograd 3x3", "winograd 4x2", "winograd 4x4", "winograd 4x4 stride 2",
            ]
            #expect(reached == names)
        }

        @Test("Fast numerics equal the reference on integers wherever the algorithm is direct")
        func fastIntegers() {
            let problems: Int64 = 500
            let report = run(
                ref_check_convolutions, named: "convolutions", problems: problems, seed: 32, data: ref_data_integers,
                numerics: pf_fast)
            expectPassed(report)
            expectResults(problems * (Self.resultsPerProblem + Self.spoiledResultsPerProblem), report)
        }

        @Test("Rows and columns may lie as far apart as numbers go", arguments: [pf_fast, pf_exact])
        func farApart(numerics: pf_numerics) {
            var plain = pf_convolution2d(
                batch: 1, input_channels: 16, input_height: 1, input_width: 16, output_channels: 16, kernel_height: 1,
                kernel_width: 3, stride_height: 1, stride_width: 1, padding_top: 0, padding_bottom: 0, padding_left: 1,
                padding_right: 1, dilation_height: 1, dilation_width: 1, groups: 1)
            var far = plain
            far.padding_top = 1 << 50
            far.stride_height = 1 << 50
            var context = pf_context(threads: 0, numerics: numerics, isa: pf_isa_auto)
            let input = (0..<256).map { Float($0 % 13) - 6 }, weight = (0..<768).map { Float($0 % 7) - 3 }
            var row = [Float](repeating: .nan, count: 256), rows = [Float](repeating: .nan, count: 512)
            #expect(pf_convolution2d_forward(&context, &plain, pf_activation_none, input, weight, nil, &row) == pf_ok)
            #expect(pf_convolution2d_forward(&context, &far, pf_activation_none, input, weight, nil, &rows) == pf_ok)
            for (place, value) in rows.enumerated() {
                // The first row of the output reads padding alone.
                #expect(value == (place % 32 < 16 ? 0 : row[place / 32 * 16 + place % 16]), "\(place)")
            }
        }

        /// Planners that try every number of blocks wouldn't come to an end.
        @Test("Of an image of any size, a part is worked on at a time")
        func planning() {
            for extent in [1 << 20, 1 << 30, 1 << 40] as [Int64] {
                for kernel in [1, 3, 7] as [Int64] {
                    var problem = pf_convolution2d(
                        batch: 1, input_channels: 32, input_height: extent, input_width: 32, output_channels: 32,
                        kernel_height: kernel, kernel_width: kernel, stride_height: 1, stride_width: 1,
                        padding_top: kernel / 2, padding_bottom: kernel / 2, padding_left: kernel / 2,
                        padding_right: kernel / 2, dilation_height: 1, dilation_width: 1, groups: 1)
                    for pass in [pf_pass_forward, pf_pass_input_gradient] {
                        var bytes = 0
                        #expect(pf_convolution2d_workspace(nil, &problem, pass, &bytes) == pf_ok, "\(extent) \(kernel)")
                        #expect(bytes < 1 << 30, "\(extent) \(kernel)")
                    }
                }
            }
        }

        @Test("The estimates say what the planner chooses, and from what")
        func estimates() {
            var several = 0
            for index in 0..<Int64(2_000) {
                var problem = pf_convolution2d(ref_random_convolution(34, index))
                for numerics in [pf_fast, pf_exact] {
                    var context = pf_context(threads: 0, numerics: numerics, isa: pf_isa_auto)
                    for pass in [pf_pass_forward, pf_pass_input_gradient, pf_pass_weight_gradient] {
                        var name: UnsafePointer<CChar>?, count: Int32 = 0
                        var estimates = [pf_algorithm_estimate](
                            repeating: pf_algorithm_estimate(), count: Int(pf_most_algorithms))
                        #expect(pf_convolution2d_algorithm(&context, &problem, pass, &name) == pf_ok)
                        #expect(pf_convolution2d_estimates(&context, &problem, pass, &estimates, &count) == pf_ok)
                        let found = estimates.prefix(Int(count)).map { (String(cString: $0.name), $0.time) }
                        #expect(found.first?.0 == name.map { String(cString: $0) }, "\(problem)")
                        #expect(zip(found, found.dropFirst()).allSatisfy { $0.1 <= $1.1 }, "\(problem): \(found)")
                        #expect(Set(found.map(\.0)).count == found.count)
                        #expect(found.count == 1 || found.contains { $0 == ("direct", 1) }, "\(problem): \(found)")
                        #expect(found.count == 1 || numerics == pf_fast)
                        several += found.count > 1 ? 1 : 0
                    }
                }
            }
            #expect(several > 1_000)
        }

        /// As many columns as the input has, the last of them all padding.
        @Test("A kernel of one column steps into the padding on its right")
        func columnsBeyondTheInput() throws {
            let problem = pf_convolution2d(
                batch: 1, input_channels: 3, input_height: 3, input_width: 3, output_channels: 3, kernel_height: 3,
                kernel_width: 1, stride_height: 1, stride_width: 2, padding_top: 1, padding_bottom: 1, padding_left: 0,
                padding_right: 2, dilation_height: 1, dilation_width: 1, groups: 1)
            let input = (0..<27).map { Float($0) }, weight = [Float](repeating: 1, count: 27)
            let expected = (0..<27).map { position -> Float in
                let (y, x) = (position / 3 % 3, position % 3 * 2)
                guard x < 3 else { return 0 }
                return (max(0, y - 1)...min(2, y + 1)).reduce(0) { sum, row in
                    sum + (0..<3).reduce(0) { $0 + input[$1 * 9 + row * 3 + x] }
                }
            }
            for isa in supportedInstructionSets {
                var context = pf_context(threads: 1, numerics: pf_fast, isa: isa)
                var output = [Float](repeating: .nan, count: 27)
                let status = withUnsafePointer(to: problem) {
                    pf_convolution2d_forward(&context, $0, pf_activation_none, input, weight, nil, &output)
                }
                #expect(status == pf_ok)
                #expect(output == expected, "\(name(of: isa))")
            }
        }

        @Test("A NaN reaches every trainable element that depends on it")
        func propagation() throws {
            let problem = pf_convolution2d(channels: 2, height: 5, width: 6, outputs: 3, kernel: 3, padding: 1)
            var input = [Float](repeating: 1, count: 2 * 5 * 6)
            input[1 * 30 + 2 * 6 + 3] = .nan  // channel 1, row 2, column 3
            let weight = [Float](repeating: 1, count: 3 * 2 * 9)
            let gradient = [Float](repeating: 1, count: 3 * 5 * 6)
            for isa in supportedInstructionSets {
                var context = pf_context(threads: 1, numerics: pf_exact, isa: isa)
                var output = [Float](repeating: 0, count: gradient.count)
                var weightGradient = [Float](repeating: 0, count: weight.count)
                try withUnsafePointer(to: problem) { problem in
                    try #require(
                        pf_convolution2d_forward(&context, problem, pf_activation_none, input, weight, nil, &output)
                            == pf_ok)
                    try #require(
                        pf_convolution2d_weight_gradient(
                            &context, problem, input, gradient, nil, pf_overwrite, &weightGradient) == pf_ok)
                }
                for (position, value) in output.enumerated() {
                    let (row, column) = (position % 30 / 6, position % 6)
                    #expect(value.isNaN == ((1...3).contains(row) && (2...4).contains(column)), "\(name(of: isa))")
                }
                for (position, value) in weightGradient.enumerated() {
                    #expect(value.isNaN == (position % 18 >= 9), "\(name(of: isa)), weight \(position)")
                }
            }
        }
    }
}

extension pf_convolution2d {
    init(_ p: ref_convolution) {
        self.init(
            batch: p.batch, input_channels: p.input_channels, input_height: p.input_height, input_width: p.input_width,
            output_channels: p.output_channels, kernel_height: p.kernel_height, kernel_width: p.kernel_width,
            stride_height: p.stride_height, stride_width: p.stride_width, padding_top: p.padding_top,
            padding_bottom: p.padding_bottom, padding_left: p.padding_left, padding_right: p.padding_right,
            dilation_height: p.dilation_height, dilation_width: p.dilation_width, groups: p.groups)
    }

    /// A problem with square kernels and the same stride, padding and dilation on both axes.
    init(
        batch: Int64 = 1, channels: Int64, height: Int64, width: Int64, outputs: Int64, kernel: Int64,
        stride: Int64 = 1,
        padding: Int64 = 0, dilation: Int64 = 1, groups: Int64 = 1
    ) {
        self.init(
            batch: batch, input_channels: channels, input_height: height, input_width: width, output_channels: outputs,
            kernel_height: kernel, kernel_width: kernel, stride_height: stride, stride_width: stride,
            padding_top: padding, padding_bottom: padding, padding_left: padding, padding_right: padding,
            dilation_height: dilation, dilation_width: dilation, groups: groups)
    }
}
