import CKernels
import Foundation
import Testing

extension KernelTests {
    @Suite("Elementwise") struct Elementwise {
        /// Where functions change their ways, and both sides of it.
        static let special: [Float] = [
            0, -0.0, .infinity, -.infinity, .nan, .leastNonzeroMagnitude, -.leastNonzeroMagnitude,
            0x1p-133, -0x1p-133, .leastNormalMagnitude, .greatestFiniteMagnitude, -.greatestFiniteMagnitude, 6,
            Float(6).nextDown, 0.6, -0.6, 1, -1,
            88.7, 88.8, 89, -87.4, -103.9, -104, 1e30, -1e30,
        ]

        struct Function: Sendable, CustomTestStringConvertible {
            var operation: pf_unary
            var testDescription: String
            var ulps: Double  // the header's promise; 0.5 means correctly rounded
            var value: @Sendable (Double) -> Double
        }

        static let functions = [
            Function(operation: pf_negate, testDescription: "negate", ulps: 0.5) { -$0 },
            Function(operation: pf_absolute, testDescription: "absolute", ulps: 0.5) { abs($0) },
            Function(operation: pf_exp, testDescription: "exp", ulps: 1.01) { exp($0) },
            Function(operation: pf_log, testDescription: "log", ulps: 0.83) { log($0) },
            Function(operation: pf_sqrt, testDescription: "sqrt", ulps: 0.5) { $0.squareRoot() },
            Function(operation: pf_reciprocal, testDescription: "reciprocal", ulps: 0.5) { 1 / $0 },
            Function(operation: pf_relu, testDescription: "relu", ulps: 0.5) { $0 <= 0 ? 0 : $0 },
            Function(operation: pf_relu6, testDescription: "relu6", ulps: 0.5) { $0 <= 0 ? 0 : $0 >= 6 ? 6 : $0 },
            Function(operation: pf_sigmoid, testDescription: "sigmoid", ulps: 2.41) { 1 / (1 + exp(-$0)) },
            Function(operation: pf_tanh, testDescription: "tanh", ulps: 1.34) { tanh($0) },
        ]

        @Test("Functions keep their error bound over all magnitudes, and C's special values", arguments: functions)
        func unary(_ function: Function) {
            // Every 160,001st bit pattern: all signs, exponents and some NaNs, in no step with the mantissa.
            let sample =
                Self.special + stride(from: 0, through: 0xFFFF_FFFF, by: 160_001).map { Float(bitPattern: UInt32($0)) }
            let expected = sample.map { function.value(Double($0)) }
            onEveryInstructionSet(function.testDescription) { context in
                var result = [Float](repeating: -77, count: sample.count)
                #expect(
                    pf_elementwise_unary(context, function.operation, Int64(sample.count), sample, &result) == pf_ok)
                return [result]
            } check: { isa, results in
                for (index, (result, wanted)) in zip(results[0], expected).enumerated() {
                    let rounded = Float(wanted)
                    let good =
                        if rounded.isNaN {
                            result.isNaN
                        } else if rounded.isInfinite || rounded == 0 && result == 0 {
                            result == rounded && result.sign == rounded.sign
                        } else {
                            abs(Double(result) - wanted) <= function.ulps * Double(rounded.ulp)
                        }
                    if !good {
                        Issue.record("\(name(of: isa)): of \(sample[index]) is \(result), not \(wanted)")
                        break
                    }
                }
            }
        }

        @Test("A function's bits depend neither on the element's place nor on the result's")
        func placement() {
            var generator = SeededGenerator(seed: 3)
            let x = generator.fractions(61)
            for function in Self.functions {
                onEveryInstructionSet(function.testDescription) { context in
                    var whole = [Float](repeating: 0, count: x.count)
                    pf_elementwise_unary(context, function.operation, Int64(x.count), x, &whole)
                    var alone: [Float] = []
                    for element in x {
                        var value = element
                        withUnsafeMutablePointer(to: &value) {
                            _ = pf_elementwise_unary(context, function.operation, 1, $0, $0)
                        }
                        alone.append(value)
                    }
                    expectSameBits(alone, whole, function.testDescription)
                    return [whole]
                } check: { _, _ in
                }
            }
        }

        struct Operation: Sendable, CustomTestStringConvertible {
            var operation: pf_binary
            var testDescription: String
            var value: @Sendable (Float, Float) -> Float
        }

