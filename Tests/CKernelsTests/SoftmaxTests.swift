import CKernels
import Foundation
import Testing

extension KernelTests {
    @Suite("Softmax and cross-entropy") struct Softmax {
        struct Shape: Sendable, CustomTestStringConvertible {
            var rows, columns: Int
            var testDescription: String { "\(rows) x \(columns)" }
        }

        static let shapes = [
            Shape(rows: 1, columns: 1), Shape(rows: 5, columns: 10), Shape(rows: 3, columns: 1000),
            Shape(rows: 97, columns: 513),
            Shape(rows: 2, columns: 20_011),
        ]

        /// Rows around 0, 1000 and -1000, the spread of a row up to 24.
        static func logits(_ shape: Shape, using generator: inout SeededGenerator) -> [Float] {
            var x = generator.fractions(shape.rows * shape.columns, in: -12...12)
            for i in x.indices { x[i] += [0, 1000, -1000][i / shape.columns % 3] }
            return x
        }

        /// A row in double precision.
        struct Row {
            var probabilities: [Double]
            var logarithms: [Double]
            var logNormalizer: Double
            var spread: Double  // from the largest logit to the smallest

            init(_ x: ArraySlice<Float>) {
                let maximum = Double(x.max()!)
                let logSum = log(x.reduce(0) { $0 + exp(Double($1) - maximum) })
                logNormalizer = maximum + logSum
                logarithms = x.map { Double($0) - maximum - logSum }
                probabilities = logarithms.map { exp($0) }
                spread = maximum - Double(x.min()!)
            }
        }

        static func rows(_ x: [Float], _ shape: Shape) -> [Row] {
            (0..<shape.rows).map { Row(x[$0 * shape.columns..<($0 + 1) * shape.columns]) }
        }

        // An exponential e^(x - maximum) is off by the rounding of the difference, at most `spread` roundings, and by
        // the function's 1.01 ulp, at most 2.02 roundings: spread + 2.02, relative. So is a sum of them. 1 % covers
        // products of roundings.

        @Test("Softmax and its logarithm lie within the roundings of their formulas", arguments: shapes)
        func forward(_ shape: Shape) {
            var generator = SeededGenerator(seed: 1)
            let x = Self.logits(shape, using: &generator)
            let rows = Self.rows(x, shape)
            for logarithm in [false, true] {
                let expected = rows.flatMap { logarithm ? $0.logarithms : $0.probabilities }
                onEveryInstructionSet(shape.testDescription) { context in
                    var result = x
                    let status = result.withUnsafeMutableBufferPointer {  // in place
                        pf_softmax(
                            context, Int64(shape.rows), Int64(shape.columns), logarithm, $0.baseAddress, $0.baseAddress)
                    }
                    #expect(status == pf_ok)
                    var apart = [Float](repeating: -77, count: x.count)
                    pf_softmax(context, Int64(shape.rows), Int64(shape.columns), logarithm, x, &apart)
                    expectSameBits(apart, result, "not in place")
                    return [result]
                } check: { _, results in
                    expectWithin(
                        results[0], expected,
                        bound: { i in
                            let row = rows[i / shape.columns]
                            let exponential = row.spread + 2.02
                            // Difference; sum, its logarithm's rounding; difference. Or: exponential, sum, its
                            // rounding, division.
                            return 1.01 * roundoff
                                * (logarithm
                                    ? row.spread + exponential + 2 * abs(expected[i]) + log(Double(shape.columns))
                                    : (2 * exponential + 2) * expected[i])
                        }, "\(shape.testDescription), logarithm \(logarithm)")
                }
            }
        }

        @Test("Gradients lie within the roundings of their formulas", arguments: shapes)
        func backward(_ shape: Shape) {
            var generator = SeededGenerator(seed: 2)
            let rows = Self.rows(Self.logits(shape, using: &generator), shape)
            let gradient = generator.fractions(shape.rows * shape.columns)
            for logarithm in [false, true] {
                let result = rows.flatMap { (logarithm ? $0.logarithms : $0.probabilities).map { Float($0) } }
                var expected = [Double]()
                var bounds = [Double]()
                for row in 0..<shape.rows {
                    let range = row * shape.columns..<(row + 1) * shape.columns
                    let sum = range.reduce(0) { $0 + Double(gradient[$1]) * (logarithm ? 1 : Double(result[$1])) }
                    for i in range {
                        let g = Double(gradient[i])
                        let y = Double(result[i])
                        if logarithm {
                            // Exponential (2.02), sum, product; difference.
                            let product = exp(y) * sum
                            expected.append(g - product)
                            bounds.append(4.02 * abs(product) + abs(g - product))
                        } else {
                            // Sum; difference, product.
                            expected.append((g - sum) * y)
                            bounds.append((abs(sum) + 2 * abs(g - sum)) * y)
                        }
                    }
                }
                onEveryInstructionSet(shape.testDescription) { context in
                    var xGradient = [Float](repeating: -77, count: result.count)
                    let status = pf_softmax_backward(
                        context, Int64(shape.rows), Int64(shape.columns), logarithm, result, gradient, &xGradient)
                    #expect(status == pf_ok)
                    return [xGradient]
                } check: { _, results in
                    expectWithin(
                        results[0], expected, bound: { 1.01 * roundoff * bounds[$0] + 1e-12 },
                        "\(shape.testDescription), logarithm \(logarithm)")
                }
            }
        }

