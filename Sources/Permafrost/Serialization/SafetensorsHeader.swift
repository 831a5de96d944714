/// The JSON header of a safetensors file, parsed strictly: nothing that the format doesn't name is let through, so that
/// what is accepted here means the same to every other reader.
struct SafetensorsHeader {
    struct Entry {
        var name: String
        var type: DataType
        var shape: [Int]
        /// Bytes in the data that follow the header.
        var begin: Int
        var end: Int
    }

    private(set) var metadata: [String: String] = [:]
    /// In the order of their bytes in the file.
    private(set) var entries: [Entry] = []

    /// - Throws: what is wrong with the header's text, types, sizes or offsets; `dataBytes` is what follows it in the
    ///   file.
    init(_ bytes: [UInt8], dataBytes: Int) throws(ProblemError) {
        var reader = JSONReader(bytes)
        try parse(&reader)
        entries.sort { ($0.begin, $0.end, $0.name) < ($1.begin, $1.end, $1.name) }
        var offset = 0
        for entry in entries {
            guard entry.begin == offset else {
                throw ProblemError(
                    .misplaced(tensor: entry.name, expectedOffset: offset, foundOffset: entry.begin))
            }
            offset = entry.end
        }
        guard offset == dataBytes else {
            throw ProblemError(.dataLength(expectedBytes: offset, foundBytes: dataBytes))
        }
    }

    private mutating func parse(_ reader: inout JSONReader) throws(ProblemError) {
        // The format wants the brace to be the very first byte.
        guard reader.bytes.first == UInt8(ascii: "{") else { throw reader.syntaxError("'{'") }
        var names: Set<String> = []
        try reader.object { (reader, name) throws(ProblemError) in
            guard names.insert(name).inserted else { throw ProblemError(.duplicateName(name)) }
            if name == "__metadata__" {
                try reader.object { (reader, key) throws(ProblemError) in
                    let value = try reader.string()
                    guard metadata.updateValue(value, forKey: key) == nil else {
                        throw ProblemError(.duplicateName(key))
                    }
                }
            } else {
                entries.append(try Self.entry(name, &reader))
            }
        }
        try reader.end()
    }

    private static func entry(_ name: String, _ reader: inout JSONReader) throws(ProblemError) -> Entry {
        let start = reader.position
        var typeName: String?
        var shape: [Int]?
        var offsets: [Int]?
        try reader.object { (reader, key) throws(ProblemError) in
            switch key {
            case "dtype" where typeName == nil: typeName = try reader.string()
            case "shape" where shape == nil: shape = try reader.integers()
            case "data_offsets" where offsets == nil: offsets = try reader.integers()
            default: throw reader.syntaxError("dtype, shape and data_offsets once each, not '\(key)',")
            }
        }
        guard let typeName, let shape, let offsets, offsets.count == 2 else {
            throw ProblemError(.headerSyntax(
                offset: start, expected: "a tensor's dtype, shape and two data_offsets"))
        }
        guard let type = DataType(rawValue: typeName) else {
            throw ProblemError(.unknownType(tensor: name, type: typeName))
        }
        guard let size = byteCount(of: shape, type) else {
            throw ProblemError(.sizeOverflow(tensor: name, shape: shape))
        }
        // Both are between 0 and Int.max: the difference can't overflow.
        guard offsets[1] - offsets[0] == size else {
            throw ProblemError(
                .sizeMismatch(tensor: name, expectedBytes: size, foundBytes: offsets[1] - offsets[0]))
        }
        return Entry(name: name, type: type, shape: shape, begin: offsets[0], end: offsets[1])
    }
}

/// A problem whose file isn't known where it is found.
struct ProblemError: Error {
    let problem: SafetensorsError.Problem

    init(_ problem: SafetensorsError.Problem) {
        self.problem = problem
    }
}

/// The part of JSON (RFC 8259) that a safetensors header can hold: objects, strings, arrays of whole numbers.
struct JSONReader {
    let bytes: [UInt8]
    private(set) var position = 0

