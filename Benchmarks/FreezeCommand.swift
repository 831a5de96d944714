import ArgumentParser
import Permafrost

struct FreezeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "freeze",
        abstract: "Holds freezes, and PyTorch's recipe beside them, against what a freeze owes.",
        discussion: """
            The assertions of Tests/FREEZING.md as experiments, by both routes; with --peer pytorch the same \
            experiments with the well-known recipe there, whose hook zeroes the element's gradient. The exit code is 1 \
            when a freeze fails one.
            """)

    @Option(help: "What to compare with: pytorch.") var peer: PeerName?
    @OptionGroup var output: OutputOptions

    func run() throws {
        struct Request: Encodable {
            let number: Int
            let steps: Int
        }
        struct Answer: Decodable { let found: String? }
        let torch = try peer.map { _ in try Peer(script: "freeze.py") }
        let mask = FreezeBattery(route: .mask), callback = FreezeBattery(route: .callback)
        let rows = try FreezeBattery.assertions.map { assertion in
            FreezeReport.Row(
                number: assertion.number, assertion: assertion.text, mask: try assertion.check(mask) ?? "holds",
                callback: try assertion.check(callback) ?? "holds",
                peer: try torch.map { peer in
                    let answer: Answer = try peer.ask(Request(number: assertion.number, steps: FreezeBattery.steps))
                    return answer.found ?? "holds"
                })
        }
        try output.print(FreezeReport(steps: FreezeBattery.steps, peer: torch?.greeting, rows: rows))
        if let row = rows.first(where: { $0.mask != "holds" || $0.callback != "holds" }) {
            throw Failure("assertion \(row.number), \(row.assertion): mask \(row.mask), callback \(row.callback)")
        }
    }
}

struct FreezeReport: Report {
    struct Row: Encodable {
        let number: Int
        let assertion: String
        /// "holds", or what was found instead.
        let mask, callback: String
        let peer: String?
    }

    static let columns = ["number", "assertion", "mask", "callback", "peer"]

    let steps: Int
    let peer: Peer.Greeting?
    let rows: [Row]

    private var table: TextTable {
        var table = TextTable(
            ["", "assertion", "mask", "callback"] + (peer.map { ["\($0.name) \($0.version)'s recipe"] } ?? []), left: 5)
        for row in rows {
            table.add(["\(row.number)", row.assertion, row.mask, row.callback] + (row.peer.map { [shown($0)] } ?? []))
        }
        let columns = [rows.map(\.mask), rows.map(\.callback)] + (peer == nil ? [] : [rows.compactMap(\.peer)])
        table.add(["", "hold"] + columns.map { column in "\(column.count { $0 == "holds" }) of \(column.count)" })
        return table
    }

    private func shown(_ outcome: String) -> String { outcome == "holds" ? outcome : "fails: \(outcome)" }

    private var title: String { "What a freeze owes: a weight at 1, looked at over \(steps) steps" }
    var text: String { "\(title)\n\n\(table)" }
    var html: String { "<h1>\(title)</h1>\n\(table.html)" }
}
