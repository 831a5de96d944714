import ArgumentParser
import Foundation

/// The command `permafrost`.
@main
struct PermafrostCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "permafrost",
        abstract: "Trains convolutional networks with single weight elements frozen to the bit.",
        version: version,
        subcommands: [Train.self, Eval.self, Inspect.self, Verify.self, Export.self, Doctor.self],
        defaultSubcommand: Train.self)

    static let version = "0.1.0"

    /// Reports an error in one line on standard error, so that it reads the same on a terminal and in a log.
    static func main() {
        letThreadsSleep()
        do {
            var command = try parseAsRoot()
            try command.run()
        } catch {
            let code = exitCode(for: error)
            // Help and version aren't errors; a command's own exit code comes after its own report.
            if code == .success || error is ExitCode { exit(withError: error) }
            let lines = message(for: error).split(whereSeparator: \.isNewline)
            writeToStandardError("error: " + lines.joined(separator: " ") + "\n")
            exit(withError: code)
        }
    }
}

/// Asks the OpenMP runtime, before it starts, to let threads that wait sleep at once instead of spinning for its
/// default of 200 ms: many times faster where other programs want the processors too. What the user has set stays.
private func letThreadsSleep() {
    let environment = ProcessInfo.processInfo.environment
    if environment["KMP_BLOCKTIME"] == nil && environment["OMP_WAIT_POLICY"] == nil { setenv("KMP_BLOCKTIME", "0", 1) }
}

/// Something that the user asked for and can't have, in one line.
struct Failure: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) {
        self.description = description
    }
}

func writeToStandardError(_ text: String) {
    FileHandle.standardError.write(Data(text.utf8))
}

extension ExitCode {
    /// A frozen element has other bits than before.
    static let frozenElementMoved = ExitCode(2)
}

extension Encodable {
    /// One line of JSON with snake_case keys in alphabetical order.
    func jsonLine() throws -> String {
        let encoder = JSONEncoder()
        encoder.keyEncodingStrategy = .convertToSnakeCase
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        return String(decoding: try encoder.encode(self), as: UTF8.self)
    }
}