        static let operations = [
            Operation(operation: pf_add, testDescription: "add") { $0 + $1 },
            Operation(operation: pf_subtract, testDescription: "subtract") { $0 - $1 },
            Operation(operation: pf_multiply, testDescription: "multiply") { $0 * $1 },
            Operation(operation: pf_divide, testDescription: "divide") { $0 / $1 },
            Operation(operation: pf_maximum, testDescription: "maximum") { $0.isNaN || $1.isNaN ? .nan : max($0, $1) },
            Operation(operation: pf_minimum, testDescription: "minimum") { $0.isNaN || $1.isNaN ? .nan : min($0, $1) },
            Operation(operation: pf_relu_backward, testDescription: "relu backward") { $1 > 0 ? $0 : 0 },
            Operation(operation: pf_relu6_backward, testDescription: "relu6 backward") { $1 > 0 && $1 < 6 ? $0 : 0 },
        ]

        @Test("Binary operations broadcast views of any strides", arguments: operations)
        func binary(_ operation: Operation) {
            for trial in 0..<25 {
                var generator = SeededGenerator(seed: UInt64(trial))
                let view = View.random(using: &generator, operands: 2)
                var a = generator.fractions(view.extents[0])
                var b = generator.fractions(view.extents[1])
                a[a.count / 2] = .nan
                b[b.count / 3] = [.infinity, 0, .nan][trial % 3]
                let expected = view.indices.map { operation.value(a[view.offset(0, $0)], b[view.offset(1, $0)]) }
                let label = "\(operation.testDescription), seed \(trial), \(view)"
                onEveryInstructionSet(label) { context in
                    var result = [Float](repeating: -77, count: expected.count)
                    let status = a.withUnsafeBufferPointer { a in
                        b.withUnsafeBufferPointer { b in
                            pf_elementwise_binary(
                                context, operation.operation, Int32(view.shape.count), view.shape,
                                a.baseAddress! + view.origins[0], view.strides[0], b.baseAddress! + view.origins[1],
                                view.strides[1], &result)
                        }
                    }
                    #expect(status == pf_ok, "\(label)")
                    return [result]
                } check: { _, results in
                    expectEqual(results[0], expected, label)
                }
            }
        }

        @Test("Copies between views write what they should and nothing else, in both modes")
        func copies() {
            for trial in 0..<80 {
                var generator = SeededGenerator(seed: UInt64(1000 + trial))
                let view = View.random(using: &generator, operands: 1)
                // The target: the shape's axes in some order, some backwards, with gaps.
                var strides = [Int64](repeating: 0, count: view.shape.count)
                var extent: Int64 = 1
                var origin: Int64 = 0
                for axis in view.shape.indices.shuffled(using: &generator) {
                    extent *= Int64.random(in: 1...2, using: &generator)
                    strides[axis] = generator.bool() ? extent : -extent
                    if strides[axis] < 0 { origin += extent * (view.shape[axis] - 1) }
                    extent *= view.shape[axis]
                }
                let from = generator.fractions(view.extents[0])
                let before = generator.fractions(Int(extent))
                for writing in [pf_overwrite, pf_accumulate] {
                    var expected = before
                    for index in view.indices {
                        let place = Int(origin + zip(index, strides).reduce(0) { $0 + $1.0 * $1.1 })
                        let value = from[view.offset(0, index)]
                        expected[place] = writing == pf_accumulate ? expected[place] + value : value
                    }
                    let label = "seed \(1000 + trial), \(view) to strides \(strides)"
                    onEveryInstructionSet(label) { context in
                        var to = before
                        let status = from.withUnsafeBufferPointer { from in
                            to.withUnsafeMutableBufferPointer { to in
                                pf_copy_strided(
                                    context, Int32(view.shape.count), view.shape, from.baseAddress! + view.origins[0],
                                    view.strides[0], writing, to.baseAddress! + Int(origin), strides)
                            }
                        }
                        #expect(status == pf_ok, "\(label)")
                        return [to]
                    } check: { _, results in
                        expectEqual(results[0], expected, label)
                    }
                }
            }
        }

        @Test("A large transpose and a large contiguous copy, which threads share out")
        func largeCopies() {
            let rows = 700
            let columns = 500
            let from = (0..<rows * columns).map { Float($0) }
            let transposed = (0..<rows * columns).map { Float($0 % rows * columns + $0 / rows) }
            onEveryInstructionSet("copies") { context in
                var to = [Float](repeating: -77, count: from.count)
                var flat = to
                pf_copy_strided(
                    context, 2, [Int64(columns), Int64(rows)], from, [1, Int64(columns)], pf_overwrite, &to,
                    [Int64(rows), 1])
                pf_copy_strided(context, 1, [Int64(from.count)], from, [1], pf_overwrite, &flat, [1])
                return [to, flat]
            } check: { _, results in
                expectSameBits(results[0], transposed, "transpose")
                expectSameBits(results[1], from, "copy")
            }
        }

