import CKernels
import Testing

extension KernelTests {
    @Suite("Pooling") struct Pooling {
        /// A window's rows or columns: positions in the padded input, cut to the input.
        struct Axis {
            var input, kernel, stride, padding, dilation, output: Int

            func positions(_ index: Int) -> [Int] {
                (0..<kernel).map { index * stride - padding + $0 * dilation }.filter { 0..<input ~= $0 }
            }

            /// How many positions of a window lie in the input with its padding.
            func padded(_ index: Int) -> Int {
                (0..<kernel).count { index * stride - padding + $0 < input + padding }
            }
        }

        struct Problem: CustomStringConvertible {
            var pooling: pf_pooling2d
            var planes: Int
            var rows, columns: Axis
            var description: String { "\(pooling)" }

            /// nil where PyTorch has no output for it.
            init?(_ p: pf_pooling2d) {
                pooling = p
                planes = Int(p.batch * p.channels)
                func axis(_ input: Int64, _ kernel: Int64, _ stride: Int64, _ padding: Int64, _ dilation: Int64)
                    -> Axis?
                {
                    let room = Double(input + 2 * padding - dilation * (kernel - 1) - 1) / Double(stride)
                    var output = Int(room.rounded(p.ceil_mode ? .up : .down)) + 1
                    if p.ceil_mode && (output - 1) * Int(stride) >= Int(input + padding) { output -= 1 }
                    return output < 1
                        ? nil
                        : Axis(
                            input: Int(input), kernel: Int(kernel), stride: Int(stride), padding: Int(padding),
                            dilation: Int(dilation), output: output)
                }
                guard
                    let rows = axis(
                        p.input_height, p.kernel_height, p.stride_height, p.padding_height, p.dilation_height),
                    let columns = axis(p.input_width, p.kernel_width, p.stride_width, p.padding_width, p.dilation_width)
                else { return nil }
                (self.rows, self.columns) = (rows, columns)
            }

            var inputCount: Int { planes * rows.input * columns.input }
            var outputCount: Int { planes * rows.output * columns.output }

            /// Calls `body` for every output with its plane and place.
            func forEachOutput(_ body: (_ output: Int, _ plane: Int, _ y: Int, _ x: Int) -> Void) {
                var output = 0
                for plane in 0..<planes {
                    for y in 0..<rows.output {
                        for x in 0..<columns.output {
                            body(output, plane, y, x)
                            output += 1
                        }
                    }
                }
            }
        }

        /// Every third one of the sizes that networks use, the others anything.
        static func random(_ index: Int, averages: Bool, using generator: inout SeededGenerator) -> pf_pooling2d {
            func draw(_ range: ClosedRange<Int64>) -> Int64 { Int64.random(in: range, using: &generator) }
            var p = pf_pooling2d()
            p.batch = draw(0...2)
            p.channels = draw(1...3)
            (p.input_height, p.input_width) = (draw(1...12), draw(1...24))
            (p.kernel_height, p.kernel_width) = (draw(1...4), draw(1...4))
            (p.stride_height, p.stride_width) = (draw(1...3), draw(1...3))
            (p.dilation_height, p.dilation_width) = averages || index % 2 == 0 ? (1, 1) : (draw(1...3), draw(1...3))
            if index % 3 == 0 {
                p.kernel_height = draw(2...3)
                p.kernel_width = p.kernel_height
                (p.stride_height, p.stride_width) = (2, 2)
                (p.dilation_height, p.dilation_width) = (1, 1)
            }
            (p.padding_height, p.padding_width) = (draw(0...p.kernel_height / 2), draw(0...p.kernel_width / 2))
            (p.ceil_mode, p.count_include_pad) = (generator.bool(), generator.bool())
            return p
        }

        /// One whose planes threads share out.
        static var large: pf_pooling2d {
            pf_pooling2d(
                batch: 8, channels: 30, input_height: 33, input_width: 41, kernel_height: 3, kernel_width: 3,
                stride_height: 2, stride_width: 2, padding_height: 1, padding_width: 1, dilation_height: 1,
                dilation_width: 1, ceil_mode: false, count_include_pad: false)
        }

