import ArgumentParser
import CKernels
import Foundation

enum PeerName: String, ExpressibleByArgument, CaseIterable {
    case pytorch
}

/// What a command fails with: one line on standard error, exit code 1.
struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}

/// Another process that answers lines of JSON with lines of JSON: a Python program from `peers/`, or this program's own
/// worker.
///
/// It can be stopped while something else is measured, so that its idle threads don't spin on the cores. Its threads are
/// bound to cores, unless the environment says otherwise: a process that is resumed may else run two of them on one core
/// for as long as a measurement takes.
final class Peer {
    struct Greeting: Codable {
        let peer, version: String
        let threads: Int

        var name: String { peer == "pytorch" ? "PyTorch" : peer }
    }

    let greeting: Greeting
    private let name: String
    private let process = Process()
    private let requests: FileHandle
    private let answers: FileHandle
    private var received = Data()

    /// The Python that peers run in: `PERMAFROST_PYTHON`, else `python3`.
    static let python = ProcessInfo.processInfo.environment["PERMAFROST_PYTHON"] ?? "python3"

    convenience init(script: String) throws {
        let path = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "peers/\(script)").path
        guard FileManager.default.fileExists(atPath: path) else {
            throw Failure("the peer's program \(path) isn't there: run permafrost-bench from its checkout")
        }
        try self.init(command: ["/usr/bin/env", Peer.python, path], name: script)
    }

    /// This program's own process for what is measured; `command` is a subcommand that calls `serve`.
    static func worker(_ command: String) throws -> Peer {
        let program = Bundle.main.executablePath ?? CommandLine.arguments[0]
        return try Peer(command: [program, command], name: command)
    }

    init(command: [String], name: String) throws {
        self.name = name
        let input = Pipe(), output = Pipe()
        process.executableURL = URL(filePath: command[0])
        process.arguments = Array(command.dropFirst())
        process.environment = ProcessInfo.processInfo.environment.merging(
            ["OMP_PROC_BIND": "true", "OMP_PLACES": "cores"], uniquingKeysWith: { given, _ in given })
        process.standardInput = input
        process.standardOutput = output
        requests = input.fileHandleForWriting
        answers = output.fileHandleForReading
        signal(SIGPIPE, SIG_IGN)  // a peer that ended shows as an error where it is asked
        try process.run()
        greeting = try Peer.decode(try Peer.line(from: answers, &received, process, name), name)
    }

    deinit {
        resume()
        try? requests.close()
        process.waitUntilExit()
    }

    /// The answer to a request; throws with the peer's own words when it has none.
    func ask<Answer: Decodable>(_ request: some Encodable) throws -> Answer {
        do {
            try requests.write(contentsOf: JSONEncoder().encode(request) + [UInt8(ascii: "\n")])
        } catch {
            throw Failure("\(name) takes no requests: \(error)")
        }
        return try Peer.decode(try Peer.line(from: answers, &received, process, name), name)
    }

    /// Stops the process, its threads included, until `resume`.
    func pause() { kill(process.processIdentifier, SIGSTOP) }
    func resume() { kill(process.processIdentifier, SIGCONT) }

    /// Lets the process run while `body` does, and stops it again.
    func awake<R>(_ body: () throws -> R) rethrows -> R {
        resume()
        defer { pause() }
        return try body()
    }

    private static func line(
        from handle: FileHandle, _ received: inout Data, _ process: Process, _ name: String
    ) throws -> Data {
        while true {
            if let end = received.firstIndex(of: UInt8(ascii: "\n")) {
                defer { received = Data(received[(end + 1)...]) }
                return received[..<end]
            }
            let more = handle.availableData
            guard !more.isEmpty else {
                process.waitUntilExit()
                throw Failure("\(name) ended with exit code \(process.terminationStatus) before it answered")
            }
            received += more
        }
    }

    private struct Complaint: Decodable { let error: String }

    private static func decode<Answer: Decodable>(_ line: Data, _ name: String) throws -> Answer {
        if let complaint = try? JSONDecoder().decode(Complaint.self, from: line) {
            throw Failure("\(name): \(complaint.error)")
        }
        do {
            return try JSONDecoder().decode(Answer.self, from: line)
        } catch {
            throw Failure("\(name) answered what wasn't expected: \(String(decoding: line, as: UTF8.self))")
        }
    }
}

/// Greets, then answers each line of standard input with a line of JSON until the input ends.
func serve<Request: Decodable, Answer: Encodable>(_ answer: (Request) throws -> Answer) throws {
    try printJSON(Peer.Greeting(peer: "permafrost", version: "", threads: Int(pf_available_threads())))
    while let line = readLine() {
        do {
            try printJSON(try answer(try JSONDecoder().decode(Request.self, from: Data(line.utf8))))
        } catch {
            try printJSON(["error": "\(error)"])
        }
    }
}
