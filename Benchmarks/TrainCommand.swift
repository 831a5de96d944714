import ArgumentParser
import Foundation
import Permafrost

struct TrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "train",
        abstract: "Times whole training steps: forward, cross entropy, backward, SGD with momentum.",
        discussion: """
            Both sides start from the same weights and batch, and their first losses must agree. Memory is a process's \
            peak resident size less its resident size when the network had been built; misses are the blocks of memory \
            that steps after the third took from the system instead of the arena.
            """)

    @Argument(help: "Networks: \(NetworkName.allCases.map(\.rawValue).joined(separator: " ")).")
    var networks = NetworkName.allCases
    @Option(help: "Images. (default: two-conv 16 and 128, resnet20 128, resnet18 32, mobilenetv2 64)")
    var batch: Int?
    @Option(help: "Threads; 0 for as many as there are.") var threads = 0
    @Option(help: "What to compare with: pytorch.") var peer: PeerName?
    @Option(help: "How many times the sides take turns.") var rounds = 5
    @Option(help: "The least milliseconds of a turn.") var turn = 300.0
    @Option(help: "Of the weights and the batch.") var seed: UInt64 = 0
    @OptionGroup var output: OutputOptions

    func validate() throws {
        if let batch, batch <= 0 { throw ValidationError("--batch must be positive, not \(batch).") }
        guard threads >= 0 else { throw ValidationError("--threads can't be negative: \(threads).") }
        guard rounds > 0 else { throw ValidationError("--rounds must be positive, not \(rounds).") }
        guard turn > 0, turn.isFinite else { throw ValidationError("--turn must be positive.") }
    }

    func run() throws {
        var rows: [TrainReport.Row] = [], greeting: Peer.Greeting?
        for network in networks {
            for batch in batch.map({ [$0] }) ?? network.batches {
                progress("\(network.rawValue), batch \(batch)")
                let (row, peer) = try measure(network, batch)
                rows.append(row)
                greeting = peer
            }
        }
        try output.print(TrainReport(peer: greeting, rows: rows))
    }

    /// One side: a process that has one network in one layout.
    private struct Side {
        let process: Peer
        let layout: Layout

        func time(steps: Int) throws -> [Double] {
            let answer = try train(steps: steps)
            guard let seconds = answer.seconds, seconds.count == steps else { throw Failure("no times came") }
            return seconds
        }

        func train(steps: Int) throws -> TrainAnswer {
            try process.awake { try process.ask(TrainRequest(op: .train, repetitions: steps)) }
        }

        func memory() throws -> (bytes: Int, misses: Int?) {
            let answer: TrainAnswer = try process.awake { try process.ask(TrainRequest(op: .memory)) }
            guard let bytes = answer.bytes else { throw Failure("no size came") }
            return (bytes, answer.misses)
        }
    }

    private func measure(_ network: NetworkName, _ batch: Int) throws -> (TrainReport.Row, Peer.Greeting?) {
        let folder = FileManager.default.temporaryDirectory.appending(path: "permafrost-bench-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try write(network, batch, to: folder)

        var sides = [Side(process: try Peer.worker("train-worker"), layout: .contiguous)]
        if peer != nil {
            for layout in Layout.allCases { sides.append(Side(process: try Peer(script: "train.py"), layout: layout)) }
        }
        for side in sides { side.process.pause() }
        let threads = threads > 0 ? threads : sides[0].process.greeting.threads
        for side in sides {
            try side.process.awake {
                let _: TrainAnswer = try side.process.ask(
                    TrainRequest(
                        op: .load, network: network, folder: folder.path, batch: batch, threads: threads,
                        layout: side.layout))
            }
        }
        let losses = try sides.map { try $0.train(steps: 3).losses ?? [] }
        for other in losses.dropFirst() {
            // The first differs by rounding alone. Later ones by what that makes of an activation at a kink of ReLU:
            // one that falls to the other side changes gradients by a share of a percent.
            let agree = zip(losses[0], other).enumerated().allSatisfy { step, pair in
                abs(pair.0 - pair.1) <= (step == 0 ? 1e-4 : 5e-2) * max(1, abs(pair.0))
            }
            guard agree, other.count == losses[0].count else {
                throw Failure("\(network.rawValue): the first losses are \(losses[0]) here and \(other) in the peer")
            }
        }
        let comparison = try Alternation(rounds: rounds, turn: turn / 1000).run(sides.map { side in side.time })
        let memory = try sides.map { try $0.memory() }
        let row = TrainReport.Row(
            network: network.rawValue, batch: batch, threads: threads, ours_ms: 1e3 * comparison.ours,
            peer_ms: comparison.best.map { 1e3 * $0.seconds },
            peer_layout: comparison.best.map { sides[$0.index + 1].layout }, ratio: comparison.best?.ratio.median,
            ratio_lower: comparison.best?.ratio.lowerQuartile, ratio_upper: comparison.best?.ratio.upperQuartile,
            ours_megabytes: Double(memory[0].bytes) / 1e6,
            peer_megabytes: memory.dropFirst().map(\.bytes).min().map { Double($0) / 1e6 },
            arena_misses: memory[0].misses ?? 0)
        return (row, sides.dropFirst().first?.process.greeting)
    }

    /// The weights and a batch that all sides take.
    private func write(_ network: NetworkName, _ batch: Int, to folder: URL) throws {
        manualSeed(seed)
        let weights = network.make().stateDictionary().safetensors()
        try weights.write(to: folder.appending(path: "weights.safetensors").path)
        var random = SplitMix(state: seed)
        let images = random.floats(batch * network.imageShape.reduce(1, *))
        let labels = (0..<batch).map { _ in Int32(random.next() % 10) }
        try images.withUnsafeBytes { try Data($0).write(to: folder.appending(path: "images.f32")) }
        try labels.withUnsafeBytes { try Data($0).write(to: folder.appending(path: "labels.i32")) }
    }
}

