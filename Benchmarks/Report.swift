import ArgumentParser
import Foundation

/// What a command measured, in the forms that it can be printed in.
protocol Report: Encodable {
    associatedtype Row: Encodable
    var rows: [Row] { get }
    /// The keys of a row, in the order of a table's columns.
    static var columns: [String] { get }
    /// For people, in a terminal.
    var text: String { get }
    /// The body of a page.
    var html: String { get }
}

struct OutputOptions: ParsableArguments {
    @Flag(help: "Print one JSON object.") var json = false
    @Flag(help: "Print comma-separated values.") var csv = false
    @Flag(help: "Print a page with charts.") var html = false

    func validate() throws {
        guard [json, csv, html].count(where: { $0 }) <= 1 else {
            throw ValidationError("--json, --csv and --html exclude each other.")
        }
    }

    func print(_ report: some Report) throws {
        if json {
            try printJSON(report)
        } else if csv {
            Swift.print(try commaSeparated(report))
        } else if html {
            Swift.print(page(report.html))
        } else {
            Swift.print(report.text)
        }
    }
}

/// One JSON object on a line, written at once: who reads may be waiting for it.
func printJSON(_ value: some Encodable) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    try FileHandle.standardOutput.write(contentsOf: encoder.encode(value) + [UInt8(ascii: "\n")])
}

/// A header, then a line for each row (RFC 4180, without carriage returns).
private func commaSeparated<R: Report>(_ report: R) throws -> String {
    let lines = try report.rows.map { row in
        let fields = try JSONDecoder().decode([String: Field].self, from: JSONEncoder().encode(row))
        return R.columns.map { fields[$0]?.text ?? "" }
    }
    return ([R.columns] + lines).map { $0.map(quoted).joined(separator: ",") }.joined(separator: "\n")
}

private struct Field: Decodable {
    let text: String

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            text = ""
        } else if let flag = try? container.decode(Bool.self) {
            text = "\(flag)"
        } else if let number = try? container.decode(Double.self) {
            text = number == number.rounded() && abs(number) < 1e15 ? "\(Int(number))" : "\(number)"
        } else {
            text = try container.decode(String.self)
        }
    }
}

private func quoted(_ field: String) -> String {
    guard field.contains(where: { ",\"\n".contains($0) }) else { return field }
    return "\"" + field.replacing("\"", with: "\"\"") + "\""
}

/// Columns of equal width: the first `left` of them aligned left, the others right.
struct TextTable: CustomStringConvertible {
    private let left: Int
    private var rows: [[String]]

    init(_ header: [String], left: Int) {
        self.left = left
        rows = [header]
    }

    mutating func add(_ row: [String]) { rows.append(row) }

    var description: String {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max()! }
        func line(_ cells: [String]) -> String {
            let padded = cells.enumerated().map { column, cell in
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                return column < left ? cell + padding : padding + cell
            }
            return String(padded.joined(separator: "  ").reversed().drop { $0 == " " }.reversed())
        }
        let rule = widths.map { String(repeating: "-", count: $0) }.joined(separator: "  ")
        return ([line(rows[0]), rule] + rows.dropFirst().map(line)).joined(separator: "\n")
    }

    var html: String {
        func line(_ cells: [String], _ tag: String) -> String {
            "<tr>"
                + cells.enumerated().map { column, cell in
                    "<\(tag)\(column < left ? " class=\"left\"" : "")>\(escaped(cell))</\(tag)>"
                }.joined() + "</tr>"
        }
        return "<table>\n" + line(rows[0], "th") + "\n"
            + rows.dropFirst().map { line($0, "td") }.joined(separator: "\n") + "\n</table>"
    }
}

/// A number with so many digits after the point.
func fixed(_ value: Double, _ digits: Int) -> String { String(format: "%.\(digits)f", value) }

/// A line on standard error while something takes long.
func progress(_ line: String) {
    FileHandle.standardError.write(Data((line + "\n").utf8))
}
