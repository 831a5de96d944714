import ArgumentParser
import Permafrost

struct Verify: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Compares the frozen elements of two sets of weights, bit by bit.",
        discussion: """
            Each is a run's folder, a checkpoint or a safetensors file. Without --freeze: the elements that BEFORE (or \
            else AFTER) says are frozen; if neither says so, every element of the float32 tensors. Exit code 2 means \
            that one of them moved.
            """)

    @Argument(help: ArgumentHelp("The weights from before.", valueName: "before"))
    var before: String

    @Argument(help: ArgumentHelp("The weights from after.", valueName: "after"))
    var after: String

    @Option(
        help: ArgumentHelp(
            "Elements to compare, as in 'conv1.weight[0,0,1,1]=1'; with a value, they must have it. May come several "
                + "times.",
            valueName: "elements"))
    var freeze: [String] = []

    @Flag(help: "End standard output with one line of JSON.")
    var json = false

    private struct Result: Encodable {
        let before: String
        let after: String
        let checkedElements: Int
        let changedElements: Int
        let firstChanged: RunResult.FrozenElement?
    }

    func run() throws {
        let (old, new) = (try WeightsFile(before), try WeightsFile(after))
        let report = try makeAudit(old, new).report()
        print(report)
        if json {
            print(
                try Result(
                    before: old.path, after: new.path, checkedElements: report.checked,
                    changedElements: report.changed,
                    firstChanged: report.firstChanged.map(RunResult.FrozenElement.init)
                ).jsonLine())
        }
        if report.changed > 0 { throw ExitCode.frozenElementMoved }
    }

    private func makeAudit(_ old: WeightsFile, _ new: WeightsFile) throws -> Audit {
        if !freeze.isEmpty {
            let chosen = try freeze.map { try FreezeSpecification(parsing: $0) }
            return try Audit(comparing: old.state, with: new.state, at: chosen)
        }
        for file in [old, new] {
            // Freezes that are all off hold nothing: an audit of no element would prove nothing.
            if file.freezes.values.joined().contains(where: { $0.isEnabled && !$0.offsets.isEmpty }) {
                return try Audit(comparing: old.state, with: new.state, at: file.freezes)
            }
            let texts = file.freezeTexts
            if !texts.isEmpty {
                // Where the elements are, not what they should be: that is in the weights.
                let chosen = try texts.map { try FreezeSpecification(parsing: String($0.prefix { $0 != "=" })) }
                return try Audit(comparing: old.state, with: new.state, at: chosen)
            }
        }
        return try Audit(comparing: old.state, with: new.state)
    }
}