        static func problems(_ count: Int, averages: Bool) -> [(label: String, problem: Problem, seed: UInt64)] {
            var found = [("the large problem", Problem(large)!, 0 as UInt64)]
            for index in 0..<count {
                var generator = SeededGenerator(seed: UInt64(index))
                let pooling = random(index, averages: averages, using: &generator)
                var height: Int64 = -7
                var width: Int64 = -7
                var copy = pooling
                let status = pf_pooling2d_output_size(&copy, &height, &width)
                guard let problem = Problem(pooling) else {
                    #expect(status == pf_error_dimension && height == -7, "seed \(index), \(pooling)")
                    continue
                }
                #expect(status == pf_ok, "seed \(index), \(pooling)")
                #expect(
                    [Int(height), Int(width)] == [problem.rows.output, problem.columns.output],
                    "seed \(index), \(pooling)")
                found.append(("seed \(index), \(pooling)", problem, UInt64(index)))
            }
            return found
        }

        @Test("Maximum: values, ties, NaN, minus infinity, and the gradient's way back")
        func maximum() {
            for (label, problem, seed) in Self.problems(150, averages: false) {
                var generator = SeededGenerator(seed: seed ^ 0xABCD)
                // Few different values: ties are everywhere.
                var input = generator.integers(problem.inputCount, in: -2...2)
                if !input.isEmpty {
                    if seed % 3 == 1 { input[Int.random(in: input.indices, using: &generator)] = .nan }
                    if seed % 5 == 1 { input = input.map { $0 < 2 ? -.infinity : $0 } }
                }
                let outputGradient = generator.integers(problem.outputCount, in: -9...9)
                var output = [Float]()
                var indices = [Float]()
                var inputGradient = [Float](repeating: 0, count: problem.inputCount)
                let width = problem.columns.input
                let plane = problem.rows.input * width
                problem.forEachOutput { place, planeIndex, y, x in
                    var best = -Float.infinity
                    var index = -1
                    for row in problem.rows.positions(y) {
                        for column in problem.columns.positions(x) {
                            let value = input[planeIndex * plane + row * width + column]
                            if index < 0 || value > best || value.isNaN {
                                (best, index) = (value, row * width + column)
                            }
                        }
                    }
                    output.append(best)
                    indices.append(Float(index))
                    if index >= 0 { inputGradient[planeIndex * plane + index] += outputGradient[place] }
                }
                var pooling = problem.pooling
                onEveryInstructionSet(label) { context in
                    var result = [Float](repeating: -77, count: problem.outputCount)
                    var chosen = [Int32](repeating: -77, count: problem.outputCount)
                    var gradient = [Float](repeating: -77, count: problem.inputCount)
                    #expect(pf_max_pool2d_forward(context, &pooling, input, &result, &chosen) == pf_ok, "\(label)")
                    #expect(
                        pf_max_pool2d_backward(context, &pooling, outputGradient, chosen, &gradient) == pf_ok,
                        "\(label)")
                    return [result, chosen.map(Float.init), gradient]
                } check: { _, results in
                    expectEqual(results[0], output, "output, \(label)")
                    expectEqual(results[1], indices, "indices, \(label)")
                    expectEqual(results[2], inputGradient, "gradient, \(label)")
                }
            }
        }

        @Test("Average: exact on integers, whatever counts as part of a window")
        func average() {
            for (label, problem, seed) in Self.problems(150, averages: true) {
                var generator = SeededGenerator(seed: seed ^ 0x1234)
                let input = generator.integers(problem.inputCount, in: -9...9)
                // Divisible by the size of any window of up to 4 x 4: every share, and every sum of shares, is exact.
                let outputGradient = generator.integers(problem.outputCount, in: -9...9).map { $0 * 144 }
                var output = [Float]()
                var inputGradient = [Float](repeating: 0, count: problem.inputCount)
                let width = problem.columns.input
                let plane = problem.rows.input * width
                problem.forEachOutput { place, planeIndex, y, x in
                    let rows = problem.rows.positions(y)
                    let columns = problem.columns.positions(x)
                    let divisor =
                        problem.pooling.count_include_pad
                        ? problem.rows.padded(y) * problem.columns.padded(x) : rows.count * columns.count
                    var sum: Float = 0
                    for row in rows {
                        for column in columns {
                            sum += input[planeIndex * plane + row * width + column]
                            inputGradient[planeIndex * plane + row * width + column] +=
                                outputGradient[place] / Float(divisor)
                        }
                    }
                    output.append(sum / Float(divisor))
                }
                var pooling = problem.pooling
                onEveryInstructionSet(label) { context in
                    var result = [Float](repeating: -77, count: problem.outputCount)
                    var gradient = [Float](repeating: -77, count: problem.inputCount)
                    #expect(pf_average_pool2d_forward(context, &pooling, input, &result) == pf_ok, "\(label)")
                    #expect(
                        pf_average_pool2d_backward(context, &pooling, outputGradient, &gradient) == pf_ok, "\(label)")
                    return [result, gradient]
                } check: { _, results in
                    expectEqual(results[0], output, "output, \(label)")
                    expectEqual(results[1], inputGradient, "gradient, \(label)")
                }
            }
        }

        @Test("Adaptive average: exact on integers, for cells of any size")
        func adaptive() {
            for seed in 0..<60 as Range<UInt64> {
                var generator = SeededGenerator(seed: seed)
                func draw(_ range: ClosedRange<Int>) -> Int { Int.random(in: range, using: &generator) }
                let planes = seed == 0 ? 600 : draw(0...3)
                let height = draw(1...6)
                let width = draw(1...6)
                let outputHeight = seed % 5 == 0 ? 1 : draw(1...9)
                let outputWidth = seed % 5 == 0 ? 1 : draw(1...9)
                let label = "seed \(seed): \(planes) x \(height) x \(width) to \(outputHeight) x \(outputWidth)"
                let input = generator.integers(planes * height * width, in: -9...9)
                // Divisible by the height and the width of any cell, of up to 6 x 6.
                let outputGradient = generator.integers(planes * outputHeight * outputWidth, in: -9...9).map {
                    $0 * 3600
                }
                func cell(_ index: Int, _ input: Int, _ output: Int) -> Range<Int> {
                    index * input / output..<((index + 1) * input + output - 1) / output
                }
                var output = [Float]()
                var inputGradient = [Float](repeating: 0, count: input.count)
                for plane in 0..<planes {
                    for y in 0..<outputHeight {
                        for x in 0..<outputWidth {
                            let rows = cell(y, height, outputHeight)
                            let columns = cell(x, width, outputWidth)
                            let share = outputGradient[output.count] / Float(rows.count * columns.count)
                            var sum: Float = 0
                            for row in rows {
                                for column in columns {
                                    sum += input[(plane * height + row) * width + column]
                                    inputGradient[(plane * height + row) * width + column] += share
                                }
                            }
                            output.append(sum / Float(rows.count * columns.count))
                        }
                    }
                }
                let sizes = [height, width, outputHeight, outputWidth].map(Int64.init)
                onEveryInstructionSet(label) { context in
                    var result = [Float](repeating: -77, count: output.count)
                    var gradient = [Float](repeating: -77, count: input.count)
                    let forward = pf_adaptive_average_pool2d_forward(
                        context, Int64(planes), sizes[0], sizes[1], sizes[2], sizes[3], input, &result)
                    let backward = pf_adaptive_average_pool2d_backward(
                        context, Int64(planes), sizes[0], sizes[1], sizes[2], sizes[3], outputGradient, &gradient)
                    #expect(forward == pf_ok && backward == pf_ok, "\(label)")
                    return [result, gradient]
                } check: { _, results in
                    expectEqual(results[0], output, "output, \(label)")
                    expectEqual(results[1], inputGradient, "gradient, \(label)")
                }
            }
        }

        static let valid = pf_pooling2d(
            batch: 1, channels: 1, input_height: 4, input_width: 4, kernel_height: 2, kernel_width: 2, stride_height: 2,
            stride_width: 2, padding_height: 0, padding_width: 0, dilation_height: 1, dilation_width: 1,
            ceil_mode: false,
            count_include_pad: true)

        typealias Field = WritableKeyPath<pf_pooling2d, Int64> & Sendable

        @Test("Bad problems are refused")
        func refusals() {
            let x = [Float](repeating: 1, count: 16)
            let indices = [Int32](repeating: 0, count: 4)
            var chosen = indices
            func expect(_ status: pf_status, _ field: Field, _ value: Int64, averagesOnly: Bool = false) {
                var problem = Self.valid
                problem[keyPath: field] = value
                let label = "\(field) = \(value)"
                if !averagesOnly {
                    expectRefused(status, label) { pf_max_pool2d_forward(nil, &problem, x, $0, &chosen) }
                    expectRefused(status, label) { pf_max_pool2d_backward(nil, &problem, x, indices, $0) }
                }
                expectRefused(status, label) { pf_average_pool2d_forward(nil, &problem, x, $0) }
                expectRefused(status, label) { pf_average_pool2d_backward(nil, &problem, x, $0) }
            }
            let positive: [Field] = [
                \.channels, \.input_height, \.input_width, \.kernel_height, \.kernel_width, \.stride_height,
                \.stride_width,
                \.dilation_height, \.dilation_width,
            ]
            for field in positive {
                for value in [0, -1, Int64.min] { expect(pf_error_dimension, field, value) }
            }
            for field in [\.batch, \.padding_height, \.padding_width] as [Field] {
                expect(pf_error_dimension, field, -1)
            }
            expect(pf_error_dimension, \.padding_width, 2)  // more than half of the kernel
            expect(pf_error_dimension, \.kernel_height, 5)  // no output
            expect(pf_error_dimension, \.dilation_width, 2, averagesOnly: true)
            expect(pf_error_overflow, \.batch, 1 << 60)
            expect(pf_error_overflow, \.input_height, 1 << 31)  // an index is an int32_t
            expect(pf_error_overflow, \.input_height, .max)

            var problem = Self.valid
            expectRefused(pf_error_null, "no problem") { pf_max_pool2d_forward(nil, nil, x, $0, &chosen) }
            expectRefused(pf_error_null, "no input") { pf_max_pool2d_forward(nil, &problem, nil, $0, &chosen) }
            expectRefused(pf_error_null, "no indices") { pf_max_pool2d_forward(nil, &problem, x, $0, nil) }
            expectRefused(pf_error_null, "no indices") { pf_max_pool2d_backward(nil, &problem, x, nil, $0) }
            expectRefused(pf_error_null, "no gradient") { pf_average_pool2d_backward(nil, &problem, nil, $0) }
            for index: Int32 in [16, -2, .max, .min] {
                expectRefused(pf_error_value, "index \(index)") {
                    pf_max_pool2d_backward(nil, &problem, x, [0, 1, index, 2], $0)
                }
            }
            expectRefused(pf_error_dimension, "no rows") {
                pf_adaptive_average_pool2d_forward(nil, 1, 0, 4, 2, 2, x, $0)
            }
            expectRefused(pf_error_dimension, "no output rows") {
                pf_adaptive_average_pool2d_forward(nil, 1, 4, 4, 0, 2, x, $0)
            }
            expectRefused(pf_error_dimension, "negative planes") {
                pf_adaptive_average_pool2d_backward(nil, -1, 4, 4, 2, 2, x, $0)
            }
            expectRefused(pf_error_overflow, "huge") {
                pf_adaptive_average_pool2d_backward(nil, 1 << 40, 1 << 20, 1 << 20, 2, 2, x, $0)
            }
            expectRefused(pf_error_null, "no input") { pf_adaptive_average_pool2d_forward(nil, 1, 4, 4, 2, 2, nil, $0) }
        }
    }
}
