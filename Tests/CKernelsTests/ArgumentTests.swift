import CKernels
import Testing

extension KernelTests {
    @Suite("Arguments") struct Arguments {
        typealias Field = WritableKeyPath<pf_convolution2d, Int64> & Sendable

        static let positive: [Field] = [
            \.input_channels, \.input_height, \.input_width, \.output_channels, \.kernel_height, \.kernel_width,
            \.stride_height, \.stride_width, \.dilation_height, \.dilation_width, \.groups,
        ]
        static let notNegative: [Field] = [
            \.batch, \.padding_top, \.padding_bottom, \.padding_left, \.padding_right,
        ]
        static let valid = pf_convolution2d(
            batch: 2, channels: 4, height: 6, width: 5, outputs: 6, kernel: 3, stride: 2, padding: 1, dilation: 1,
            groups: 2)

        func spoiled(_ changes: (Field, Int64)...) -> pf_convolution2d {
            var problem = Self.valid
            for (field, value) in changes { problem[keyPath: field] = value }
            return problem
        }

        @Test("The problem that the others spoil is in order")
        func inOrder() {
            expectConvolutionStatus(pf_ok, Self.valid)
            expectConvolutionStatus(pf_ok, spoiled((\.batch, 0)))
        }

        @Test("A field that is zero or negative where it must not be is refused")
        func outOfRange() {
            for field in Self.positive {
                for value in [0, -1, Int64.min] {
                    expectConvolutionStatus(pf_error_dimension, spoiled((field, value)), "\(field) = \(value)")
                }
            }
            for field in Self.notNegative {
                for value in [-1, Int64.min] {
                    expectConvolutionStatus(pf_error_dimension, spoiled((field, value)), "\(field) = \(value)")
                }
            }
        }

        @Test("Groups must divide both channel counts")
        func groups() {
            expectConvolutionStatus(pf_error_dimension, spoiled((\.groups, 3)))
            expectConvolutionStatus(pf_error_dimension, spoiled((\.groups, 4)))
            expectConvolutionStatus(pf_error_dimension, spoiled((\.groups, 5)))
            expectConvolutionStatus(pf_error_dimension, spoiled((\.groups, .max)))
        }

        @Test("A kernel that doesn't fit into the padded image is refused")
        func noOutput() {
            expectConvolutionStatus(pf_error_dimension, spoiled((\.kernel_height, 9)))
            expectConvolutionStatus(pf_error_dimension, spoiled((\.kernel_width, 8)))
            expectConvolutionStatus(pf_error_dimension, spoiled((\.dilation_height, 4)))
            expectConvolutionStatus(pf_error_dimension, spoiled((\.dilation_width, .max / 2)))
            expectConvolutionStatus(pf_ok, spoiled((\.kernel_height, 8), (\.kernel_width, 7)))
        }

        @Test("A stride beyond the image gives one output, whatever its size")
        func hugeStride() {
            expectConvolutionStatus(pf_ok, spoiled((\.stride_height, .max), (\.stride_width, .max)))
        }

        @Test("Sizes whose products can't be addressed are refused")
        func overflow() {
            for field in [\.batch, \.input_height, \.input_width, \.padding_top, \.padding_right] as [Field] {
                for value in [Int64.max, Int64.max - 1, 1 << 62] {
                    expectConvolutionStatus(pf_error_overflow, spoiled((field, value)), "\(field) = \(value)")
                }
            }
            // Even numbers, so that groups divide them.
            expectConvolutionStatus(pf_error_overflow, spoiled((\.input_channels, 1 << 62)))
            expectConvolutionStatus(pf_error_overflow, spoiled((\.output_channels, .max - 1)))
            // Each tensor fits into memory, in theory; the bytes of one don't.
            expectConvolutionStatus(pf_error_overflow, spoiled((\.batch, 1 << 55)))
            // The tensors fit; their multiplications don't.
            expectConvolutionStatus(
                pf_error_overflow,
                spoiled((\.batch, 1 << 30), (\.input_channels, 1 << 20), (\.output_channels, 1 << 20), (\.groups, 1)))
        }

