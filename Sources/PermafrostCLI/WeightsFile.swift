import Foundation
import Permafrost

/// Weights that a command was pointed at: a run's folder, a checkpoint, or a safetensors file with plain weights.
struct WeightsFile {
    /// The file that was read.
    let path: String
    let state: StateDictionary
    /// What the file says of itself.
    let metadata: [String: String]
    /// The freezes that a checkpoint holds.
    let freezes: [String: [FreezeRecord]]
    /// Where the run had its data from, if `source` is a run's folder.
    let dataFolder: String?

    /// - Parameter preferCheckpoint: of a run's folder read the checkpoint, if there is one, instead of the final
    ///   weights.
    init(_ source: String, preferCheckpoint: Bool = false) throws {
        var isFolder: ObjCBool = false
        guard FileManager.default.fileExists(atPath: source, isDirectory: &isFolder) else {
            throw Failure("there is neither a run nor a file '\(source)'")
        }
        if isFolder.boolValue {
            let folder = RunFolder(path: source)
            let files = preferCheckpoint ? [folder.checkpoint, folder.weights] : [folder.weights]
            guard let found = files.first(where: { FileManager.default.fileExists(atPath: $0) }) else {
                throw Failure("'\(source)' holds no finished run: there is no \(folder.weights)")
            }
            path = found
            dataFolder = try? folder.readConfiguration().data
        } else {
            path = source
            dataFolder = nil
        }
        let file = try Safetensors.read(path)
        if Checkpoint.isCheckpoint(file) {
            let checkpoint: Checkpoint
            do { checkpoint = try Checkpoint(file) } catch { throw Failure("'\(path)': \(error)") }
            state = checkpoint.model
            freezes = checkpoint.freezes
            metadata = checkpoint.values
        } else {
            state = StateDictionary(file)
            freezes = [:]
            metadata = file.metadata
        }
    }

    /// The elements that the file says are frozen, by any route, as they are written on the command line.
    var freezeTexts: [String] {
        (metadata["permafrost.freeze"] ?? "").split(separator: ";").map(String.init)
    }

    /// Row-major offsets of the elements that the file says are frozen, by parameter: those of a checkpoint's freezes,
    /// or else those that the run was asked for.
    func frozenOffsets() throws -> [String: Set<Int>] {
        if !freezes.isEmpty {
            return freezes.mapValues { records in
                Set(records.filter(\.isEnabled).flatMap(\.offsets))
            }
        }
        var result: [String: Set<Int>] = [:]
        let parameters = state.names.compactMap { name in state[name].map { (name: name, parameter: Parameter($0)) } }
        for freeze in try freezeTexts.map({ try FreezeSpecification(parsing: $0) }) {
            let parameter = try freeze.find(in: parameters)
            let handle = try parameter.freeze(freeze.selection(in: parameter.shape))
            result[freeze.parameter, default: []].formUnion(handle.record.offsets)
        }
        return result
    }
}
