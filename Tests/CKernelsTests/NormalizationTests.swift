import CKernels
import Testing

extension KernelTests {
    @Suite("Batch normalisation") struct BatchNormalization {
        struct Shape: Sendable, CustomTestStringConvertible {
            var batch, channels, spatial: Int
            var offset: Float = 0  // of the data, from zero
            var testDescription: String { "\(batch) x \(channels) x \(spatial), around \(offset)" }
            var count: Int { batch * channels * spatial }
        }

        /// Few channels (threads share chunks) and many (they share channels), tiny planes and large ones.
        static let shapes = [
            Shape(batch: 1, channels: 1, spatial: 1), Shape(batch: 4, channels: 3, spatial: 25),
            Shape(batch: 64, channels: 17, spatial: 1), Shape(batch: 1500, channels: 3, spatial: 4, offset: 2),
            Shape(batch: 8, channels: 16, spatial: 49, offset: 100),
            Shape(batch: 2, channels: 1, spatial: 20_000, offset: 1000),
            Shape(batch: 33, channels: 2, spatial: 2100, offset: -5), Shape(batch: 16, channels: 24, spatial: 200),
            Shape(batch: 6, channels: 70, spatial: 520, offset: 1),
        ]

        /// Everything in double precision, from the textbook.
        struct Reference {
            var shape: Shape
            var x: [Float]
            var mean: [Double], variance: [Double]

            init(_ shape: Shape, _ x: [Float]) {
                (self.shape, self.x) = (shape, x)
                let count = Double(shape.batch * shape.spatial)
                mean = [Double](repeating: 0, count: shape.channels)
                variance = mean
                for i in x.indices { mean[channel(i)] += Double(x[i]) / count }
                for i in x.indices {
                    let deviation = Double(x[i]) - mean[channel(i)]
                    variance[channel(i)] += deviation * deviation / count
                }
            }

            func channel(_ index: Int) -> Int { index / shape.spatial % shape.channels }
        }

        static let epsilon: Float = 1e-3

