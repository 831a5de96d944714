import ArgumentParser

struct StressCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stress",
        abstract: "Freezes and thaws at random in random trainings, and counts frozen bits that changed.",
        discussion: """
            Networks, optimizers, selections, routes, times of freezing and thawing, copies in mid-training, resumes \
            from checkpoint files and meddling with gradients and values are drawn from the seed. After every step \
            each element that ought to be frozen is compared with the bits it ought to have, and its gradient and its \
            state in the optimizer with +0.0. The exit code is 1 when one differs.
            """)

    @Option(help: "How many comparisons at least: frozen elements times steps.") var elementSteps = 10_000_000
    @Option(help: "Of everything that is drawn.") var seed: UInt64 = 0
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard elementSteps > 0 else {
            throw ValidationError("--element-steps must be positive, not \(elementSteps).")
        }
    }

    func run() throws {
        var stress = Stress(seed: seed)
        try stress.run(elementSteps: elementSteps)
        try output.print(StressReport(seed: seed, counts: stress.counts))
        if let failure = stress.firstFailure { throw Failure("a frozen element moved: \(failure)") }
        if stress.counts.nonzeroGradients > 0 { throw Failure("a frozen element's gradient wasn't +0.0") }
        if stress.counts.nonzeroStates > 0 { throw Failure("a frozen element's state in its optimizer wasn't +0.0") }
    }
}

struct StressReport: Report {
    static let columns = [
        "element_steps", "changed_bits", "nonzero_gradients", "nonzero_states", "networks", "steps", "freezes",
        "conflicts", "thaws", "copies", "resumes",
    ]

    let seed: UInt64
    let counts: Stress.Counts

    var rows: [Stress.Counts] { [counts] }

    enum CodingKeys: String, CodingKey {
        case seed
    }

    func encode(to encoder: any Encoder) throws {
        try counts.encode(to: encoder)
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(seed, forKey: .seed)
    }

    private var table: TextTable {
        var table = TextTable(Self.columns, left: 0)
        table.add(
            [
                counts.elementSteps, counts.changedBits, counts.nonzeroGradients, counts.nonzeroStates, counts.networks,
                counts.steps, counts.freezes, counts.conflicts, counts.thaws, counts.copies, counts.resumes,
            ].map(String.init))
        return table
    }

    private var title: String { "Frozen elements compared after every step of random trainings, seed \(seed)" }
    var text: String { "\(title)\n\n\(table)" }
    var html: String { "<h1>\(title)</h1>\n\(table.html)" }
}
