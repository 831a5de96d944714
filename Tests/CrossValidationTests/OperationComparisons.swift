import Permafrost
import Testing

/// y = x w^T + b, its result and gradients.
func compareLinear(_ goldens: Goldens) throws {
    for golden in try goldens.cases("linear") {
        let input = try golden.tensor("input", requiresGrad: true)
        let weight = try golden.tensor("weight", requiresGrad: true)
        let bias = golden.optionalTensor("bias", requiresGrad: true)
        let gradient = try golden.tensor("output_gradient")
        let output = try linear(input, weight, bias: bias)
        try output.backward(gradient: gradient)

        let inputs = weight.shape[1], outputs = weight.shape[0], rows = input.count / inputs
        let x = input.scalars.map { Bounded($0) }, w = weight.scalars.map { Bounded($0) }
        let b = bias?.scalars.map { Bounded($0) }, g = gradient.scalars.map { Bounded($0) }
        let y = (0..<rows * outputs).map { i in
            let (row, column) = i.quotientAndRemainder(dividingBy: outputs)
            let products = (0..<inputs).map { x[row * inputs + $0] * w[column * inputs + $0] }
            return Bounded.sum(products + (b.map { [$0[column]] } ?? []))
        }
        let dx = (0..<rows * inputs).map { i in
            let (row, column) = i.quotientAndRemainder(dividingBy: inputs)
            return Bounded.sum((0..<outputs).map { g[row * outputs + $0] * w[$0 * inputs + column] })
        }
        let dw = (0..<outputs * inputs).map { i in
            let (o, c) = i.quotientAndRemainder(dividingBy: inputs)
            return Bounded.sum((0..<rows).map { g[$0 * outputs + o] * x[$0 * inputs + c] })
        }
        expect(output, and: try golden.tensor("output"), within: y, "output", of: golden)
        expect(input.grad, and: try golden.tensor("input_gradient"), within: dx, "input gradient", of: golden)
        expect(weight.grad, and: try golden.tensor("weight_gradient"), within: dw, "weight gradient", of: golden)
        if let bias {
            let db = (0..<outputs).map { o in Bounded.sum((0..<rows).map { g[$0 * outputs + o] }) }
            expect(bias.grad, and: try golden.tensor("bias_gradient"), within: db, "bias gradient", of: golden)
        }
    }
}

/// Cross entropy (with label smoothing) and mean squared error in each reduction.
func compareLosses(_ goldens: Goldens) throws {
    for golden in try goldens.cases("loss") {
        let input = try golden.tensor("input", requiresGrad: true), target = try golden.tensor("target")
        let upstream = try golden.tensor("output_gradient")
        let reduction = try #require(Reduction(rawValue: golden.text("reduction")))
        let rows = input.shape[0], classes = input.shape[1]
        let x = input.scalars.map { Bounded($0) }
        let output: Tensor
        var losses: [Bounded], slopes: [Bounded]  // of each loss, and its derivative at each element of the input
        if try golden.text("operation") == "mse" {
            output = try mseLoss(input, target, reduction: reduction)
            let differences = zip(x, target.scalars).map { $0 - Bounded($1) }
            losses = differences.map { $0 * $0 }
            slopes = differences.map { Bounded(2.0) * $0 }
        } else {
            let smoothing = try golden.number("label_smoothing"), targets = target.scalars.map { Int32($0) }
            output = try crossEntropy(input, targets, labelSmoothing: Float(smoothing), reduction: reduction)
            (losses, slopes) = ([], [])
            for row in 0..<rows {
                let (loss, gradient) = crossEntropyRow(
                    Array(x[row * classes..<(row + 1) * classes]), target: Int(targets[row]), smoothing: smoothing)
                losses.append(loss)
                slopes += gradient
            }
        }
        try output.backward(gradient: upstream)

        let share = Bounded(reduction == .mean ? 1 / Double(losses.count) : 1)
        let g = upstream.scalars.map { Bounded($0) }
        let perLoss = slopes.count / losses.count
        let dx = slopes.indices.map { slopes[$0] * share * (reduction == .none ? g[$0 / perLoss] : g[0]) }
        let y = reduction == .none ? losses : [Bounded.sum(losses) * share]
        expect(output, and: try golden.tensor("output"), within: y, "loss", of: golden)
        expect(input.grad, and: try golden.tensor("input_gradient"), within: dx, "input gradient", of: golden)
    }
}

/// The loss of one row, and its gradient.
private func crossEntropyRow(_ x: [Bounded], target: Int, smoothing: Double) -> (Bounded, [Bounded]) {
    let largest = Bounded(x.map(\.value).max()!)
    let exponentials = x.map { ($0 - largest).exp() }
    let total = Bounded.sum(exponentials)
    let weights = x.indices.map { Bounded($0 == target ? 1 - smoothing : 0) + Bounded(smoothing / Double(x.count)) }
    // -log softmax, as (largest + log total) - x or as log total - (x - largest).
    let negativeLogarithms = x.map {
        Bounded.either((largest + total.log()) - $0, total.log() - ($0 - largest))
    }
    // The smoothed part is taken over all classes, or as a mean beside the target's part.
    let uniform = Bounded(smoothing / Double(x.count)) * .sum(negativeLogarithms)
    let loss = Bounded.either(
        .sum(zip(weights, negativeLogarithms).map { $0 * $1 }),
        Bounded(1 - smoothing) * negativeLogarithms[target] + uniform)
    // Softmax by division, or as the exponential of its logarithm.
    let gradient = x.indices.map { i in
        Bounded.either(exponentials[i] / total, (-negativeLogarithms[i]).exp()) - weights[i]
    }
    return (loss, gradient)
}

