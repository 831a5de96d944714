import CKernels
import Testing

extension KernelTests {
    @Suite("Reductions") struct Reductions {
        struct Shape: Sendable, CustomTestStringConvertible {
            var outer, middle, inner: Int
            var testDescription: String { "\(outer) x \(middle) x \(inner)" }
            var count: Int { outer * middle * inner }
        }

        /// Single and several chunks and tiles, along either axis.
        static let shapes = [
            Shape(outer: 1, middle: 1, inner: 1), Shape(outer: 3, middle: 7, inner: 1),
            Shape(outer: 1, middle: 300_001, inner: 1), Shape(outer: 3, middle: 40_000, inner: 1),
            Shape(outer: 5, middle: 3, inner: 2), Shape(outer: 2, middle: 5000, inner: 10),
            Shape(outer: 2, middle: 33, inner: 1000), Shape(outer: 1, middle: 40_000, inner: 3),
            Shape(outer: 600, middle: 50, inner: 1), Shape(outer: 1, middle: 3, inner: 60_000),
        ]

        @Test("Sums of integers are exact, masked elements +0, in both modes", arguments: shapes)
        func integers(_ shape: Shape) {
            var generator = SeededGenerator(seed: 1)
            var x = generator.integers(shape.count, in: -9...9)
            let outputs = shape.outer * shape.inner
            var before = generator.integers(outputs, in: -9...9)
            var mask = generator.mask(outputs)
            // The first output is frozen and meets a NaN, from its input and from what was there.
            mask[0] = 0
            x[0] = .nan
            before[0] = .nan
            for (mask, writing) in [(mask, pf_overwrite), (mask, pf_accumulate)] {
                var sums = writing == pf_accumulate ? before : [Float](repeating: 0, count: outputs)
                for o in 0..<shape.outer {
                    for m in 0..<shape.middle {
                        for i in 0..<shape.inner {
                            sums[o * shape.inner + i] += x[(o * shape.middle + m) * shape.inner + i]
                        }
                    }
                }
                for i in 0..<outputs where mask[i] == 0 { sums[i] = 0 }
                onEveryInstructionSet(shape.testDescription) { context in
                    var result = before
                    #expect(
                        pf_reduce(
                            context, pf_sum, Int64(shape.outer), Int64(shape.middle), Int64(shape.inner), x, mask,
                            writing,
                            &result) == pf_ok)
                    return [result]
                } check: { _, results in
                    expectEqual(results[0], sums, shape.testDescription)
                    #expect(results[0][0].bitPattern == 0)
                }
            }
        }

        @Test("Sums of fractions are those of double precision, rounded once", arguments: shapes)
        func fractions(_ shape: Shape) {
            var generator = SeededGenerator(seed: 2)
            let x = generator.fractions(shape.count)
            let outputs = shape.outer * shape.inner
            var sums = [Double](repeating: 0, count: outputs)
            var magnitudes = sums
            for o in 0..<shape.outer {
                for m in 0..<shape.middle {
                    for i in 0..<shape.inner {
                        let value = Double(x[(o * shape.middle + m) * shape.inner + i])
                        sums[o * shape.inner + i] += value
                        magnitudes[o * shape.inner + i] += abs(value)
                    }
                }
            }
            // One rounding to float; the kernel's and this sum in double each lose at most 2^-53 of the magnitudes
            // a term.
            let terms = Double(shape.middle)
            onEveryInstructionSet(shape.testDescription) { context in
                var result = [Float](repeating: -77, count: outputs)
                pf_reduce(
                    context, pf_sum, Int64(shape.outer), Int64(shape.middle), Int64(shape.inner), x, nil, pf_overwrite,
                    &result)
                return [result]
            } check: { _, results in
                expectWithin(
                    results[0], sums, bound: { roundoff * abs(sums[$0]) + 2 * terms * 0x1p-53 * magnitudes[$0] },
                    shape.testDescription)
            }
        }

        @Test("Maxima and minima, which a NaN wins", arguments: shapes)
        func extrema(_ shape: Shape) {
            var generator = SeededGenerator(seed: 3)
            for reduction in [pf_max, pf_min] {
                var x = generator.fractions(shape.count)
                x[shape.count / 2] = .nan
                x[shape.count - 1] = reduction == pf_max ? -.infinity : .infinity
                var expected = [Float](
                    repeating: reduction == pf_max ? -.infinity : .infinity, count: shape.outer * shape.inner)
                for o in 0..<shape.outer {
                    for m in 0..<shape.middle {
                        for i in 0..<shape.inner {
                            let value = x[(o * shape.middle + m) * shape.inner + i]
                            let best = expected[o * shape.inner + i]
                            if value.isNaN || (reduction == pf_max ? value > best : value < best) {
                                expected[o * shape.inner + i] = value
                            }
                        }
                    }
                }
                onEveryInstructionSet(shape.testDescription) { context in
                    var result = [Float](repeating: -77, count: expected.count)
                    pf_reduce(
                        context, reduction, Int64(shape.outer), Int64(shape.middle), Int64(shape.inner), x, nil,
                        pf_overwrite, &result)
                    return [result]
                } check: { _, results in
                    expectEqual(results[0], expected, shape.testDescription)
                }
            }
        }

        @Test("The sum over nothing is 0")
        func empty() {
            var result: [Float] = [5, 5, 5]
            #expect(pf_reduce(nil, pf_sum, 1, 0, 3, nil, [1, 0, 1], pf_accumulate, &result) == pf_ok)
            #expect(result == [5, 0, 5])
            #expect(pf_reduce(nil, pf_sum, 1, 0, 3, nil, nil, pf_overwrite, &result) == pf_ok)
            #expect(result == [0, 0, 0])
            #expect(pf_reduce(nil, pf_max, 0, 4, 3, nil, nil, pf_overwrite, nil) == pf_ok)
            expectRefused(pf_error_dimension, "maximum of nothing") {
                pf_reduce(nil, pf_max, 1, 0, 3, result, nil, pf_overwrite, $0)
            }
        }

