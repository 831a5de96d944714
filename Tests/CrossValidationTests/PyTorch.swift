import Foundation
import Testing

/// A Python that can import torch, if there is one: `PERMAFROST_PYTHON` names it, else it is `python3`.
enum PyTorch {
    static let python = ProcessInfo.processInfo.environment["PERMAFROST_PYTHON"] ?? "python3"

    /// The version of torch there; nil when it can't be imported.
    static let version: String? = {
        let result = try? run(["-c", "import torch; print(torch.__version__)"])
        return result?.trimmingCharacters(in: .whitespacesAndNewlines)
    }()

    static var isAvailable: Bool { version != nil }
    static let reason: Comment =
        "compares with PyTorch itself; PERMAFROST_PYTHON (or python3) names no Python that imports torch"

    struct RunError: Error, CustomStringConvertible {
        let description: String
    }

    /// What the program printed; throws with what it complained about when it fails.
    @discardableResult
    static func run(_ arguments: [String], input: Data = Data()) throws -> String {
        let process = Process(), output = Pipe()
        let folder = FileManager.default.temporaryDirectory.appending(path: "permafrost-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let given = folder.appending(path: "input"), complaints = folder.appending(path: "complaints")
        try input.write(to: given)
        try Data().write(to: complaints)
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [python] + arguments
        process.standardInput = try FileHandle(forReadingFrom: given)
        process.standardOutput = output
        process.standardError = try FileHandle(forWritingTo: complaints)
        try process.run()
        let printed = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            let text = (try? String(contentsOf: complaints, encoding: .utf8)) ?? ""
            throw RunError(description: "\(python) \(arguments) ended with \(process.terminationStatus): \(text)")
        }
        return String(decoding: printed, as: UTF8.self)
    }

    /// Lets PyTorch compute goldens of another seed.
    static func makeGoldens(seed: UInt32, configurations: Int, elements: Int) throws -> Goldens {
        let folder = FileManager.default.temporaryDirectory.appending(path: "permafrost-goldens-\(UUID().uuidString)")
        let script = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "peers/make_goldens.py")
        try run([
            script.path, folder.path, "--seed", "\(seed)", "--configurations", "\(configurations)", "--elements",
            "\(elements)",
        ])
        return Goldens(folder: folder, description: "PyTorch \(version ?? "") with seed \(seed)")
    }
}