        @Test("The output size is exact, and untouched by a refusal")
        func outputSize() {
            var (height, width): (Int64, Int64) = (-1, -1)
            var problem = spoiled((\.padding_top, 3), (\.padding_bottom, 0), (\.padding_right, 4))
            #expect(pf_convolution2d_output_size(&problem, &height, &width) == pf_ok)
            #expect(height == 4)  // floor((6 + 3 + 0 - 3) / 2) + 1
            #expect(width == 4)  // floor((5 + 1 + 4 - 3) / 2) + 1
            problem.groups = 0
            #expect(pf_convolution2d_output_size(&problem, &height, &width) == pf_error_dimension)
            #expect(height == 4 && width == 4)
            #expect(pf_convolution2d_output_size(nil, &height, &width) == pf_error_null)
            problem.groups = 1
            #expect(pf_convolution2d_output_size(&problem, nil, &width) == pf_error_null)
            #expect(pf_convolution2d_output_size(&problem, &height, nil) == pf_error_null)
        }

        @Test("A missing pointer is refused; a missing bias or mask is not")
        func nullPointers() {
            let o = ConvolutionOperands(Self.valid)
            let refusals = [
                o.call { pf_convolution2d_forward(nil, nil, pf_activation_none, o.input, o.weight, nil, $1) },
                o.call { pf_convolution2d_forward(nil, $0, pf_activation_none, nil, o.weight, nil, $1) },
                o.call { pf_convolution2d_forward(nil, $0, pf_activation_none, o.input, nil, nil, $1) },
                o.call { problem, _ in
                    pf_convolution2d_forward(nil, problem, pf_activation_none, o.input, o.weight, nil, nil)
                },
                o.call { pf_convolution2d_input_gradient(nil, nil, o.outputGradient, o.weight, pf_overwrite, $1) },
                o.call { pf_convolution2d_input_gradient(nil, $0, nil, o.weight, pf_overwrite, $1) },
                o.call { pf_convolution2d_input_gradient(nil, $0, o.outputGradient, nil, pf_overwrite, $1) },
                o.call { problem, _ in
                    pf_convolution2d_input_gradient(nil, problem, o.outputGradient, o.weight, pf_overwrite, nil)
                },
                o.call { pf_convolution2d_weight_gradient(nil, nil, o.input, o.outputGradient, nil, pf_overwrite, $1) },
                o.call { pf_convolution2d_weight_gradient(nil, $0, nil, o.outputGradient, nil, pf_overwrite, $1) },
                o.call { pf_convolution2d_weight_gradient(nil, $0, o.input, nil, nil, pf_overwrite, $1) },
                o.call { problem, _ in
                    pf_convolution2d_weight_gradient(nil, problem, o.input, o.outputGradient, nil, pf_overwrite, nil)
                },
                o.call { pf_convolution2d_bias_gradient(nil, nil, o.outputGradient, nil, pf_overwrite, $1) },
                o.call { pf_convolution2d_bias_gradient(nil, $0, nil, nil, pf_overwrite, $1) },
                o.call { problem, _ in
                    pf_convolution2d_bias_gradient(nil, problem, o.outputGradient, nil, pf_overwrite, nil)
                },
            ]
            for (index, status) in refusals.enumerated() { #expect(status == pf_error_null, "call \(index)") }
            #expect(
                o.call { pf_convolution2d_forward(nil, $0, pf_activation_relu, o.input, o.weight, nil, $1) } == pf_ok)
            #expect(
                o.call { pf_convolution2d_weight_gradient(nil, $0, o.input, o.outputGradient, nil, pf_accumulate, $1) }
                    == pf_ok)
            var problem = Self.valid
            var bytes = 0
            #expect(pf_convolution2d_workspace(nil, nil, pf_pass_forward, &bytes) == pf_error_null)
            #expect(pf_convolution2d_workspace(nil, &problem, pf_pass_forward, nil) == pf_error_null)
            #expect(
                pf_convolution2d_workspace(nil, &problem, pf_convolution_pass(rawValue: 4), &bytes) == pf_error_value)
        }

        @Test("The planner's answers need a problem, one of three passes, and room for them")
        func planner() {
            var problem = Self.valid, name: UnsafePointer<CChar>?, count: Int32 = 0
            var estimates = [pf_algorithm_estimate](repeating: pf_algorithm_estimate(), count: Int(pf_most_algorithms))
            let forward = pf_pass_forward, backward = pf_pass_backward
            #expect(pf_convolution2d_algorithm(nil, &problem, forward, &name) == pf_ok)
            #expect(pf_convolution2d_algorithm(nil, nil, forward, &name) == pf_error_null)
            #expect(pf_convolution2d_algorithm(nil, &problem, forward, nil) == pf_error_null)
            #expect(pf_convolution2d_algorithm(nil, &problem, backward, &name) == pf_error_value)
            #expect(pf_convolution2d_estimates(nil, &problem, forward, &estimates, &count) == pf_ok)
            #expect(pf_convolution2d_estimates(nil, nil, forward, &estimates, &count) == pf_error_null)
            #expect(pf_convolution2d_estimates(nil, &problem, forward, nil, &count) == pf_error_null)
            #expect(pf_convolution2d_estimates(nil, &problem, forward, &estimates, nil) == pf_error_null)
            #expect(pf_convolution2d_estimates(nil, &problem, backward, &estimates, &count) == pf_error_value)
        }

        @Test("An activation that is none is refused")
        func activation() {
            let o = ConvolutionOperands(Self.valid)
            for raw: Int32 in [-1, 3] {
                let activation = pf_activation(rawValue: raw)
                #expect(
                    o.call { pf_convolution2d_forward(nil, $0, activation, o.input, o.weight, nil, $1) }
                        == pf_error_value)
            }
        }

        @Test("What a backward call doesn't want needs no pointers")
        func unwantedGradients() {
            let o = ConvolutionOperands(Self.valid)
            func call(
                _ input: [Float]?, _ weight: [Float]?, _ outputGradient: [Float]?, _ result: Int
            ) -> pf_status {
                o.call { problem, output in
                    pf_convolution2d_backward(
                        nil, problem, input, weight, outputGradient, nil, nil, pf_overwrite, pf_overwrite,
                        result == 0 ? output : nil, result == 1 ? output : nil, result == 2 ? output : nil)
                }
            }
            #expect(call(nil, nil, nil, 3) == pf_ok)
            #expect(call(nil, o.weight, o.outputGradient, 0) == pf_ok)
            #expect(call(o.input, nil, o.outputGradient, 1) == pf_ok)
            #expect(call(nil, nil, o.outputGradient, 2) == pf_ok)
            #expect(call(nil, nil, o.outputGradient, 0) == pf_error_null)
            #expect(call(nil, o.weight, o.outputGradient, 1) == pf_error_null)
            for result in 0..<3 { #expect(call(o.input, o.weight, nil, result) == pf_error_null) }
        }

        @Test("Empty batches need no pointers to what is empty")
        func emptyBatch() {
            var problem = Self.valid
            problem.batch = 0
            let weights = 6 * 2 * 3 * 3
            let weight = [Float](repeating: 1, count: weights)
            var gradient = [Float](repeating: .nan, count: weights)
            #expect(pf_convolution2d_forward(nil, &problem, pf_activation_none, nil, weight, nil, nil) == pf_ok)
            #expect(pf_convolution2d_input_gradient(nil, &problem, nil, weight, pf_overwrite, nil) == pf_ok)
            #expect(pf_convolution2d_weight_gradient(nil, &problem, nil, nil, nil, pf_overwrite, nil) == pf_error_null)
            #expect(pf_convolution2d_weight_gradient(nil, &problem, nil, nil, nil, pf_overwrite, &gradient) == pf_ok)
            #expect(gradient.allSatisfy { $0.bitPattern == 0 })
            #expect(pf_convolution2d_bias_gradient(nil, &problem, nil, nil, pf_overwrite, nil) == pf_error_null)
            gradient[0] = 7
            #expect(pf_convolution2d_bias_gradient(nil, &problem, nil, nil, pf_accumulate, &gradient) == pf_ok)
            #expect(gradient[0] == 7)
        }

        @Test("A writing mode that isn't one is refused")
        func writingMode() {
            for raw: Int32 in [-1, 2] {
                let statuses = ConvolutionOperands(Self.valid).callAll(
                    context: pf_context(), writing: pf_writing(rawValue: raw))
                #expect(statuses == [pf_ok] + Array(repeating: pf_error_value, count: 4))
            }
        }

        // MARK: Matrix product

        @Test("A product's extents and strides are checked")
        func productExtents() {
            let valid = pf_matrix_product(rows: 2, columns: 3, inner: 4)
            expectProductStatus(pf_ok, valid)
            expectProductStatus(pf_ok, pf_matrix_product(rows: 0, columns: 3, inner: 4))
            expectProductStatus(pf_ok, pf_matrix_product(rows: 2, columns: 3, inner: 0))
            typealias Field = WritableKeyPath<pf_matrix_product, Int64>
            let wrong: [(Field, Int64, pf_status)] = [
                (\.rows, -1, pf_error_dimension), (\.columns, 0, pf_error_dimension),
                (\.columns, -1, pf_error_dimension), (\.inner, -1, pf_error_dimension),
                (\.rows, .min, pf_error_dimension), (\.inner, .min, pf_error_dimension),
                (\.stride_a, 3, pf_error_dimension), (\.stride_b, 2, pf_error_dimension),
                (\.stride_result, 2, pf_error_dimension), (\.stride_a, .min, pf_error_dimension),
                (\.stride_a, .max, pf_error_overflow), (\.stride_b, .max, pf_error_overflow),
                (\.stride_result, .max, pf_error_overflow), (\.rows, .max, pf_error_overflow),
            ]
            for (field, value, status) in wrong {
                var product = valid
                product[keyPath: field] = value
                expectProductStatus(status, product, "\(field) = \(value)")
            }
        }

        @Test("A product's missing pointers and senseless modes are refused")
        func productPointers() {
            var product = pf_matrix_product(rows: 2, columns: 3, inner: 4)
            let a = [Float](repeating: 1, count: 8)
            let b = [Float](repeating: 1, count: 12)
            let bias = [Float](repeating: 1, count: 3)
            var result = [Float](repeating: -1, count: 6)
            #expect(pf_matrix_multiply(nil, nil, a, b, nil, nil, pf_overwrite, &result) == pf_error_null)
            #expect(pf_matrix_multiply(nil, &product, nil, b, nil, nil, pf_overwrite, &result) == pf_error_null)
            #expect(pf_matrix_multiply(nil, &product, a, nil, nil, nil, pf_overwrite, &result) == pf_error_null)
            #expect(pf_matrix_multiply(nil, &product, a, b, nil, nil, pf_overwrite, nil) == pf_error_null)
            #expect(pf_matrix_multiply(nil, &product, a, b, bias, nil, pf_accumulate, &result) == pf_error_value)
            #expect(
                pf_matrix_multiply(nil, &product, a, b, nil, nil, pf_writing(rawValue: 2), &result) == pf_error_value)
            #expect(result.allSatisfy { $0 == -1 })
            #expect(pf_matrix_multiply(nil, &product, a, b, bias, nil, pf_overwrite, &result) == pf_ok)
            #expect(result.allSatisfy { $0 == 5 })
        }
    }
}

extension pf_matrix_product {
    /// A dense, untransposed product.
    init(rows: Int64, columns: Int64, inner: Int64) {
        self.init(
            rows: rows, columns: columns, inner: inner, transpose_a: false, transpose_b: false, stride_a: inner,
            stride_b: columns, stride_result: columns)
    }
}

/// Expects a product of at most 64 elements an operand to report `status`, and to leave its result alone in a refusal.
func expectProductStatus(
    _ status: pf_status, _ product: pf_matrix_product,
    context: pf_context = pf_context(threads: 1, numerics: pf_exact, isa: pf_isa_auto), _ comment: Comment? = nil,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    var (context, product) = (context, product)
    let ones = [Float](repeating: 1, count: 64)
    var result = [Float](repeating: -1, count: 64)
    let actual = pf_matrix_multiply(&context, &product, ones, ones, nil, nil, pf_overwrite, &result)
    #expect(actual == status, comment, sourceLocation: sourceLocation)
    if actual != pf_ok { #expect(result.allSatisfy { $0 == -1 }, comment, sourceLocation: sourceLocation) }
}