/// Batch normalisation in training (with what it does to the running averages) and in evaluation.
func compareBatchNormalization(_ goldens: Goldens) throws {
    for golden in try goldens.cases("batch_norm") {
        let training = try golden.flag("training"), epsilon = try golden.number("epsilon")
        let momentum = try golden.number("momentum")
        let input = try golden.tensor("input", requiresGrad: true)
        let gradient = try golden.tensor("output_gradient")
        let batch = input.shape[0], channels = input.shape[1], spatial = input.shape[2] * input.shape[3]
        let scale = golden.optionalTensor("scale"), shift = golden.optionalTensor("shift")
        let layer = BatchNorm2d(channels, epsilon: Float(epsilon), momentum: momentum, affine: scale != nil)
        if let scale, let shift {
            layer.weight?.value = scale
            layer.bias?.value = shift
        }
        layer.runningMean?.value = try golden.tensor("mean_before")
        layer.runningVariance?.value = try golden.tensor("variance_before")
        layer.train(training)
        let output = try layer(input)
        try output.backward(gradient: gradient)

        var formula = BatchNormalizationFormula(input.count, channels)
        for channel in 0..<channels {
            // The positions of the channel's values.
            let positions = (0..<batch).flatMap { image in
                (0..<spatial).map { (image * channels + channel) * spatial + $0 }
            }
            let running = (
                mean: Bounded(try golden.tensor("mean_before").scalars[channel]),
                variance: Bounded(try golden.tensor("variance_before").scalars[channel]))
            formula.add(
                channel, positions, x: input.scalars, gradient: gradient.scalars, scale: scale?.scalars[channel] ?? 1,
                shift: shift?.scalars[channel] ?? 0, running: running, epsilon: epsilon, momentum: momentum,
                training: training)
        }
        expect(output, and: try golden.tensor("output"), within: formula.output, "output", of: golden)
        expect(
            input.grad, and: try golden.tensor("input_gradient"), within: formula.inputGradient, "input gradient",
            of: golden)
        expect(
            layer.runningMean?.value, and: try golden.tensor("mean_after"), within: formula.mean, "running mean",
            of: golden)
        expect(
            layer.runningVariance?.value, and: try golden.tensor("variance_after"), within: formula.variance,
            "running variance", of: golden)
        if scale != nil {
            expect(
                layer.weight?.grad, and: try golden.tensor("scale_gradient"), within: formula.scaleGradient,
                "scale gradient", of: golden)
            expect(
                layer.bias?.grad, and: try golden.tensor("shift_gradient"), within: formula.shiftGradient,
                "shift gradient", of: golden)
        }
    }
}

private struct BatchNormalizationFormula {
    var output, inputGradient: [Bounded]
    var mean, variance, scaleGradient, shiftGradient: [Bounded]

    init(_ count: Int, _ channels: Int) {
        output = Array(repeating: Bounded(0.0), count: count)
        inputGradient = output
        mean = Array(repeating: Bounded(0.0), count: channels)
        (variance, scaleGradient, shiftGradient) = (mean, mean, mean)
    }

    mutating func add(
        _ channel: Int, _ positions: [Int], x: [Float], gradient: [Float], scale: Float, shift: Float,
        running: (mean: Bounded, variance: Bounded), epsilon: Double, momentum: Double, training: Bool
    ) {
        let x = positions.map { Bounded(x[$0]) }, g = positions.map { Bounded(gradient[$0]) }
        let scale = Bounded(scale), shift = Bounded(shift), count = Bounded(Double(positions.count))
        var (mean, variance) = running
        if training {
            mean = Bounded.sum(x) / count
            let squares = Bounded.sum(x.map { ($0 - mean) * ($0 - mean) })
            variance = squares / count
            let weight = Bounded(momentum), rest = Bounded(1 - momentum)
            self.mean[channel] = rest * running.mean + weight * mean
            self.variance[channel] =
                rest * running.variance + weight * (squares / Bounded(Double(positions.count - 1)))
        } else {
            (self.mean[channel], self.variance[channel]) = running
        }
        let inverse = Bounded(1.0) / (variance + Bounded(epsilon)).squareRoot()
        let factor = inverse * scale
        let centred = x.map { $0 - mean }
        let sum = Bounded.sum(g), product = Bounded.sum(zip(g, centred).map { $0 * $1 }) * inverse
        shiftGradient[channel] = sum
        scaleGradient[channel] = product
        for (i, position) in positions.enumerated() {
            // (x - mean) * factor + shift, or x * factor + (shift - mean * factor).
            output[position] = .either(centred[i] * factor + shift, x[i] * factor + (shift - mean * factor))
            if training {
                inputGradient[position] =
                    (g[i] - sum / count - centred[i] * inverse * product / count) * factor
            } else {
                inputGradient[position] = g[i] * factor
            }
        }
    }
}
