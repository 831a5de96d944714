import ArgumentParser
import CKernels
import Foundation

/// What is asked of the process that runs convolutions: this program's worker, or PyTorch's (`peers/conv.py`).
struct ConvolutionRequest: Codable {
    enum Operation: String, Codable { case load, time, save }
    struct Problem: Codable {
        let batch, input_channels, input_height, input_width, output_channels, kernel_height, kernel_width: Int64
        let stride_height, stride_width, padding_top, padding_bottom, padding_left, padding_right: Int64
        let dilation_height, dilation_width, groups: Int64
    }

    let op: Operation
    /// load: what to run, the folder with its operands as raw float32 files, and how.
    var problem: Problem?
    var folder: String?
    var threads: Int32?
    var numerics: Int32?
    var isa: Int32?
    /// time and save: which pass, in which layout.
    var pass: Pass?
    var layout: Layout?
    var repetitions: Int?
    var path: String?
}

/// How activations lie in memory.
enum Layout: String, Codable, CaseIterable {
    case contiguous
    case channelsLast = "channels_last"
}

struct ConvolutionAnswer: Codable {
    /// One figure a repetition.
    var seconds: [Double]?
}

extension pf_convolution2d {
    init(_ p: ConvolutionRequest.Problem) {
        self.init(
            batch: p.batch, input_channels: p.input_channels, input_height: p.input_height,
            input_width: p.input_width, output_channels: p.output_channels, kernel_height: p.kernel_height,
            kernel_width: p.kernel_width, stride_height: p.stride_height, stride_width: p.stride_width,
            padding_top: p.padding_top, padding_bottom: p.padding_bottom, padding_left: p.padding_left,
            padding_right: p.padding_right, dilation_height: p.dilation_height, dilation_width: p.dilation_width,
            groups: p.groups)
    }
}

/// Answers `ConvolutionRequest`s on standard input with the kernels of this library: the process that is measured, so
/// that it can be stopped while its peer is.
struct ConvolutionWorkerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "conv-worker", abstract: "The process that conv measures.", shouldDisplay: false)

    func run() throws {
        var loaded: LoadedConvolution?
        try serve { (request: ConvolutionRequest) in try answer(request, &loaded) }
    }

    private func answer(_ request: ConvolutionRequest, _ loaded: inout LoadedConvolution?) throws -> ConvolutionAnswer {
        if request.op == .load {
            loaded = nil  // before the next one takes memory
            loaded = try LoadedConvolution(request)
            return ConvolutionAnswer()
        }
        guard let loaded, let pass = request.pass else { throw Failure("no problem was loaded, or no pass is named") }
        if request.op == .save {
            try loaded.run(pass)
            try loaded.results[pass]!.write(to: request.path ?? "")
            return ConvolutionAnswer()
        }
        let clock = ContinuousClock()
        return ConvolutionAnswer(
            seconds: try (0..<(request.repetitions ?? 1)).map { _ in
                try clock.measure { try loaded.run(pass) }.seconds
            })
    }
}

/// Operands and results of one problem, and the kernels' calls on them.
final class LoadedConvolution {
    private var problem: pf_convolution2d
    private var context: pf_context
    private let input, weight, outputGradient: FloatBuffer
    let results: [Pass: FloatBuffer]

    init(_ request: ConvolutionRequest) throws {
        guard let problem = request.problem, let folder = request.folder else { throw Failure("load needs a problem") }
        self.problem = pf_convolution2d(problem)
        context = pf_context(
            threads: request.threads ?? 0, numerics: pf_numerics(rawValue: request.numerics ?? 0),
            isa: pf_isa(rawValue: request.isa ?? 0))
        input = try FloatBuffer(contentsOf: "\(folder)/input.f32")
        weight = try FloatBuffer(contentsOf: "\(folder)/weight.f32")
        outputGradient = try FloatBuffer(contentsOf: "\(folder)/output_gradient.f32")
        results = [
            .forward: try FloatBuffer(count: outputGradient.count), .inputGradient: try FloatBuffer(count: input.count),
            .weightGradient: try FloatBuffer(count: weight.count),
        ]
    }

    /// `mask` is the weight gradient's.
    func run(_ pass: Pass, mask: [UInt8]? = nil) throws {
        let result = results[pass]!.pointer
        let status =
            switch pass {
            case .forward:
                pf_convolution2d_forward(
                    &context, &problem, pf_activation_none, input.pointer, weight.pointer, nil, result)
            case .inputGradient:
                pf_convolution2d_input_gradient(
                    &context, &problem, outputGradient.pointer, weight.pointer, pf_overwrite, result)
            case .weightGradient:
                pf_convolution2d_weight_gradient(
                    &context, &problem, input.pointer, outputGradient.pointer, mask, pf_overwrite, result)
            }
        guard status == pf_ok else {
            throw Failure("\(pass.rawValue): \(String(cString: pf_status_message(status)))")
        }
    }
}

/// Floats in a block of the kernels' arena.
final class FloatBuffer {
    let pointer: UnsafeMutablePointer<Float>
    let count: Int

    init(count: Int) throws {
        guard let block = pf_memory_allocate(4 * count) else { throw Failure("no memory for \(count) floats") }
        (pointer, self.count) = (block.bindMemory(to: Float.self, capacity: count), count)
    }

    convenience init(contentsOf path: String) throws {
        let bytes = try Data(contentsOf: URL(filePath: path), options: .alwaysMapped)
        try self.init(count: bytes.count / 4)
        bytes.withUnsafeBytes {
            UnsafeMutableRawPointer(pointer).copyMemory(from: $0.baseAddress!, byteCount: 4 * count)
        }
    }

    deinit { pf_memory_release(pointer) }

    var array: [Float] { Array(UnsafeBufferPointer(start: pointer, count: count)) }

    func write(to path: String) throws {
        let bytes = Data(bytesNoCopy: pointer, count: 4 * count, deallocator: .none)
        try bytes.write(to: URL(filePath: path))
    }
}
