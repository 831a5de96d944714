import ArgumentParser
import Foundation
import Permafrost

struct Eval: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measures weights on test images.",
        discussion: """
            RUN is a folder that train has left, WEIGHTS a safetensors file with PyTorch's key names. What the run or \
            the file says of data set and model holds unless options say otherwise.
            """)

    @Argument(help: ArgumentHelp("A run's folder or a safetensors file.", valueName: "run|weights"))
    var source: String

    @Option
    var dataset: DatasetName?

    @Option(help: ArgumentHelp("The folder with the data set's gzip IDX files.", valueName: "folder"))
    var data: String?

    @Option
    var model: ModelName?

    @Option(parsing: .unconditional, help: "Of the digits' split.")
    var seed: UInt64?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("At most so many. (default: as many as there are processors)", valueName: "count"))
    var threads: Int?

    @Flag(help: "End standard output with one line of JSON.")
    var json = false

    private struct Result: Encodable {
        let dataset: String
        let model: String
        let weights: String
        let testImages: Int
        let testLoss: Double
        let testAccuracy: Double
        let weightsSHA256: String
    }

    func run() throws {
        try useThreads(threads)
        let file = try WeightsFile(source)
        let path = file.path
        let dataset = try dataset ?? known(file.metadata["permafrost.dataset"], option: "dataset", in: path)
        let model = try model ?? known(file.metadata["permafrost.model"], option: "model", in: path)
        guard let seed = seed ?? UInt64(file.metadata["permafrost.seed"] ?? "0") else {
            throw Failure("'\(path)' has the seed '\(file.metadata["permafrost.seed"]!)', which is no whole number")
        }
        try dataset.check(data: data)
        let network = try model.make(imageShape: dataset.imageShape, classCount: dataset.classCount)
        do {
            try network.load(stateDictionary: file.state)
        } catch let error as StateDictionaryError {
            throw Failure("'\(path)' doesn't hold the model \(model.rawValue): \(error)")
        }
        let test = try Evaluation(network, on: dataset.loadTest(from: data ?? file.dataFolder, seed: seed))
        print(
            "test accuracy \(percent(test.accuracy, digits: 2)) (\(grouped(test.correct)) of \(grouped(test.count))), "
                + String(format: "loss %.4f", test.loss) + "  \(dataset.rawValue), \(model.rawValue), \(path)")
        if json {
            print(
                try Result(
                    dataset: dataset.rawValue, model: model.rawValue, weights: path, testImages: test.count,
                    testLoss: test.loss, testAccuracy: test.accuracy, weightsSHA256: file.state.dataDigest
                ).jsonLine())
        }
    }

    private func known<Name: RawRepresentable<String> & CaseIterable>(
        _ value: String?, option: String, in path: String
    ) throws -> Name {
        let names = Name.allCases.map(\.rawValue).joined(separator: ", ")
        guard let value else {
            throw Failure("'\(path)' doesn't say its \(option): give --\(option) (one of \(names))")
        }
        guard let name = Name(rawValue: value) else {
            throw Failure("'\(path)' has the unknown \(option) '\(value)': give --\(option) (one of \(names))")
        }
        return name
    }
}
