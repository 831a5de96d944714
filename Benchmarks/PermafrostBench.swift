import ArgumentParser

@main struct PermafrostBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "permafrost-bench",
        abstract: "Measures Permafrost, beside PyTorch where asked.",
        subcommands: [
            DriftCommand.self, RooflineCommand.self, ConvCommand.self, ShowCommand.self, MaskCommand.self,
            TrainCommand.self, CompareCommand.self, PlanCommand.self, CheckCommand.self, FreezeCommand.self,
            StressCommand.self, ConvolutionWorkerCommand.self, TrainWorkerCommand.self,
        ])
}