    init(_ bytes: [UInt8]) {
        self.bytes = bytes
    }

    func syntaxError(_ expected: String) -> ProblemError {
        ProblemError(.headerSyntax(offset: position, expected: expected))
    }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x09 || byte == 0x0a || byte == 0x0d { position += 1 }
    }

    /// Whether `character` came, after any white space.
    private mutating func take(_ character: Unicode.Scalar) -> Bool {
        skipSpace()
        guard next == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    private mutating func expect(_ character: Unicode.Scalar) throws(ProblemError) {
        guard take(character) else { throw syntaxError("'\(character)'") }
    }

    /// Nothing but white space may follow.
    mutating func end() throws(ProblemError) {
        skipSpace()
        guard next == nil else { throw syntaxError("the end") }
    }

    /// Calls `member` behind each key and its colon, to read the value.
    mutating func object(
        _ member: (inout JSONReader, String) throws(ProblemError) -> Void
    ) throws(ProblemError) {
        try expect("{")
        if take("}") { return }
        repeat {
            skipSpace()
            let key = try string()
            try expect(":")
            skipSpace()
            try member(&self, key)
        } while take(",")
        try expect("}")
    }

    mutating func integers() throws(ProblemError) -> [Int] {
        try expect("[")
        var values: [Int] = []
        if take("]") { return values }
        repeat { values.append(try integer()) } while take(",")
        try expect("]")
        return values
    }

    private mutating func integer() throws(ProblemError) -> Int {
        skipSpace()
        let start = position
        var value = 0
        while let byte = next, (0x30...0x39).contains(byte) {
            let (tenfold, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, overflowOfSum) = tenfold.addingReportingOverflow(Int(byte) - 0x30)
            guard !overflow, !overflowOfSum else { throw syntaxError("a number below 2^63") }
            value = sum
            position += 1
        }
        let digits = position - start
        guard digits == 1 || digits > 1 && bytes[start] != 0x30 else {
            position = start
            throw syntaxError("a whole number, not negative")
        }
        return value
    }

    mutating func string() throws(ProblemError) -> String {
        try expect("\"")
        let start = position
        var text: [UInt8] = []
        while let byte = next, byte != UInt8(ascii: "\"") {
            guard byte >= 0x20 else { throw syntaxError("no control character in a string") }
            position += 1
            if byte == UInt8(ascii: "\\") {
                text.append(contentsOf: String(try escape()).utf8)
            } else {
                text.append(byte)
            }
        }
        try expect("\"")
        guard let string = String(validating: text, as: UTF8.self) else {
            position = start
            throw syntaxError("a string in UTF-8")
        }
        return string
    }

    private mutating func escape() throws(ProblemError) -> Unicode.Scalar {
        let code = next
        position += 1
        switch code {
        case UInt8(ascii: "\""): return "\""
        case UInt8(ascii: "\\"): return "\\"
        case UInt8(ascii: "/"): return "/"
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let unit = try hexadecimalUnit()
            if let scalar = Unicode.Scalar(unit) { return scalar }
            // A surrogate: the second half of the pair must follow.
            if unit < 0xdc00, bytes[position...].starts(with: [UInt8(ascii: "\\"), UInt8(ascii: "u")]) {
                position += 2
                let low = try hexadecimalUnit()
                let value = 0x10000 + (UInt32(unit) - 0xd800) << 10 + UInt32(low &- 0xdc00)
                if (0xdc00...0xdfff).contains(low), let scalar = Unicode.Scalar(value) { return scalar }
            }
            throw syntaxError("a valid \\u escape")
        default:
            position -= 1
            throw syntaxError("a valid escape")
        }
    }

    private mutating func hexadecimalUnit() throws(ProblemError) -> UInt16 {
        let digits = bytes[position...].prefix(4)
        // The initializer would also take a sign.
        guard digits.count == 4, digits.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit }),
            let unit = UInt16(String(decoding: digits, as: UTF8.self), radix: 16)
        else { throw syntaxError("four hexadecimal digits") }
        position += 4
        return unit
    }
}
