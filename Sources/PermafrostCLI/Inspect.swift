import ArgumentParser
import Foundation
import Permafrost

struct Inspect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Lists tensors, and prints kernels with their frozen elements marked.",
        discussion: "FILE is a run's folder, a checkpoint or a safetensors file.")

    @Argument(help: ArgumentHelp("What to look into.", valueName: "file"))
    var source: String

    @Option(help: ArgumentHelp("Print all of one tensor.", valueName: "name"))
    var tensor: String?

    @Flag(help: "Print one line of JSON instead.")
    var json = false

    private struct Listing: Encodable {
        struct Row: Encodable {
            let name: String
            let type: String
            let shape: [Int]
            let elements: Int
            let frozen: Int
        }

        let file: String
        let tensors: [Row]
        let elements: Int
        let frozen: Int
        let dataSHA256: String
        let metadata: [String: String]
    }

    /// So many kernels of a tensor are printed unless it was asked for by name.
    private static let kernelLimit = 4

    func run() throws {
        if json && tensor != nil { throw Failure("--json lists all tensors and --tensor prints one: give one") }
        let file = try WeightsFile(source, preferCheckpoint: true)
        let frozen = try file.frozenOffsets()
        if let tensor {
            guard file.state[stored: tensor] != nil else {
                throw Failure(
                    "'\(file.path)' has no tensor '\(tensor)'; there are \(file.state.names.joined(separator: ", "))")
            }
            print(heading(tensor, of: file))
            print(values(of: tensor, in: file, frozen: frozen[tensor] ?? [], onlyFrozen: false, limit: .max))
            return
        }
        let rows = file.state.names.map { name in
            let stored = file.state[stored: name]!
            return Listing.Row(
                name: name, type: stored.dataType.rawValue, shape: stored.shape, elements: stored.count,
                frozen: frozen[name]?.count ?? 0)
        }
        let listing = Listing(
            file: file.path, tensors: rows, elements: rows.reduce(0) { $0 + $1.elements },
            frozen: rows.reduce(0) { $0 + $1.frozen }, dataSHA256: file.state.dataDigest, metadata: file.metadata)
        if json { return print(try listing.jsonLine()) }
        print(description(of: listing))
        for row in rows where row.frozen > 0 {
            print("\n" + heading(row.name, of: file) + ", frozen elements marked *")
            print(
                values(
                    of: row.name, in: file, frozen: frozen[row.name] ?? [], onlyFrozen: true, limit: Self.kernelLimit))
        }
    }

    private func heading(_ name: String, of file: WeightsFile) -> String {
        let stored = file.state[stored: name]!
        return "\(name) \(stored.dataType.rawValue) \(stored.shape)"
    }

    private func description(of listing: Listing) -> String {
        let cells = [["tensor", "type", "shape", "elements", "frozen"]]
            + listing.tensors.map { row in
                [
                    row.name, row.type, "\(row.shape)", grouped(row.elements),
                    row.frozen == 0 ? "-" : grouped(row.frozen),
                ]
            }
        let widths = (0..<5).map { column in cells.map { $0[column].count }.max()! }
        var lines = cells.map { row in
            row.indices.map { column in
                let space = String(repeating: " ", count: widths[column] - row[column].count)
                // Numbers stand right.
                return column >= 3 ? space + row[column] : row[column] + space
            }.joined(separator: "  ")
        }
        lines.append("")
        lines.append(
            "\(listing.file): \(listing.tensors.count) tensors, \(grouped(listing.elements)) elements, "
                + "\(grouped(listing.frozen)) frozen")
        lines.append("SHA-256 of the data \(listing.dataSHA256)")
        return lines.map { String($0.reversed().drop { $0 == " " }.reversed()) }.joined(separator: "\n")
    }

    /// The last two axes as a matrix for each position on those before; a vector as one row.
    ///
    /// - Parameter onlyFrozen: leave out matrices without a frozen element.
    private func values(
        of name: String, in file: WeightsFile, frozen: Set<Int>, onlyFrozen: Bool, limit: Int
    ) -> String {
        guard let tensor = file.state[name] else { return "  elements of this type can't be printed" }
        let shape = Array(tensor.shape)
        let columns = shape.last ?? 1
        let rows = shape.count >= 2 ? shape[shape.count - 2] : 1
        let leading = Array(shape.dropLast(2))
        let size = rows * columns
        guard size > 0 else { return "  no elements" }
        let scalars = tensor.scalars
        var positions = Array(0..<scalars.count / size)
        if onlyFrozen {
            let chosen = Set(frozen.map { $0 / size })
            positions.removeAll { !chosen.contains($0) }
        }
        var lines: [String] = []
        for position in positions.prefix(limit) {
            if !leading.isEmpty {
                var (rest, index) = (position, [String]())
                for extent in leading.reversed() {
                    index.insert(String(rest % extent), at: 0)
                    rest /= extent
                }
                lines.append("  [\(index.joined(separator: ","))]")
            }
            for row in 0..<rows {
                let cells = (0..<columns).map { column in
                    let offset = position * size + row * columns + column
                    let text = String(format: "%.5g", scalars[offset]) + (frozen.contains(offset) ? "*" : " ")
                    return String(repeating: " ", count: max(0, 12 - text.count)) + text
                }
                lines.append("  " + cells.joined())
            }
        }
        if positions.count > limit {
            lines.append("  and \(grouped(positions.count - limit)) more: --tensor \(name) prints all")
        }
        return lines.joined(separator: "\n")
    }
}
