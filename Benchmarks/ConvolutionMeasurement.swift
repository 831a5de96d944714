import CKernels
import Foundation

/// Times one layer's passes in this library's worker and, alternating with it, in a peer.
struct ConvolutionMeasurement {
    let ours: Peer
    let peer: Peer?
    let context: pf_context
    /// Operations a second that the machine can do with this context.
    let peak: Double
    let alternation: Alternation

    /// A result further from the reference than this share of its largest value gets no figure.
    static let errorLimit = 1e-5
    /// The same for a peer: it must have computed the same problem, how exactly is its own affair.
    static let peerErrorLimit = 1e-3

    func measure(_ layer: Layer, suite: String, passes: [Pass], seed: UInt64) throws -> [ConvolutionReport.Row] {
        let data = try ConvolutionData(layer, seed: seed)
        let load = ConvolutionRequest(
            op: .load, problem: .init(layer), folder: data.folder.path, threads: Int32(context.threadCount),
            numerics: context.numerics.rawValue, isa: context.isa.rawValue)
        let processes = [ours] + (peer.map { [$0] } ?? [])
        for process in processes {
            try process.awake { let _: ConvolutionAnswer = try process.ask(load) }
        }
        return try passes.map { try measure(layer, data, suite: suite, pass: $0) }
    }

    private func measure(
        _ layer: Layer, _ data: ConvolutionData, suite: String, pass: Pass
    ) throws -> ConvolutionReport.Row {
        let error = try check(ours, data, pass, name: "this library", limit: ConvolutionMeasurement.errorLimit)
        let peerError = try peer.map {
            try check($0, data, pass, name: $0.greeting.name, limit: ConvolutionMeasurement.peerErrorLimit)
        }
        let layouts = peer == nil ? [] : Layout.allCases
        let sides =
            [{ try time(ours, .contiguous, pass, repetitions: $0) }]
            + layouts.map { layout in { try time(peer!, layout, pass, repetitions: $0) } }
        let comparison = try alternation.run(sides)
        let rate = layer.operations / comparison.ours
        return ConvolutionReport.Row(
            suite: suite, layer: layer.description, batch: layer.batch, threads: context.threadCount, pass: pass,
            ours_ms: 1e3 * comparison.ours, peer_ms: comparison.best.map { 1e3 * $0.seconds },
            peer_layout: comparison.best.map { layouts[$0.index] }, ratio: comparison.best?.ratio.median,
            ratio_lower: comparison.best?.ratio.lowerQuartile, ratio_upper: comparison.best?.ratio.upperQuartile,
            gigaflops: rate / 1e9, percent_of_peak: 100 * rate / peak, algorithm: try layer.algorithm(pass, context),
            max_error: error, peer_max_error: peerError)
    }

    private func time(_ process: Peer, _ layout: Layout, _ pass: Pass, repetitions: Int) throws -> [Double] {
        try process.awake {
            let answer: ConvolutionAnswer = try process.ask(
                ConvolutionRequest(op: .time, pass: pass, layout: layout, repetitions: repetitions))
            guard let seconds = answer.seconds, seconds.count == repetitions else { throw Failure("no times came") }
            return seconds
        }
    }

    private func check(
        _ process: Peer, _ data: ConvolutionData, _ pass: Pass, name: String, limit: Double
    ) throws -> Double {
        let path = data.folder.appending(path: "result.f32")
        try process.awake {
            let _: ConvolutionAnswer = try process.ask(
                ConvolutionRequest(op: .save, pass: pass, layout: .contiguous, path: path.path))
        }
        let bytes = try Data(contentsOf: path)
        try FileManager.default.removeItem(at: path)
        let result = bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        let error = try data.error(of: result, pass)
        guard error <= limit else {
            throw Failure("\(data.layer), \(pass.rawValue): the result of \(name) is wrong by \(error)")
        }
        return error
    }
}

extension pf_context {
    /// The threads that it stands for.
    var threadCount: Int { Int(threads > 0 ? threads : pf_available_threads()) }
}

extension ConvolutionRequest.Problem {
    init(_ layer: Layer) {
        let p = layer.problem
        self.init(
            batch: p.batch, input_channels: p.input_channels, input_height: p.input_height,
            input_width: p.input_width, output_channels: p.output_channels, kernel_height: p.kernel_height,
            kernel_width: p.kernel_width, stride_height: p.stride_height, stride_width: p.stride_width,
            padding_top: p.padding_top, padding_bottom: p.padding_bottom, padding_left: p.padding_left,
            padding_right: p.padding_right, dilation_height: p.dilation_height, dilation_width: p.dilation_width,
            groups: p.groups)
    }
}