        @Test("Statistics and result lie within the roundings of their formulas", arguments: shapes)
        func forward(_ shape: Shape) {
            var generator = SeededGenerator(seed: 7)
            let x = generator.fractions(shape.count).map { $0 + shape.offset }
            let scale = generator.fractions(shape.channels)
            let shift = generator.fractions(shape.channels)
            let reference = Reference(shape, x)
            var problem = pf_batch_normalization(
                batch: Int64(shape.batch), channels: Int64(shape.channels), spatial: Int64(shape.spatial),
                epsilon: Self.epsilon)
            for affine in [true, false] {
                let scale = affine ? scale : nil
                let shift = affine ? shift : nil
                let normalized = x.indices.map { i -> Double in
                    let c = reference.channel(i)
                    return (Double(x[i]) - reference.mean[c])
                        / (reference.variance[c] + Double(Self.epsilon)).squareRoot() * Double(scale?[c] ?? 1)
                }
                let y = x.indices.map { normalized[$0] + Double(shift?[reference.channel($0)] ?? 0) }
                // Double sums of n terms, here and there: far below this for the n at hand.
                let negligible = 1e-9 * Double(1 + abs(shape.offset))
                onEveryInstructionSet(shape.testDescription) { context in
                    var mean = [Float](repeating: -77, count: shape.channels)
                    var variance = mean
                    var remainder = mean
                    var result = [Float](repeating: -77, count: x.count)
                    #expect(
                        pf_batch_normalization_statistics(context, &problem, x, &mean, &remainder, &variance) == pf_ok)
                    #expect(
                        pf_batch_normalization_apply(
                            context, &problem, pf_activation_none, x, scale, shift, mean, remainder, variance, nil,
                            &result) == pf_ok)
                    return [mean, variance, result]
                } check: { _, results in
                    expectWithin(
                        results[0], reference.mean, bound: { roundoff * abs(reference.mean[$0]) + negligible }, "mean")
                    expectWithin(
                        results[1], reference.variance, bound: { roundoff * reference.variance[$0] + negligible },
                        "variance")
                    // The difference from the mean, the factor, the variance in it (half) and the product are rounded:
                    // 3.5 times the normalized part; the shift and the sum once each. 1 % for products of roundings.
                    expectWithin(
                        results[2], y,
                        bound: { i in
                            let shift = abs(shift?[reference.channel(i)] ?? 0)
                            return 1.01 * roundoff * (3.5 * abs(normalized[i]) + Double(shift) + abs(y[i])) + negligible
                        }, "y")
                }
            }
        }

        @Test("Evaluation applies the given statistics", arguments: shapes)
        func apply(_ shape: Shape) {
            var generator = SeededGenerator(seed: 8)
            let x = generator.fractions(shape.count).map { $0 + shape.offset }
            let mean = generator.fractions(shape.channels).map { $0 + shape.offset }
            let variance = generator.fractions(shape.channels, in: 0...3)
            let scale = generator.fractions(shape.channels)
            let shift = generator.fractions(shape.channels)
            var problem = pf_batch_normalization(
                batch: Int64(shape.batch), channels: Int64(shape.channels), spatial: Int64(shape.spatial),
                epsilon: Self.epsilon)
            let normalized = x.indices.map { i -> Double in
                let c = i / shape.spatial % shape.channels
                return (Double(x[i]) - Double(mean[c])) / (Double(variance[c]) + Double(Self.epsilon)).squareRoot()
                    * Double(scale[c])
            }
            let y = x.indices.map { normalized[$0] + Double(shift[$0 / shape.spatial % shape.channels]) }
            onEveryInstructionSet(shape.testDescription) { context in
                var result = [Float](repeating: -77, count: x.count)
                #expect(
                    pf_batch_normalization_apply(
                        context, &problem, pf_activation_none, x, scale, shift, mean, nil, variance, nil, &result)
                        == pf_ok)
                return [result]
            } check: { _, results in
                // Difference, factor, product, sum.
                expectWithin(
                    results[0], y, bound: { 1.01 * roundoff * (3 * abs(normalized[$0]) + abs(y[$0])) }, "y")
            }
        }

        @Test(
            "Gradients lie within the roundings of their formulas; frozen ones are +0 and free ones unmoved",
            arguments: shapes)
        func backward(_ shape: Shape) {
            var generator = SeededGenerator(seed: 9)
            let x = generator.fractions(shape.count).map { $0 + shape.offset }
            let yGradient = generator.fractions(shape.count)
            let scale = generator.fractions(shape.channels)
            let reference = Reference(shape, x)
            let mean = reference.mean.map { Float($0) }
            let variance = reference.variance.map { Float($0) }
            let scaleMask = generator.mask(shape.channels)
            let shiftMask = generator.mask(shape.channels)
            let count = Double(shape.batch * shape.spatial)
            let inverse = variance.map { 1 / (Double($0) + Double(Self.epsilon)).squareRoot() }
            // In double, from the statistics as the kernel is given them.
            var sums = [Double](repeating: 0, count: shape.channels)
            var products = sums
            var magnitudes = sums
            for i in x.indices {
                let c = reference.channel(i)
                let deviation = Double(x[i]) - Double(mean[c])
                sums[c] += Double(yGradient[i])
                products[c] += Double(yGradient[i]) * deviation
                magnitudes[c] += abs(Double(yGradient[i])) * (1 + abs(deviation))
            }
            let scaleGradient = (0..<shape.channels).map { products[$0] * inverse[$0] }
            var problem = pf_batch_normalization(
                batch: Int64(shape.batch), channels: Int64(shape.channels), spatial: Int64(shape.spatial),
                epsilon: Self.epsilon)
            for depends in [true, false] {
                var expected = [Double]()
                var bounds = [Double]()
                for i in x.indices {
                    let c = reference.channel(i)
                    let factor = inverse[c] * Double(scale[c])
                    let gradientMean = depends ? sums[c] / count : 0
                    let slope = depends ? products[c] / count * inverse[c] * inverse[c] : 0
                    let centred = Double(yGradient[i]) - gradientMean
                    let along = (Double(x[i]) - Double(mean[c])) * slope
                    expected.append((centred - along) * factor)
                    // The mean of the gradient, its difference; deviation, slope and product; their difference;
                    // factor and product.
                    bounds.append(
                        1.01 * roundoff
                            * ((abs(gradientMean) + abs(centred) + 3 * abs(along) + abs(centred - along)) * abs(factor)
                                + 2 * abs(expected[i])))
                }
                // The two double sums behind a parameter's gradient, here and there.
                func sumBound(_ c: Int) -> Double { 2 * count * 0x1p-53 * magnitudes[c] * max(1, inverse[c]) }
                onEveryInstructionSet(shape.testDescription) { context in
                    var xGradient = [Float](repeating: -77, count: x.count)
                    var scaleResult = [Float](repeating: .nan, count: shape.channels)
                    var shiftResult = scaleResult
                    var maskedScale = scaleResult
                    var maskedShift = scaleResult
                    #expect(
                        pf_batch_normalization_backward(
                            context, &problem, depends, pf_activation_none, x, yGradient, scale, nil, mean, nil, variance,
                            nil, nil, &xGradient, &scaleResult, &shiftResult) == pf_ok)
                    #expect(
                        pf_batch_normalization_backward(
                            context, &problem, depends, pf_activation_none, x, yGradient, scale, nil, mean, nil, variance,
                            scaleMask, shiftMask, nil, &maskedScale, &maskedShift) == pf_ok)
                    expectSameBits(maskedScale, zip(scaleResult, scaleMask).map { $1 == 0 ? 0 : $0 }, "masked scale")
                    expectSameBits(maskedShift, zip(shiftResult, shiftMask).map { $1 == 0 ? 0 : $0 }, "masked shift")
                    var alone = [Float](repeating: -77, count: x.count)
                    pf_batch_normalization_backward(
                        context, &problem, depends, pf_activation_none, x, yGradient, scale, nil, mean, nil, variance, nil,
                        nil, &alone, nil, nil)
                    expectSameBits(alone, xGradient, "x gradient alone")
                    return [xGradient, scaleResult, shiftResult]
                } check: { _, results in
                    // Summation errors reach x's gradient divided by the count: far below a rounding, in the 1 %.
                    expectWithin(results[0], expected, bound: { bounds[$0] + 1e-12 }, "x gradient")
                    expectWithin(
                        results[1], scaleGradient, bound: { roundoff * abs(scaleGradient[$0]) + sumBound($0) },
                        "scale gradient")
                    expectWithin(results[2], sums, bound: { roundoff * abs(sums[$0]) + sumBound($0) }, "shift gradient")
                }
            }
        }

        @Test(
            "An activation and an addition give the same bits in the normalisation as in passes of their own",
            arguments: shapes)
        func fusion(_ shape: Shape) {
            var generator = SeededGenerator(seed: 10)
            let x = generator.fractions(shape.count).map { $0 + shape.offset }
            let yGradient = generator.fractions(shape.count)
            let addend = generator.fractions(shape.count)
            let scale = generator.fractions(shape.channels, in: -6...6)
            let shift = generator.fractions(shape.channels)
            var problem = pf_batch_normalization(
                batch: Int64(shape.batch), channels: Int64(shape.channels), spatial: Int64(shape.spatial),
                epsilon: Self.epsilon)
            var (count, stride) = (Int64(x.count), Int64(1))
            for (activation, unary, backward) in [
                (pf_activation_relu, pf_relu, pf_relu_backward), (pf_activation_relu6, pf_relu6, pf_relu6_backward),
            ] {
                onEveryInstructionSet(shape.testDescription) { context in
                    var mean = [Float](repeating: 0, count: shape.channels)
                    var (remainder, variance) = (mean, mean)
                    pf_batch_normalization_statistics(context, &problem, x, &mean, &remainder, &variance)
                    func applied(_ activation: pf_activation, to addend: [Float]?) -> [Float] {
                        var y = addend ?? [Float](repeating: -77, count: x.count)
                        if addend != nil {
                            // In place of the addend.
                            y.withUnsafeMutableBufferPointer {
                                let status = pf_batch_normalization_apply(
                                    context, &problem, activation, x, scale, shift, mean, remainder, variance,
                                    $0.baseAddress, $0.baseAddress)
                                #expect(status == pf_ok)
                            }
                        } else {
                            pf_batch_normalization_apply(
                                context, &problem, activation, x, scale, shift, mean, remainder, variance, nil, &y)
                        }
                        return y
                    }
                    func gradients(_ activation: pf_activation, _ yGradient: [Float]) -> [[Float]] {
                        var xGradient = yGradient  // in place
                        var scaleGradient = mean
                        var shiftGradient = mean
                        xGradient.withUnsafeMutableBufferPointer {
                            let status = pf_batch_normalization_backward(
                                context, &problem, true, activation, x, $0.baseAddress, scale, shift, mean, remainder,
                                variance, nil, nil, $0.baseAddress, &scaleGradient, &shiftGradient)
                            #expect(status == pf_ok)
                        }
                        return [xGradient, scaleGradient, shiftGradient]
                    }
                    let plain = applied(pf_activation_none, to: nil)
                    var sum = plain
                    pf_elementwise_binary(context, pf_add, 1, &count, plain, &stride, addend, &stride, &sum)
                    var (activated, activatedSum, passed) = (plain, sum, plain)
                    pf_elementwise_unary(context, unary, count, plain, &activated)
                    pf_elementwise_unary(context, unary, count, sum, &activatedSum)
                    pf_elementwise_binary(
                        context, backward, 1, &count, yGradient, &stride, activated, &stride, &passed)
                    expectSameBits(applied(activation, to: nil), activated, "activation")
                    expectSameBits(applied(pf_activation_none, to: addend), sum, "addition")
                    expectSameBits(applied(activation, to: addend), activatedSum, "addition and activation")
                    let fused = gradients(activation, yGradient)
                    for (result, expected) in zip(fused, gradients(pf_activation_none, passed)) {
                        expectSameBits(result, expected, "gradient through the activation")
                    }
                    return [activated, activatedSum] + fused
                } check: { _, results in
                    #expect(results[0].allSatisfy { $0 >= 0 && (activation == pf_activation_relu || $0 <= 6) })
                }
            }
        }

        @Test("A frozen channel's NaN reaches neither its gradients nor other channels'")
        func poison() {
            var x = (0..<24).map { Float($0 % 7) }
            let yGradient = (0..<24).map { Float($0 % 5) }
            for i in 4..<8 { x[i] = .nan }  // channel 1 of batch 0
            var problem = pf_batch_normalization(batch: 2, channels: 3, spatial: 4, epsilon: Self.epsilon)
            onEveryInstructionSet("poison") { context in
                var mean = [Float](repeating: 0, count: 3)
                var variance = mean
                var remainder = mean
                var y = x
                var gradient = x
                var scale = mean
                var shift = mean
                pf_batch_normalization_statistics(context, &problem, x, &mean, &remainder, &variance)
                pf_batch_normalization_apply(
                    context, &problem, pf_activation_none, x, nil, nil, mean, remainder, variance, nil, &y)
                pf_batch_normalization_backward(
                    context, &problem, true, pf_activation_none, x, yGradient, nil, nil, mean, remainder, variance,
                    [1, 0, 1], [1, 0, 1], &gradient, &scale, &shift)
                return [mean, y, gradient, scale, shift]
            } check: { _, results in
                #expect(results[0].map(\.isNaN) == [false, true, false])
                for i in 0..<24 {
                    #expect(results[1][i].isNaN == (i / 4 % 3 == 1))
                    #expect(results[2][i].isNaN == (i / 4 % 3 == 1))
                }
                #expect(results[3][1].bitPattern == 0 && results[4][1].bitPattern == 0)
                #expect(results[3].allSatisfy(\.isFinite) && results[4].allSatisfy(\.isFinite))
            }
        }

        @Test("Bad arguments are refused, an empty batch only where statistics would come of it")
        func refusals() {
            let x = [Float](repeating: 1, count: 64)
            var mean = [Float](repeating: 0, count: 4)
            var variance = mean
            func forward(_ status: pf_status, _ label: String, _ change: (inout pf_batch_normalization) -> Void) {
                var problem = pf_batch_normalization(batch: 2, channels: 3, spatial: 4, epsilon: 1e-5)
                change(&problem)
                expectRefused(status, label) {
                    pf_batch_normalization_statistics(nil, &problem, x, $0, &mean, &variance)
                }
            }
            forward(pf_error_dimension, "no channels") { $0.channels = 0 }
            forward(pf_error_dimension, "negative extent") { $0.spatial = -1 }
            forward(pf_error_dimension, "negative batch") { $0.batch = -1 }
            forward(pf_error_dimension, "empty batch") { $0.batch = 0 }
            forward(pf_error_overflow, "huge") { $0.batch = 1 << 60 }
            for epsilon in [-1e-5, .nan, .infinity] as [Float] {
                forward(pf_error_value, "epsilon \(epsilon)") { $0.epsilon = epsilon }
            }
            var problem = pf_batch_normalization(batch: 2, channels: 3, spatial: 4, epsilon: 1e-5)
            expectRefused(pf_error_null, "no problem") {
                pf_batch_normalization_statistics(nil, nil, x, $0, &mean, &variance)
            }
            expectRefused(pf_error_null, "no mean") {
                pf_batch_normalization_statistics(nil, &problem, x, nil, $0, &variance)
            }
            expectRefused(pf_error_null, "no variance") {
                pf_batch_normalization_apply(
                    nil, &problem, pf_activation_none, x, nil, nil, mean, nil, nil, nil, $0)
            }
            expectRefused(pf_error_value, "no activation") {
                pf_batch_normalization_apply(
                    nil, &problem, pf_activation(rawValue: 3), x, nil, nil, mean, nil, variance, nil, $0)
            }
            expectRefused(pf_error_null, "no gradient") {
                pf_batch_normalization_backward(
                    nil, &problem, true, pf_activation_none, x, nil, nil, nil, mean, nil, variance, nil, nil, $0, nil,
                    nil)
            }
            problem.batch = 0
            #expect(
                pf_batch_normalization_apply(
                    nil, &problem, pf_activation_none, nil, nil, nil, nil, nil, nil, nil, nil) == pf_ok)
            // The sums over an empty batch are zero.
            var scale: [Float] = [5, 5, 5]
            var shift: [Float] = [5, 5, 5]
            #expect(
                pf_batch_normalization_backward(
                    nil, &problem, false, pf_activation_none, nil, nil, nil, nil, mean, nil, variance, nil, nil, nil,
                    &scale, &shift) == pf_ok)
            #expect(scale == [0, 0, 0] && shift == [0, 0, 0])
        }
    }
}