        @Test("A large broadcast sum, which threads share out")
        func largeBroadcast() {
            let batch = 5
            let channels = 31
            let spatial = 1000
            let x = (0..<batch * channels * spatial).map { Float($0) }
            let shift = (0..<channels).map { Float(-1000 * $0) }
            let expected = x.indices.map { x[$0] + shift[$0 / spatial % channels] }
            onEveryInstructionSet("broadcast") { context in
                var result = [Float](repeating: -77, count: x.count)
                pf_elementwise_binary(
                    context, pf_add, 3, [Int64(batch), Int64(channels), Int64(spatial)], x,
                    [Int64(channels * spatial), Int64(spatial), 1], shift, [0, 1, 0], &result)
                return [result]
            } check: { _, results in
                expectSameBits(results[0], expected, "broadcast")
            }
        }

        @Test("Scale, add, fill and mask")
        func linear() {
            var generator = SeededGenerator(seed: 17)
            let count = 200_001  // more than one thread's worth
            var x = generator.fractions(count)
            let before = generator.fractions(count)
            let mask = generator.mask(count)
            x[5] = .nan
            onEveryInstructionSet("linear") { context in
                var scaled = x
                var added = before
                var filled = before
                var masked = x
                scaled.withUnsafeMutableBufferPointer {
                    _ = pf_scale(context, Int64(count), 0.3, -2, $0.baseAddress, $0.baseAddress)
                }
                #expect(pf_add_scaled(context, Int64(count), 0.3, x, &added) == pf_ok)
                #expect(pf_fill(context, Int64(count), 1.25, &filled) == pf_ok)
                #expect(pf_mask_gradient(context, Int64(count), mask, &masked) == pf_ok)
                var untouched = x
                #expect(pf_mask_gradient(context, Int64(count), nil, &untouched) == pf_ok)
                expectSameBits(untouched, x, "no mask")
                return [scaled, added, filled, masked]
            } check: { _, results in
                // A product and a sum, each rounded at most once; double's own rounding is far below the margin of 1 %.
                let factor = Double(Float(0.3))
                for i in 0..<count where i != 5 {
                    let product = factor * Double(x[i])
                    let bound = 1.01 * roundoff * abs(product)
                    let scaled = product - 2
                    let added = product + Double(before[i])
                    guard abs(Double(results[0][i]) - scaled) <= bound + 1.01 * roundoff * abs(scaled),
                        abs(Double(results[1][i]) - added) <= bound + 1.01 * roundoff * abs(added)
                    else {
                        Issue.record("element \(i): \(results[0][i]), not \(scaled); \(results[1][i]), not \(added)")
                        break
                    }
                }
                #expect(results[0][5].isNaN && results[1][5].isNaN)
                #expect(results[2].allSatisfy { $0 == 1.25 })
                let masked = zip(x, mask).map { $1 == 0 ? 0 : $0 }
                expectSameBits(results[3], masked, "mask")
            }
        }

