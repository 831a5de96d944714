import CKernels
import CReference
import Testing

extension KernelTests {
    /// The bound on workspaces that CKernels.h states.
    @Suite("Workspace bound") struct WorkspaceBound {
        private static func bound(_ p: pf_convolution2d, threads: Int32) -> Double {
            func rounded(_ channels: Int64) -> Double { Double(p.groups * ((channels / p.groups + 31) / 32 * 32)) }
            let (inputs, outputs) = (rounded(p.input_channels), rounded(p.output_channels))
            let height = Double(p.input_height + p.padding_top + p.padding_bottom + 2)
            let width = Double(p.input_width + p.padding_left + p.padding_right + 2)
            let image = (inputs + outputs) * (height * width + 256)
            let weights = outputs * inputs / Double(p.groups) * Double(p.kernel_height * p.kernel_width)
            let perThread = 1.25 * 0x1p20 + 4 * image + 4 * weights
            let shared = 16 * image + 40 * weights + min(20 * Double(p.batch) * image, 0x1p24)
            return 4 * (Double(threads) * perThread + shared + Double(p.batch * p.output_channels))
        }

        /// How many workspaces were in order.
        private static func check(_ problem: pf_convolution2d, _ comment: Comment) -> Int {
            let passes = [pf_pass_forward, pf_pass_input_gradient, pf_pass_weight_gradient, pf_pass_backward]
            var problem = problem
            var count = 0
            for isa in supportedInstructionSets {
                for numerics in [pf_fast, pf_exact] {
                    for threads: Int32 in [1, 2, 37] {
                        var context = pf_context(threads: threads, numerics: numerics, isa: isa)
                        for pass in passes {
                            var bytes = 0
                            let status = pf_convolution2d_workspace(&context, &problem, pass, &bytes)
                            guard status == pf_ok else { continue }
                            count += 1
                            #expect(Double(bytes) <= bound(problem, threads: threads), comment)
                        }
                    }
                }
            }
            return count
        }

        @Test("holds for random problems")
        func randomProblems() {
            for index: Int64 in 0..<1000 {
                let problem = pf_convolution2d(ref_random_convolution(2026, index))
                #expect(Self.check(problem, "problem \(index)") == 24 * supportedInstructionSets.count)
            }
        }

        /// Extents over orders of magnitude, each by itself: images that are all padding, strides over everything.
        @Test("holds for shapes that no network has")
        func extremes() {
            var state: UInt64 = 1
            func between(_ low: Int64, _ high: Int64) -> Int64 {
                state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                return low + Int64(state >> 33) % (high - low + 1)
            }
            func extent(_ most: Int64) -> Int64 { between(1, 1 << between(0, 63 - Int64(most.leadingZeroBitCount))) }
            func rarely(_ most: Int64) -> Int64 { between(0, 1) == 0 ? 1 : extent(most) }
            var checked = 0
            for index in 0..<3000 {
                let groups = rarely(256)
                let problem = pf_convolution2d(
                    batch: extent(256), input_channels: groups * extent(512), input_height: extent(512),
                    input_width: extent(16384), output_channels: groups * extent(512), kernel_height: extent(128),
                    kernel_width: extent(128), stride_height: rarely(256), stride_width: rarely(256),
                    padding_top: extent(256) - 1, padding_bottom: extent(256) - 1, padding_left: extent(256) - 1,
                    padding_right: extent(256) - 1, dilation_height: rarely(256), dilation_width: rarely(256),
                    groups: groups)
                checked += Self.check(problem, "problem \(index): \(problem)")
            }
            #expect(checked > 20_000)
        }

        @Test("holds for networks' layers")
        func layers() {
            let planes: [(Int64, Int64)] = [(3, 224), (64, 56), (128, 28), (256, 14), (512, 7), (1024, 14)]
            for (channels, extent) in planes {
                let kernels: [(Int64, Int64, Int64)] = [(1, 1, 1), (3, 1, 1), (3, 2, 1), (7, 2, 1), (3, 1, channels)]
                for (kernel, stride, groups) in kernels {
                    for batch: Int64 in [1, 8, 128] {
                        let problem = pf_convolution2d(
                            batch: batch, channels: channels, height: extent, width: extent, outputs: 2 * channels,
                            kernel: kernel, stride: stride, padding: kernel / 2, groups: groups)
                        #expect(Self.check(problem, "\(problem)") == 24 * supportedInstructionSets.count)
                    }
                }
            }
        }
    }
}
