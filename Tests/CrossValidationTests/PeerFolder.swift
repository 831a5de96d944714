import Foundation
import Permafrost

/// A folder through which a test and a program of `peers/` exchange files; it goes away with its last reference.
final class PeerFolder {
    private let location: URL

    init() throws {
        location = FileManager.default.temporaryDirectory.appending(path: "permafrost-peer-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: location, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: location) }

    /// The path of a file in the folder, which need not exist.
    func path(_ name: String) -> String { location.appending(path: name).path }

    /// Runs a program with `arguments` and the folder's path behind them, `request` on its standard input as JSON;
    /// returns what it printed.
    @discardableResult
    func run(_ script: String, _ arguments: [String] = [], request: (some Encodable)? = Bool?.none) throws -> Data {
        let program = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "peers/\(script)")
        let printed = try PyTorch.run(
            [program.path] + arguments + [location.path], input: request.map { try JSONEncoder().encode($0) } ?? Data())
        return Data(printed.utf8)
    }

    func state(_ name: String) throws -> StateDictionary { StateDictionary(try .read(path(name))) }

    func write(_ state: StateDictionary, to name: String) throws { try state.safetensors().write(to: path(name)) }
}

extension StateDictionary {
    /// The elements of a float32 or float64 tensor that a test relies on.
    func doubles(_ name: String) throws -> [Double] {
        struct MissingError: Error, CustomStringConvertible {
            let description: String
        }
        guard let stored = self[stored: name] else { throw MissingError(description: "no \(name) among \(names)") }
        if stored.dataType == .float64 {
            return [Double](unsafeUninitializedCapacity: stored.count) { buffer, count in
                UnsafeMutableRawBufferPointer(buffer).copyBytes(from: stored.bytes)
                count = stored.count
            }
        }
        guard let tensor = stored.tensor() else { throw MissingError(description: "\(name) is \(stored.dataType)") }
        return tensor.scalars.map(Double.init)
    }
}
