import CReference
import Foundation

/// A random problem's operands in raw float32 files that every side reads, and the reference that results are held
/// against.
final class ConvolutionData {
    let layer: Layer
    let folder: URL
    private let input, weight, outputGradient: [Float]

    init(_ layer: Layer, seed: UInt64) throws {
        self.layer = layer
        folder = FileManager.default.temporaryDirectory.appending(path: "permafrost-bench-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var random = SplitMix(state: seed)
        input = random.floats(layer.inputCount)
        weight = random.floats(layer.weightCount)
        outputGradient = random.floats(layer.outputCount)
        for (name, values) in [("input", input), ("weight", weight), ("output_gradient", outputGradient)] {
            let bytes = values.withUnsafeBytes { Data($0) }
            try bytes.write(to: folder.appending(path: "\(name).f32"))
        }
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    /// The largest difference between a result and the reference, over the largest reference value.
    ///
    /// The naive reference takes minutes on a large layer, so of such a one it computes a part: some of the images
    /// (forward and input gradient: an image's result depends on no other image) and, without groups, some of the
    /// channels of the result, spread evenly with the last one among them.
    func error(of result: [Float], _ pass: Pass) throws -> Double {
        guard result.count == pass.resultCount(layer) else {
            throw Failure("\(pass.rawValue) has \(result.count) elements, not \(pass.resultCount(layer))")
        }
        let budget = 2e8
        let perImage = layer.operations / 2 / Double(layer.batch)
        let images = pass == .weightGradient ? layer.batch : min(layer.batch, max(1, Int(budget / perImage)))
        let share = budget / (perImage * Double(images))
        let channels = pass == .inputGradient ? layer.inputChannels : layer.outputChannels
        let count = layer.groups > 1 ? channels : min(channels, max(1, Int(share * Double(channels))))
        let chosen = (0..<count).map { ($0 + 1) * channels / count - 1 }
        return compare(result, pass, images: images, channels: chosen)
    }

    private func compare(_ result: [Float], _ pass: Pass, images: Int, channels: [Int]) -> Double {
        var part = layer.reference
        part.batch = Int64(images)
        let inputPlane = layer.inputHeight * layer.inputWidth, outputPlane = layer.outputHeight * layer.outputWidth
        let row = layer.inputChannels / layer.groups * layer.taps  // of the weight: what one output channel has
        var expected: [Double], actual: [Float]
        switch pass {
        case .forward:
            part.output_channels = Int64(channels.count)
            let rows = slices(of: weight, blocks: 1, each: layer.outputChannels, length: row, channels)
            actual = slices(of: result, blocks: images, each: layer.outputChannels, length: outputPlane, channels)
            expected = Array(repeating: 0, count: actual.count)
            ref_convolution_forward(&part, input, rows, nil, &expected)
        case .inputGradient:
            part.input_channels = Int64(channels.count)
            let rows =
                layer.groups > 1
                ? weight
                : slices(
                    of: weight, blocks: layer.outputChannels, each: layer.inputChannels, length: layer.taps, channels)
            actual = slices(of: result, blocks: images, each: layer.inputChannels, length: inputPlane, channels)
            expected = Array(repeating: 0, count: actual.count)
            ref_convolution_input_gradient(&part, outputGradient, rows, &expected)
        case .weightGradient:
            part.output_channels = Int64(channels.count)
            let planes = slices(
                of: outputGradient, blocks: images, each: layer.outputChannels, length: outputPlane, channels)
            actual = slices(of: result, blocks: 1, each: layer.outputChannels, length: row, channels)
            expected = Array(repeating: 0, count: actual.count)
            ref_convolution_weight_gradient(&part, input, planes, &expected)
        }
        var largest = 0.0, difference = 0.0
        for (actual, expected) in zip(actual, expected) {
            largest = max(largest, abs(expected))
            // not max(), which would drop a NaN
            if !(abs(Double(actual) - expected) <= difference) { difference = abs(Double(actual) - expected) }
        }
        return difference / largest
    }

    /// Of each of the first `blocks` blocks, which hold `each` slices of `length` elements, the chosen slices.
    private func slices(of values: [Float], blocks: Int, each: Int, length: Int, _ chosen: [Int]) -> [Float] {
        var result: [Float] = []
        result.reserveCapacity(blocks * chosen.count * length)
        for block in 0..<blocks {
            for slice in chosen {
                let start = (block * each + slice) * length
                result += values[start..<start + length]
            }
        }
        return result
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014). Plain Swift: drawing the operands starts no kernel threads in the process
/// that measures.
struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// Uniform in [-1, 1): 24 bits each.
    mutating func floats(_ count: Int) -> [Float] {
        Array(unsafeUninitializedCapacity: count) { buffer, initialized in
            for i in 0..<count { buffer[i] = Float(Int32(truncatingIfNeeded: next() >> 40)) * 0x1p-23 - 1 }
            initialized = count
        }
    }
}