        @Test("argmax gives the first of equals and the first NaN", arguments: [1, 2, 7, 16, 17, 40, 5000])
        func argmax(columns: Int) {
            var generator = SeededGenerator(seed: UInt64(columns))
            let rows = 40
            var x = generator.integers(rows * columns, in: -3...3)
            x[columns - 1] = .nan
            x[columns / 2] = .nan
            for column in 0..<columns { x[columns + column * (rows > 1 ? 1 : 0)] = -.infinity }
            let expected = (0..<rows).map { row -> Float in
                let values = x[row * columns..<(row + 1) * columns]
                let best = values.contains { $0.isNaN } ? Float.nan : values.max()!
                return Float(values.firstIndex { best.isNaN ? $0.isNaN : $0 == best }! - row * columns)
            }
            onEveryInstructionSet("\(columns) columns") { context in
                var result = [Int32](repeating: -77, count: rows)
                #expect(pf_argmax(context, Int64(rows), Int64(columns), x, &result) == pf_ok)
                return [result.map(Float.init)]
            } check: { _, results in
                expectEqual(results[0], expected, "\(columns) columns")
            }
        }

        @Test("The sum of squares counts trainable elements alone", arguments: [0, 1, 15, 16, 17, 100_003])
        func squares(count: Int) {
            var generator = SeededGenerator(seed: UInt64(count))
            let finite = generator.integers(count, in: -9...9)
            let mask = generator.mask(count)
            let poisoned = zip(finite, mask).map { $1 == 0 ? Float.nan : $0 }
            let all = finite.reduce(0) { $0 + Double($1 * $1) }
            let trainable = zip(finite, mask).reduce(0) { $0 + ($1.1 == 0 ? 0 : Double($1.0 * $1.0)) }
            for isa in supportedInstructionSets {
                for threads: Int32 in [1, 2, 3] {
                    var context = pf_context(threads: threads, numerics: pf_fast, isa: isa)
                    var result = -77.0
                    #expect(pf_sum_of_squares(&context, Int64(count), poisoned, mask, &result) == pf_ok)
                    #expect(result == trainable)
                    #expect(pf_sum_of_squares(&context, Int64(count), finite, nil, &result) == pf_ok)
                    #expect(result == all)
                }
            }
        }

        @Test("The sum of squares has the same bits at every thread count, and doesn't overflow")
        func squaresOfFractions() {
            var generator = SeededGenerator(seed: 9)
            let x = generator.fractions(200_000, in: -1e30...1e30)
            let sums = [1, 2, 3].map { (threads: Int32) -> UInt64 in
                var context = pf_context(threads: threads, numerics: pf_fast, isa: pf_isa_auto)
                var result = 0.0
                pf_sum_of_squares(&context, Int64(x.count), x, nil, &result)
                #expect(result.isFinite)
                return result.bitPattern
            }
            #expect(Set(sums).count == 1)
        }

        @Test("Bad arguments are refused")
        func refusals() {
            let x = [Float](repeating: 1, count: 64)
            let mask = [UInt8](repeating: 1, count: 64)
            expectRefused(pf_error_value, "no such reduction") {
                pf_reduce(nil, pf_reduction(rawValue: 3), 2, 2, 2, x, nil, pf_overwrite, $0)
            }
            expectRefused(pf_error_value, "masked maximum") {
                pf_reduce(nil, pf_max, 2, 2, 2, x, mask, pf_overwrite, $0)
            }
            expectRefused(pf_error_value, "accumulated minimum") {
                pf_reduce(nil, pf_min, 2, 2, 2, x, nil, pf_accumulate, $0)
            }
            expectRefused(pf_error_value, "no such mode") {
                pf_reduce(nil, pf_sum, 2, 2, 2, x, nil, pf_writing(rawValue: -1), $0)
            }
            expectRefused(pf_error_dimension, "negative extent") {
                pf_reduce(nil, pf_sum, 2, -2, 2, x, nil, pf_overwrite, $0)
            }
            expectRefused(pf_error_overflow, "huge") {
                pf_reduce(nil, pf_sum, 1 << 31, 1 << 31, 2, x, nil, pf_overwrite, $0)
            }
            expectRefused(pf_error_null, "no input") { pf_reduce(nil, pf_sum, 2, 2, 2, nil, nil, pf_overwrite, $0) }
            #expect(pf_reduce(nil, pf_sum, 2, 2, 2, x, nil, pf_overwrite, nil) == pf_error_null)

            var index: [Int32] = [-7, -7]
            #expect(pf_argmax(nil, 2, 0, x, &index) == pf_error_dimension)
            #expect(pf_argmax(nil, -2, 3, x, &index) == pf_error_dimension)
            #expect(pf_argmax(nil, 1, 1 << 31, x, &index) == pf_error_overflow)
            #expect(pf_argmax(nil, 2, 3, nil, &index) == pf_error_null)
            #expect(pf_argmax(nil, 2, 3, x, nil) == pf_error_null)
            #expect(pf_argmax(nil, 0, 3, nil, nil) == pf_ok)
            #expect(index == [-7, -7])

            var squares = -7.0
            #expect(pf_sum_of_squares(nil, -1, x, nil, &squares) == pf_error_dimension)
            #expect(pf_sum_of_squares(nil, 1, nil, nil, &squares) == pf_error_null)
            #expect(pf_sum_of_squares(nil, 1, x, nil, nil) == pf_error_null)
            #expect(squares == -7)
        }
    }
}
