import ArgumentParser
import Foundation
import Permafrost

struct Doctor: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Says what this build and this machine have: instruction set, threads, OpenMP, data sets, versions.")

    @Flag(help: "Print one line of JSON instead.")
    var json = false

    private struct Findings: Encodable {
        let version: String
        let swift: String
        let zlib: String
        let system: String
        let instructionSet: String
        let supportedInstructionSets: [String]
        let openmp: Bool
        let threads: Int
        let processors: Int
        let fashionMnist: Bool
    }

    func run() throws {
        let findings = Findings(
            version: PermafrostCommand.version, swift: compilerVersion, zlib: Machine.zlibVersion,
            system: ProcessInfo.processInfo.operatingSystemVersionString,
            instructionSet: Machine.instructionSet.name,
            supportedInstructionSets: InstructionSet.supported.map(\.name), openmp: Machine.hasOpenMP,
            threads: Machine.threads, processors: ProcessInfo.processInfo.activeProcessorCount,
            fashionMnist: FileManager.default.fileExists(
                atPath: FashionMNIST.defaultDirectory + "/train-images-idx3-ubyte.gz"))
        print(json ? try findings.jsonLine() : description(of: findings))
    }

    private func description(of findings: Findings) -> String {
        let forced = ProcessInfo.processInfo.environment["PERMAFROST_ISA"]
        var rows = [
            ("permafrost", findings.version),
            (
                "instruction set",
                "\(findings.instructionSet), of \(findings.supportedInstructionSets.joined(separator: ", "))"
                    + (forced.map { " (PERMAFROST_ISA is '\($0)')" } ?? "")
            ),
            ("threads", "\(findings.threads), on \(findings.processors) processors"),
        ]
        rows.append((
            "OpenMP",
            findings.openmp
                ? "found" : "not found: everything runs on one thread (on Debian install libomp-dev, then build again)"
        ))
        rows.append((
            "Fashion-MNIST",
            findings.fashionMnist
                ? FashionMNIST.defaultDirectory
                : "not found in \(FashionMNIST.defaultDirectory) (on Debian install dataset-fashion-mnist)"
        ))
        rows.append(("versions", "Swift \(findings.swift), zlib \(findings.zlib), \(findings.system)"))
        return rows.map { $0.0.padding(toLength: 17, withPad: " ", startingAt: 0) + $0.1 }.joined(separator: "\n")
    }

    /// Of the compiler that built this program; the language has no finer question to ask.
    private var compilerVersion: String {
        #if compiler(>=6.4)
            "6.4 or later"
        #elseif compiler(>=6.3)
            "6.3"
        #else
            "6.2"
        #endif
    }
}
