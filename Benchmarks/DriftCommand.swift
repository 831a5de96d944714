import ArgumentParser
import Foundation
import Permafrost

struct DriftCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "drift",
        abstract: "Trains one convolution for 20 steps with one weight held at 1, and prints where that weight ends.",
        discussion: """
            mask and callback are this library's freezes, recipe and pin the two well-known hooks, all four in \
            Permafrost; with --peer pytorch the first of the hooks in PyTorch too, from the same weights and input. \
            The exit code is 1 when a freeze let the weight move.
            """)

    @Option(help: "What to compare with: pytorch.") var peer: PeerName?
    @Option(help: "Of the weights and the input.") var seed: UInt64 = 0
    @OptionGroup var output: OutputOptions

    func run() throws {
        let torch = try peer.map { _ in try Peer(script: "drift.py") }
        let drift = Drift(seed: seed)
        let rows = try Drift.Setting.all.flatMap { setting in
            try [true, false].map { inputGrad in
                DriftReport.Row(
                    optimizer: setting.name, inputGrad: inputGrad,
                    peer: try torch?.finalValue(drift, setting, inputGrad: inputGrad),
                    mask: try drift.finalValue(setting, inputGrad: inputGrad, way: .mask),
                    callback: try drift.finalValue(setting, inputGrad: inputGrad, way: .callback),
                    recipe: try drift.finalValue(setting, inputGrad: inputGrad, way: .recipe),
                    pin: try drift.finalValue(setting, inputGrad: inputGrad, way: .pin))
            }
        }
        try output.print(
            DriftReport(value: Drift.value, steps: Drift.steps, seed: seed, peer: torch?.greeting, rows: rows))
        if rows.contains(where: { $0.mask != Drift.value || $0.callback != Drift.value }) {
            throw Failure("a frozen weight moved")
        }
    }
}

struct DriftReport: Report {
    struct Row: Encodable {
        let optimizer: String
        let inputGrad: Bool
        let peer: Float?
        let mask, callback, recipe, pin: Float

        enum CodingKeys: String, CodingKey {
            case optimizer, peer, mask, callback, recipe, pin
            case inputGrad = "input_grad"
        }
    }

    static let columns = ["optimizer", "input_grad", "peer", "mask", "callback", "recipe", "pin"]

    let value: Float
    let steps: Int
    let seed: UInt64
    let peer: Peer.Greeting?
    let rows: [Row]

    var text: String { "\(title)\n\n\(table)" }
    var html: String { "<h1>\(title)</h1>\n\(table.html)" }

    private var title: String { "One weight of a 3x3 convolution, set to 1 and held: its value after \(steps) steps" }

    private var table: TextTable {
        var table = TextTable(
            ["optimizer", "input grad"] + (peer.map { ["\($0.name) \($0.version)"] } ?? [])
                + ["mask", "callback", "recipe", "pin"],
            left: 2)
        for row in rows {
            let values = (row.peer.map { [$0] } ?? []) + [row.mask, row.callback, row.recipe, row.pin]
            table.add([row.optimizer, row.inputGrad ? "yes" : "no"] + values.map { fixed(Double($0), 9) })
        }
        return table
    }
}

extension Peer {
    /// The same experiment with PyTorch's version of the recipe.
    func finalValue(_ drift: Drift, _ setting: Drift.Setting, inputGrad: Bool) throws -> Float {
        struct Options: Encodable {
            let lr, weight_decay: Double
            let momentum: Double?
        }
        struct Request: Encodable {
            let weight, bias, input: Nested
            let index: [Int]
            let value: Float
            let optimizer: String
            let options: Options
            let steps, freeze_at: Int
            let input_grad: Bool
        }
        struct Answer: Decodable { let value: Float }
        let answer: Answer = try ask(
            Request(
                weight: Nested(drift.weight), bias: Nested(drift.bias), input: Nested(drift.input), index: Drift.index,
                value: Drift.value, optimizer: setting.rule.rawValue,
                options: Options(
                    lr: Drift.Setting.learningRate, weight_decay: setting.weightDecay,
                    momentum: setting.rule == .sgd ? setting.momentum : nil),
                steps: Drift.steps, freeze_at: setting.freezeAt, input_grad: inputGrad))
        return answer.value
    }
}

/// A tensor as lists in lists.
private struct Nested: Encodable {
    let tensor: Tensor

    init(_ tensor: Tensor) { self.tensor = tensor }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.unkeyedContainer()
        if tensor.rank == 1 {
            for scalar in tensor.scalars { try container.encode(scalar) }
        } else {
            for row in 0..<tensor.shape[0] { try container.encode(Nested(tensor[row])) }
        }
    }
}