        @Test("Bad arguments are refused")
        func refusals() {
            let x = [Float](repeating: 1, count: 64)
            let one: [Int64] = [1]
            let shape: [Int64] = [4]
            expectRefused(pf_error_value, "no such function") {
                pf_elementwise_unary(nil, pf_unary(rawValue: 10), 4, x, $0)
            }
            expectRefused(pf_error_dimension, "negative count") { pf_elementwise_unary(nil, pf_exp, -1, x, $0) }
            expectRefused(pf_error_overflow, "huge count") { pf_elementwise_unary(nil, pf_exp, .max / 2, x, $0) }
            expectRefused(pf_error_null, "no input") { pf_elementwise_unary(nil, pf_exp, 4, nil, $0) }
            #expect(pf_elementwise_unary(nil, pf_exp, 4, x, nil) == pf_error_null)
            #expect(pf_elementwise_unary(nil, pf_exp, 0, nil, nil) == pf_ok)

            expectRefused(pf_error_value, "no such operation") {
                pf_elementwise_binary(nil, pf_binary(rawValue: 8), 1, shape, x, one, x, one, $0)
            }
            expectRefused(pf_error_dimension, "rank 9") {
                pf_elementwise_binary(
                    nil, pf_add, 9, [Int64](repeating: 1, count: 9), x, [Int64](repeating: 1, count: 9), x,
                    [Int64](repeating: 1, count: 9), $0)
            }
            expectRefused(pf_error_dimension, "negative rank") {
                pf_elementwise_binary(nil, pf_add, -1, shape, x, one, x, one, $0)
            }
            expectRefused(pf_error_dimension, "negative extent") {
                pf_elementwise_binary(nil, pf_add, 1, [-4], x, one, x, one, $0)
            }
            expectRefused(pf_error_overflow, "unreachable stride") {
                pf_elementwise_binary(nil, pf_add, 1, shape, x, [.min], x, one, $0)
            }
            expectRefused(pf_error_null, "no strides") {
                pf_elementwise_binary(nil, pf_add, 1, shape, x, nil, x, one, $0)
            }
            expectRefused(pf_error_null, "no shape") { pf_elementwise_binary(nil, pf_add, 1, nil, x, one, x, one, $0) }
            expectRefused(pf_error_null, "no b") { pf_elementwise_binary(nil, pf_add, 1, shape, x, one, nil, one, $0) }
            #expect(pf_elementwise_binary(nil, pf_add, 2, [3, 0], nil, [1, 1], nil, [1, 1], nil) == pf_ok)
            var scalar: Float = 0
            #expect(pf_elementwise_binary(nil, pf_add, 0, nil, x, nil, x, nil, &scalar) == pf_ok)
            #expect(scalar == 2)

            expectRefused(pf_error_dimension, "elements of the target that coincide") {
                pf_copy_strided(nil, 1, shape, x, one, pf_overwrite, $0, [0])
            }
            expectRefused(pf_error_value, "no such writing mode") {
                pf_copy_strided(nil, 1, shape, x, one, pf_writing(rawValue: 2), $0, one)
            }
            expectRefused(pf_error_null, "no source") {
                pf_copy_strided(nil, 1, shape, nil, one, pf_overwrite, $0, one)
            }
            expectRefused(pf_error_dimension, "negative count") { pf_scale(nil, -1, 1, 0, x, $0) }
            expectRefused(pf_error_null, "no input") { pf_scale(nil, 4, 1, 0, nil, $0) }
            expectRefused(pf_error_null, "no input") { pf_add_scaled(nil, 4, 1, nil, $0) }
            expectRefused(pf_error_dimension, "negative count") { pf_fill(nil, -1, 1, $0) }
            #expect(pf_fill(nil, 4, 1, nil) == pf_error_null)
            #expect(pf_mask_gradient(nil, 4, [1, 0, 1, 0], nil) == pf_error_null)
        }
    }
}

/// A shape of up to five axes, and operands that are walked along it in any order, backwards, with gaps or broadcast.
struct View: CustomStringConvertible {
    var shape: [Int64]
    var strides: [[Int64]] = []
    var origins: [Int] = []  // of the element with index zero
    var extents: [Int] = []  // elements of an operand's array

    var description: String { "\(shape), strides \(strides)" }

    static func random(using generator: inout SeededGenerator, operands: Int) -> View {
        let rank = Int.random(in: 0...5, using: &generator)
        var view = View(shape: (0..<rank).map { _ in [1, 2, 3, 5, 17, 33].randomElement(using: &generator)! })
        while view.shape.reduce(1, *) > 3000 { view.shape.removeLast() }
        for _ in 0..<operands {
            var strides = [Int64](repeating: 0, count: view.shape.count)
            var extent: Int64 = 1
            var origin: Int64 = 0
            // Half of the operands are dense, so that axes merge.
            let dense = generator.bool()
            let order = Array(view.shape.indices.reversed())
            for axis in dense ? order : order.shuffled(using: &generator) {
                if Int.random(in: 0..<4, using: &generator) == 0 { continue }  // broadcast
                if !dense { extent *= Int64.random(in: 1...2, using: &generator) }
                strides[axis] = dense || generator.bool() ? extent : -extent
                if strides[axis] < 0 { origin += extent * (view.shape[axis] - 1) }
                extent *= view.shape[axis]
            }
            view.strides.append(strides)
            view.origins.append(Int(origin))
            view.extents.append(Int(extent))
        }
        return view
    }

    /// Every index, in row-major order.
    var indices: [[Int64]] {
        shape.reduce([[]]) { prefixes, extent in prefixes.flatMap { prefix in (0..<extent).map { prefix + [$0] } } }
    }

    func offset(_ operand: Int, _ index: [Int64]) -> Int {
        origins[operand] + Int(zip(index, strides[operand]).reduce(0) { $0 + $1.0 * $1.1 })
    }
}
