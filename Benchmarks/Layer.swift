import CKernels
import CReference

/// A convolution to measure, written as `64x56x56-128k3s2p1d1g1`: input channels x height x width, a dash, output
/// channels, then kernel, stride, padding, dilation and groups, each where it isn't 1 (padding: 0). A size that differs
/// between the axes is written height first: `k1x3`.
struct Layer: Hashable, Codable, CustomStringConvertible {
    let description: String
    var batch: Int
    var inputChannels, inputHeight, inputWidth, outputChannels: Int
    var kernel = Extents(1), stride = Extents(1), padding = Extents(0), dilation = Extents(1)
    var groups = 1
    private(set) var outputHeight = 0, outputWidth = 0

    struct Extents: Hashable, Codable {
        var height, width: Int

        init(_ both: Int) { (height, width) = (both, both) }

        init?(_ text: some StringProtocol) {
            let numbers = text.split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
            guard (1...2).contains(numbers.count), let first = numbers[0], let last = numbers[numbers.count - 1] else {
                return nil
            }
            (height, width) = (first, last)
        }
    }

    init(_ text: String, batch: Int) throws {
        let wrong = Failure(
            "'\(text)' is no layer: expected input channels x height x width, a dash, output channels and sizes, as in "
                + "64x56x56-64k3p1")
        let halves = text.split(separator: "-", omittingEmptySubsequences: false)
        guard halves.count == 2 else { throw wrong }
        let extents = halves[0].split(separator: "x", omittingEmptySubsequences: false).map { Int($0) }
        guard extents.count == 3, let channels = extents[0], let height = extents[1], let width = extents[2] else {
            throw wrong
        }
        (description, self.batch) = (text, batch)
        (inputChannels, inputHeight, inputWidth) = (channels, height, width)
        var rest = halves[1]
        let digits = rest.prefix { $0.isNumber }
        guard let outputChannels = Int(digits) else { throw wrong }
        self.outputChannels = outputChannels
        rest = rest.dropFirst(digits.count)
        while let key = rest.popFirst() {
            let value = rest.prefix { $0.isNumber || $0 == "x" }
            rest = rest.dropFirst(value.count)
            guard let size = Extents(value) else { throw wrong }
            switch key {
            case "k": kernel = size
            case "s": stride = size
            case "p": padding = size
            case "d": dilation = size
            case "g" where size.height == size.width: groups = size.height
            default: throw wrong
            }
        }
        var problem = problem, outputs: (height: Int64, width: Int64) = (0, 0)
        let status = pf_convolution2d_output_size(&problem, &outputs.height, &outputs.width)
        guard status == pf_ok else {
            throw Failure("'\(text)' with batch \(batch): \(String(cString: pf_status_message(status)))")
        }
        (outputHeight, outputWidth) = (Int(outputs.height), Int(outputs.width))
    }

    var problem: pf_convolution2d {
        pf_convolution2d(
            batch: Int64(batch), input_channels: Int64(inputChannels), input_height: Int64(inputHeight),
            input_width: Int64(inputWidth), output_channels: Int64(outputChannels),
            kernel_height: Int64(kernel.height), kernel_width: Int64(kernel.width),
            stride_height: Int64(stride.height), stride_width: Int64(stride.width),
            padding_top: Int64(padding.height), padding_bottom: Int64(padding.height),
            padding_left: Int64(padding.width), padding_right: Int64(padding.width),
            dilation_height: Int64(dilation.height), dilation_width: Int64(dilation.width), groups: Int64(groups))
    }

    var reference: ref_convolution {
        ref_convolution(
            batch: Int64(batch), input_channels: Int64(inputChannels), input_height: Int64(inputHeight),
            input_width: Int64(inputWidth), output_channels: Int64(outputChannels),
            kernel_height: Int64(kernel.height), kernel_width: Int64(kernel.width),
            stride_height: Int64(stride.height), stride_width: Int64(stride.width),
            padding_top: Int64(padding.height), padding_bottom: Int64(padding.height),
            padding_left: Int64(padding.width), padding_right: Int64(padding.width),
            dilation_height: Int64(dilation.height), dilation_width: Int64(dilation.width), groups: Int64(groups))
    }

    var taps: Int { kernel.height * kernel.width }
    var inputCount: Int { batch * inputChannels * inputHeight * inputWidth }
    var outputCount: Int { batch * outputChannels * outputHeight * outputWidth }
    var weightCount: Int { outputChannels * (inputChannels / groups) * taps }

    /// Floating-point operations of one pass done directly: two for each product, those with padding included.
    var operations: Double { 2 * Double(outputCount) * Double(inputChannels / groups * taps) }
}

extension Layer {
    /// The name of the algorithm that a pass runs.
    func algorithm(_ pass: Pass, _ context: pf_context) throws -> String {
        var problem = problem, context = context, name: UnsafePointer<CChar>?
        let status = pf_convolution2d_algorithm(&context, &problem, pass.kernelPass, &name)
        guard status == pf_ok, let name else {
            throw Failure("the plan of \(pass.rawValue): \(String(cString: pf_status_message(status)))")
        }
        return String(cString: name)
    }

    /// What a pass could run, by estimated time, that of the direct algorithm being 1; or why there is no choice.
    func reason(_ pass: Pass, _ context: pf_context) throws -> String {
        var problem = problem, context = context, count: Int32 = 0
        var estimates = [pf_algorithm_estimate](repeating: pf_algorithm_estimate(), count: Int(pf_most_algorithms))
        let status = pf_convolution2d_estimates(&context, &problem, pass.kernelPass, &estimates, &count)
        guard status == pf_ok else {
            throw Failure("the plan of \(pass.rawValue): \(String(cString: pf_status_message(status)))")
        }
        let names = estimates.prefix(Int(count)).map { String(cString: $0.name) }
        if count > 1 {
            return zip(names, estimates).map { "\($0) \(fixed($1.time, 2))" }.joined(separator: ", ")
        }
        if names == ["depthwise"] { return "one input channel a group" }
        return context.numerics == pf_exact ? "exact numerics" : "no Winograd tiles for this kernel, stride and pass"
    }
}

/// What is computed from what.
enum Pass: String, CaseIterable, Codable {
    case forward
    case inputGradient = "input_gradient"
    case weightGradient = "weight_gradient"

    var kernelPass: pf_convolution_pass {
        switch self {
        case .forward: pf_pass_forward
        case .inputGradient: pf_pass_input_gradient
        case .weightGradient: pf_pass_weight_gradient
        }
    }

    func resultCount(_ layer: Layer) -> Int {
        switch self {
        case .forward: layer.outputCount
        case .inputGradient: layer.inputCount
        case .weightGradient: layer.weightCount
        }
    }
}