        @Test("Cross-entropy and its gradient lie within the roundings of their formulas", arguments: shapes)
        func crossEntropy(_ shape: Shape) {
            var generator = SeededGenerator(seed: 3)
            let x = Self.logits(shape, using: &generator)
            let rows = Self.rows(x, shape)
            let targets = (0..<shape.rows).map { _ in Int32.random(in: 0..<Int32(shape.columns), using: &generator) }
            let lossGradient = generator.fractions(shape.rows)
            for smoothing in [0, 0.125, 1] as [Float] {
                let elsewhere = Double(smoothing) / Double(shape.columns)
                let at = 1 - Double(smoothing) + elsewhere
                func target(_ i: Int) -> Double {
                    i % shape.columns == Int(targets[i / shape.columns]) ? at : elsewhere
                }
                let loss = (0..<shape.rows).map { row in
                    -rows[row].logarithms.indices.reduce(0) {
                        $0 + target(row * shape.columns + $1) * rows[row].logarithms[$1]
                    }
                }
                let gradient = x.indices.map { i in
                    Double(lossGradient[i / shape.columns])
                        * (rows[i / shape.columns].probabilities[i % shape.columns] - target(i))
                }
                onEveryInstructionSet(shape.testDescription) { context in
                    var result = [Float](repeating: -77, count: shape.rows)
                    var normalizer = result
                    var xGradient = [Float](repeating: -77, count: x.count)
                    #expect(
                        pf_cross_entropy_forward(
                            context, Int64(shape.rows), Int64(shape.columns), smoothing, x, targets, &result,
                            &normalizer)
                            == pf_ok)
                    #expect(
                        pf_cross_entropy_backward(
                            context, Int64(shape.rows), Int64(shape.columns), smoothing, x, targets, normalizer,
                            lossGradient,
                            &xGradient) == pf_ok)
                    return [result, normalizer, xGradient]
                } check: { _, results in
                    // The sum of exponentials; all else is double.
                    expectWithin(
                        results[0], loss,
                        bound: { 1.01 * roundoff * (rows[$0].spread + 2.02 + abs(loss[$0])) + 1e-9 }, "loss")
                    expectWithin(
                        results[1], rows.map(\.logNormalizer),
                        bound: { 1.01 * roundoff * (rows[$0].spread + 2.02 + abs(rows[$0].logNormalizer)) + 1e-9 },
                        "normalizer")
                    // The exponential of x - normalizer over the sum of its like: the normalizer's own rounding
                    // cancels.
                    expectWithin(
                        results[2], gradient,
                        bound: { i in
                            let row = rows[i / shape.columns]
                            let p = row.probabilities[i % shape.columns]
                            let q = target(i)
                            let exponential = row.spread + log(Double(shape.columns)) + 3.02
                            return 1.01 * roundoff * abs(Double(lossGradient[i / shape.columns]))
                                * ((2 * exponential + 2) * p + q + 2 * abs(p - q))
                        }, "gradient")
                }
            }
        }

        @Test("Infinite and missing logits give what the formulas give")
        func special() {
            onEveryInstructionSet("special") { context in
                var result = [Float](repeating: -77, count: 3)
                var normalizer: Float = 0
                var loss: Float = 0
                pf_softmax(context, 1, 3, false, [0, -.infinity, 0], &result)
                #expect(result == [0.5, 0, 0.5])
                pf_softmax(context, 1, 3, false, [0, .nan, 0], &result)
                #expect(result.allSatisfy { $0.isNaN })
                pf_softmax(context, 1, 3, true, [0, -.infinity, -.infinity], &result)
                #expect(result == [0, -.infinity, -.infinity])
                pf_cross_entropy_forward(context, 1, 3, 0, [0, -.infinity, 0], [1], &loss, &normalizer)
                #expect(loss == .infinity)
                // Without smoothing a class that is ruled out costs nothing.
                pf_cross_entropy_forward(context, 1, 3, 0, [0, -.infinity, 0], [0], &loss, &normalizer)
                #expect(abs(loss - log(2)) < 1e-6)
                return []
            } check: { _, _ in
            }
        }

        @Test("Bad arguments are refused")
        func refusals() {
            let x = [Float](repeating: 1, count: 64)
            var stored = x
            expectRefused(pf_error_dimension, "no columns") { pf_softmax(nil, 2, 0, false, x, $0) }
            expectRefused(pf_error_dimension, "negative rows") { pf_softmax(nil, -1, 4, false, x, $0) }
            expectRefused(pf_error_overflow, "huge") { pf_softmax(nil, 1 << 40, 1 << 40, false, x, $0) }
            expectRefused(pf_error_null, "no input") { pf_softmax(nil, 2, 4, false, nil, $0) }
            expectRefused(pf_error_null, "no gradient") { pf_softmax_backward(nil, 2, 4, false, x, nil, $0) }
            #expect(pf_softmax(nil, 0, 4, false, nil, nil) == pf_ok)
            for target in [-1, 4, .max, .min] as [Int32] {
                expectRefused(pf_error_value, "target \(target)") {
                    pf_cross_entropy_forward(nil, 3, 4, 0, x, [0, target, 0], $0, &stored)
                }
                expectRefused(pf_error_value, "target \(target)") {
                    pf_cross_entropy_backward(nil, 3, 4, 0, x, [0, target, 0], x, x, $0)
                }
            }
            for smoothing in [-0.1, 1.1, .nan] as [Float] {
                expectRefused(pf_error_value, "smoothing \(smoothing)") {
                    pf_cross_entropy_forward(nil, 1, 4, smoothing, x, [0], $0, &stored)
                }
            }
            expectRefused(pf_error_null, "no targets") { pf_cross_entropy_forward(nil, 1, 4, 0, x, nil, $0, &stored) }
            expectRefused(pf_error_null, "no place for the normalizer") {
                pf_cross_entropy_forward(nil, 1, 4, 0, x, [0], $0, nil)
            }
            expectRefused(pf_error_null, "no normalizer") {
                pf_cross_entropy_backward(nil, 1, 4, 0, x, [0], nil, x, $0)
            }
            #expect(stored == x)
        }
    }
}
