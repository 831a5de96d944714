import Foundation
import Permafrost
import Testing

/// `permafrost export` to PyTorch, and PyTorch's weights to `permafrost eval`: the same names, strictly, and the same
/// accuracy.
@Suite(.enabled(if: PyTorch.isAvailable, PyTorch.reason)) struct ExportTests {
    private let folder: PeerFolder

    init() throws { folder = try PeerFolder() }

    private struct Correct: Decodable, Equatable {
        let exported, made: Int
    }

    @Test(arguments: ["cnn", "resnet20"])
    func pyTorchLoadsWhatTheCommandExportsAndTheOtherWayRound(model: String) throws {
        let test = Digits.split(seed: 0).test
        var given = StateDictionary()
        given["images"] = test.images
        given[stored: "labels"] = StoredTensor(test.labels.map(Int64.init), shape: [test.count])
        try folder.write(given, to: "test.safetensors")
        try permafrost(
            "train", "--model", model, "--steps", "40", "--optimizer", "adamw", "--out", folder.path("run"), "--freeze",
            "conv1.weight[0,0,1,1]=1", "--freeze", model == "cnn" ? "fc2.bias" : "fc.bias")
        // Of the checkpoint: optimizer, freezes and random numbers stay behind.
        try permafrost("export", folder.path("run/checkpoint.safetensors"), folder.path("exported.safetensors"))

        let torch = try JSONDecoder().decode(Correct.self, from: folder.run("exported.py", [model]))
        let ours = try Correct(
            exported: correct(of: folder.path("exported.safetensors"), model),
            made: correct(of: folder.path("made.safetensors"), model))
        // Two classes whose outputs are equal but for rounding could be told apart differently.
        #expect(abs(ours.exported - torch.exported) <= 1 && abs(ours.made - torch.made) <= 1)
        #expect(torch.exported > test.count / 4, "40 steps teach something")
    }

    private func correct(of weights: String, _ model: String) throws -> Int {
        struct Answer: Decodable {
            let test_accuracy: Double
        }
        let output = try permafrost("eval", weights, "--model", model, "--dataset", "digits", "--json")
        let line = try #require(output.split(separator: "\n").last)
        let accuracy = try JSONDecoder().decode(Answer.self, from: Data(line.utf8)).test_accuracy
        return Int((accuracy * Double(Digits.split(seed: 0).test.count)).rounded())
    }

    /// What the program that lies beside the tests printed.
    @discardableResult
    private func permafrost(_ arguments: String...) throws -> String {
        let folders = [Bundle.main.bundleURL, Bundle.main.executableURL?.deletingLastPathComponent()].compactMap { $0 }
            + Bundle.allBundles.map { $0.bundleURL.deletingLastPathComponent() }
        let programs = folders.map { $0.appending(path: "permafrost") }
        let program = try #require(programs.first { FileManager.default.isExecutableFile(atPath: $0.path) })
        let process = Process(), output = folder.path("output")
        try Data().write(to: URL(filePath: output))
        process.executableURL = program
        process.arguments = arguments
        process.standardOutput = FileHandle(forWritingAtPath: output)
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "permafrost \(arguments)")
        return try String(contentsOfFile: output, encoding: .utf8)
    }
}
