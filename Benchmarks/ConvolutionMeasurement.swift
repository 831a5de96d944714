import CKernels
import Foundation

/// Times one layer's passes in this library's worker and, alternating with it, in a peer.
///
/// Whoever isn't measured is stopped, so that idle threads spin on nobody's cores. A side's turn is several
/// repetitions, of which the first is dropped (caches and clocks are the other's) and the median counts; the figure is
/// the median over the rounds.
struct ConvolutionMeasurement {
    /// A side in one layout.
    private struct Side {
        let process: Peer
        let layout: Layout
    }

    let ours: Peer
    let peer: Peer?
    let context: pf_context
    /// Operations a second that the machine can do with this context.
    let peak: Double
    let rounds: Int
    /// The least time of one turn.
    let turn: Double

    /// A result further from the reference than this share of its largest value gets no figure.
    static let errorLimit = 1e-5

    func measure(_ layer: Layer, suite: String, passes: [Pass], seed: UInt64) throws -> [ConvolutionReport.Row] {
        let data = try ConvolutionData(layer, seed: seed)
        let load = ConvolutionRequest(
            op: .load, problem: .init(layer), folder: data.folder.path, threads: Int32(context.threadCount),
            numerics: context.numerics.rawValue, isa: context.isa.rawValue)
        let processes = [ours] + (peer.map { [$0] } ?? [])
        for process in processes {
            try awake(process) { let _: ConvolutionAnswer = try process.ask(load) }
        }
        return try passes.map { try measure(layer, data, suite: suite, pass: $0) }
    }

    private func measure(
        _ layer: Layer, _ data: ConvolutionData, suite: String, pass: Pass
    ) throws -> ConvolutionReport.Row {
        let error = try check(ours, data, pass, name: "this library")
        let peerError = try peer.map { try check($0, data, pass, name: $0.greeting.name) }
        let sides =
            [Side(process: ours, layout: .contiguous)]
            + (peer.map { peer in Layout.allCases.map { Side(process: peer, layout: $0) } } ?? [])
        let repetitions = try sides.map { side in
            let once = try time(side, pass, repetitions: 2).last!
            return max(1, min(1000, Int((turn / once).rounded(.up))))
        }
        var seconds = sides.map { _ in [Double]() }
        for round in 0..<rounds {
            for offset in sides.indices {
                let index = (round + offset) % sides.count  // nobody is always after the same
                let turn = try time(sides[index], pass, repetitions: repetitions[index] + 1)
                seconds[index].append(Statistics(Array(turn.dropFirst())).median)
            }
        }
        let medians = seconds.map { Statistics($0).median }
        let best = sides.indices.dropFirst().min { medians[$0] < medians[$1] }
        let ratios = best.map { best in Statistics(zip(seconds[best], seconds[0]).map { $0 / $1 }) }
        let rate = layer.operations / medians[0]
        return ConvolutionReport.Row(
            suite: suite, layer: layer.description, batch: layer.batch,
            threads: context.threadCount, pass: pass,
            ours_ms: 1e3 * medians[0], peer_ms: best.map { 1e3 * medians[$0] },
            peer_layout: best.map { sides[$0].layout }, ratio: ratios?.median,
            ratio_lower: ratios?.lowerQuartile, ratio_upper: ratios?.upperQuartile, gigaflops: rate / 1e9,
            percent_of_peak: 100 * rate / peak, algorithm: try layer.algorithm(pass, context),
            max_error: error, peer_max_error: peerError)
    }

    private func time(_ side: Side, _ pass: Pass, repetitions: Int) throws -> [Double] {
        try awake(side.process) {
            let answer: ConvolutionAnswer = try side.process.ask(
                ConvolutionRequest(op: .time, pass: pass, layout: side.layout, repetitions: repetitions))
            guard let seconds = answer.seconds, seconds.count == repetitions else { throw Failure("no times came") }
            return seconds
        }
    }

    private func check(_ process: Peer, _ data: ConvolutionData, _ pass: Pass, name: String) throws -> Double {
        let path = data.folder.appending(path: "result.f32")
        try awake(process) {
            let _: ConvolutionAnswer = try process.ask(
                ConvolutionRequest(op: .save, pass: pass, layout: .contiguous, path: path.path))
        }
        let bytes = try Data(contentsOf: path)
        try FileManager.default.removeItem(at: path)
        let result = bytes.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        let error = try data.error(of: result, pass)
        guard error <= ConvolutionMeasurement.errorLimit else {
            throw Failure("\(data.layer), \(pass.rawValue): the result of \(name) is wrong by \(error)")
        }
        return error
    }

    private func awake<R>(_ process: Peer, _ body: () throws -> R) throws -> R {
        process.resume()
        defer { process.pause() }
        return try body()
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