extension NetworkName: ExpressibleByArgument {}

struct TrainReport: Report {
    struct Row: Encodable {
        let network: String
        let batch, threads: Int
        let ours_ms: Double
        /// The peer's better layout.
        let peer_ms: Double?
        let peer_layout: Layout?
        /// The peer's time over ours: the median over the rounds, and its quartiles.
        let ratio, ratio_lower, ratio_upper: Double?
        let ours_megabytes: Double
        /// Of the layout that needs less.
        let peer_megabytes: Double?
        /// Blocks that our steps after the third took from the system.
        let arena_misses: Int
    }

    static let columns = [
        "network", "batch", "threads", "ours_ms", "peer_ms", "peer_layout", "ratio", "ratio_lower", "ratio_upper",
        "ours_megabytes", "peer_megabytes", "arena_misses",
    ]

    let peer: Peer.Greeting?
    let rows: [Row]

    private var table: TextTable {
        var table = TextTable(
            ["network", "batch", "ms a step"] + (peer.map { ["\($0.name) ms", "ratio", "quartiles"] } ?? [])
                + ["MB"] + (peer.map { ["\($0.name) MB"] } ?? []) + ["misses"], left: 1)
        for row in rows {
            var cells = [row.network, "\(row.batch)", fixed(row.ours_ms, 2)]
            if let time = row.peer_ms, let ratio = row.ratio, let lower = row.ratio_lower, let upper = row.ratio_upper {
                cells += [fixed(time, 2), fixed(ratio, 2), "\(fixed(lower, 2))-\(fixed(upper, 2))"]
            }
            table.add(
                cells + [fixed(row.ours_megabytes, 0)] + (row.peer_megabytes.map { [fixed($0, 0)] } ?? [])
                    + ["\(row.arena_misses)"])
        }
        return table
    }

    private var title: String {
        "Training steps, \(rows.first?.threads ?? 0) threads" + (peer.map { ", beside \($0.name) \($0.version)" } ?? "")
    }

    var text: String { "\(title)\n\n\(table)" }

    var html: String {
        let bars = rows.compactMap { row in
            row.ratio.map {
                (label: "\(row.network), batch \(row.batch)", bars: [BarChart.Bar(value: $0, pass: .forward)])
            }
        }
        let chart = bars.isEmpty ? "" : "<h2>The peer's time over ours</h2>\n\(BarChart(groups: bars).svg)\n"
        return "<h1>\(title)</h1>\n\(chart)\(table.html)"
    }
}
