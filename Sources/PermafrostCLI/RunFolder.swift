import Foundation
import Permafrost

/// The folder that a run leaves:
///
///     config.json           what was asked for
///     metrics.jsonl         one line an epoch
///     checkpoint.safetensors  where --resume goes on
///     weights.safetensors   the trained weights, PyTorch's key names
///     result.json           what came out: the object that `--json` prints
struct RunFolder {
    let path: String

    var config: String { path + "/config.json" }
    var metrics: String { path + "/metrics.jsonl" }
    var checkpoint: String { path + "/checkpoint.safetensors" }
    var weights: String { path + "/weights.safetensors" }
    var result: String { path + "/result.json" }
    private var files: [String] { [config, metrics, checkpoint, weights, result] }

    /// Whether a run has left its files here.
    var holdsRun: Bool { files.contains { FileManager.default.fileExists(atPath: $0) } }

    /// Checks, without leaving anything, that `path` can take a run.
    static func check(path: String, overwrite: Bool) throws {
        if path.isEmpty { throw Failure("--out needs the name of a folder") }
        let folder = RunFolder(path: path)
        if folder.holdsRun && !overwrite {
            throw Failure("'\(path)' already holds a run; choose another folder, or --overwrite to replace it")
        }
        // The nearest ancestor that exists is where folders would be made.
        var nearest = path
        var isFolder: ObjCBool = false
        while !FileManager.default.fileExists(atPath: nearest, isDirectory: &isFolder) {
            nearest = parent(of: nearest)
        }
        guard isFolder.boolValue else { throw Failure("can't write to '\(path)': '\(nearest)' is not a folder") }
        guard access(nearest, W_OK | X_OK) == 0 else {
            throw Failure("can't write to '\(path)': \(String(cString: strerror(errno)))")
        }
    }

    private static func parent(of path: String) -> String {
        var rest = path[...]
        while rest.count > 1 && rest.hasSuffix("/") { rest.removeLast() }
        guard let slash = rest.lastIndex(of: "/") else { return "." }
        return slash == rest.startIndex ? "/" : String(rest[..<slash])
    }

    /// Makes the folder `path`; an old run in it is removed.
    static func create(path: String) throws -> RunFolder {
        let folder = RunFolder(path: path)
        do {
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        } catch {
            throw Failure("can't make the folder '\(path)': \(systemReason(of: error))")
        }
        for file in folder.files where FileManager.default.fileExists(atPath: file) { try remove(file) }
        try folder.removeLeftovers()
        return folder
    }

    private static func remove(_ file: String) throws {
        guard unlink(file) == 0 else { throw Failure("can't remove '\(file)': \(String(cString: strerror(errno)))") }
    }

    /// Removes what a killed process was writing.
    private func removeLeftovers() throws {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        for name in names where name.hasPrefix(".") && name.hasSuffix(temporarySuffix) {
            try Self.remove(path + "/" + name)
        }
    }

    /// The run under `parent` that was begun last.
    static func newest(in parent: String) -> RunFolder? {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: parent)) ?? []
        let begun = names.compactMap { name -> (Date, RunFolder)? in
            let folder = RunFolder(path: parent + "/" + name)
            let attributes = try? FileManager.default.attributesOfItem(atPath: folder.config)
            return (attributes?[.modificationDate] as? Date).map { ($0, folder) }
        }
        return begun.max { ($0.0, $0.1.path) < ($1.0, $1.1.path) }?.1
    }

    /// Puts `trainer` where the last checkpoint was saved, and drops what was recorded after it.
    func prepareToResume(_ trainer: Trainer) throws {
        try removeLeftovers()
        if FileManager.default.fileExists(atPath: checkpoint) {
            do {
                try trainer.restore(Checkpoint.read(checkpoint))
            } catch {
                throw Failure("can't go on from '\(checkpoint)': \(error)")
            }
        }
        let recorded = (FileManager.default.contents(atPath: metrics) ?? Data()).split(separator: UInt8(ascii: "\n"))
        try write(recorded.prefix(trainer.epoch).map { $0 + "\n".utf8 }.reduce(Data(), +), to: metrics)
    }

    /// Makes the first of `parent/name-1`, `parent/name-2`, ... that doesn't exist.
    static func createNew(in parent: String, name: String) throws -> RunFolder {
        do {
            try FileManager.default.createDirectory(atPath: parent, withIntermediateDirectories: true)
        } catch {
            throw Failure("can't make the folder '\(parent)': \(systemReason(of: error))")
        }
        var number = 1
        while true {
            let path = "\(parent)/\(name)-\(number)"
            // mkdir is the test: two runs that start together get two folders.
            if mkdir(path, 0o777) == 0 { return RunFolder(path: path) }
            guard errno == EEXIST else {
                throw Failure("can't make the folder '\(path)': \(String(cString: strerror(errno)))")
            }
            number += 1
        }
    }

    func write(_ value: some Encodable, to file: String) throws {
        try write(Data((value.jsonLine() + "\n").utf8), to: file)
    }

    /// As checkpoints are written: a kill leaves the old file or the new one.
    private func write(_ data: Data, to file: String) throws {
        do {
            try data.withUnsafeBytes { try writeAtomically([$0], to: file) }
        } catch {
            throw Failure("can't write '\(file)': \(error)")
        }
    }

    /// Adds a line to the metrics.
    func append(_ record: some Encodable) throws {
        guard let file = fopen(metrics, "a") else {
            throw Failure("can't write '\(metrics)': \(String(cString: strerror(errno)))")
        }
        let written = fputs(try record.jsonLine() + "\n", file) >= 0
        guard fclose(file) == 0, written else {
            throw Failure("can't write '\(metrics)': \(String(cString: strerror(errno)))")
        }
    }

    /// What the folder's run was asked for.
    func readConfiguration() throws -> RunConfiguration {
        guard let data = FileManager.default.contents(atPath: config) else {
            throw Failure("'\(path)' holds no run: there is no readable \(config)")
        }
        let decoder = JSONDecoder()
        decoder.keyDecodingStrategy = .convertFromSnakeCase
        do {
            return try decoder.decode(RunConfiguration.self, from: data)
        } catch {
            throw Failure("'\(config)' is no configuration of a run that this version understands")
        }
    }
}

/// The operating system's words for an error of Foundation, which wraps them.
private func systemReason(of error: any Error) -> String {
    let error = error as NSError
    let cause = error.userInfo[NSUnderlyingErrorKey] as? NSError ?? error
    return cause.domain == NSPOSIXErrorDomain
        ? String(cString: strerror(Int32(cause.code))) : error.localizedDescription
}
