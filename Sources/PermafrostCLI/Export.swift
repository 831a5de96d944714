import ArgumentParser
import Foundation
import Permafrost

struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Writes plain weights that PyTorch loads.",
        discussion: """
            In Python: model.load_state_dict(safetensors.torch.load_file("weights.safetensors")). Parameters and \
            buffers only, under PyTorch's key names, frozen elements at their values.
            """)

    @Argument(help: ArgumentHelp("A run's folder, a checkpoint or a safetensors file.", valueName: "run|weights"))
    var source: String

    @Argument(help: ArgumentHelp("The file to write.", valueName: "file"))
    var destination: String

    @Flag(help: "Replace the file if there is one.")
    var overwrite = false

    func run() throws {
        let weights = try WeightsFile(source)
        if FileManager.default.fileExists(atPath: destination) && !overwrite {
            throw Failure("there is a file '\(destination)' already; --overwrite replaces it")
        }
        try weights.state.safetensors(metadata: ["format": "pt"]).write(to: destination)
        print("\(destination): \(weights.state.count) tensors, SHA-256 of the data \(weights.state.dataDigest)")
    }
}
