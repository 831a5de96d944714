/// The contents of a safetensors file: named tensors and a map of strings, the format that PyTorch's `safetensors`
/// package and most other frameworks read and write.
///
/// Reading validates before it allocates: the header's length, its JSON, every type, shape and offset against the
/// file's size. What is read takes no more room than the file, whatever the file says; the parsed header takes at most
/// a small multiple of its own length.
///
/// Source: huggingface/safetensors, "Format".
public struct Safetensors: Equatable, Sendable {
    public var metadata: [String: String]
    public var tensors: [String: StoredTensor]

    /// The longest header that readers of the format accept.
    static let maximumHeaderBytes = 100_000_000

    public init(tensors: [String: StoredTensor] = [:], metadata: [String: String] = [:]) {
        self.tensors = tensors
        self.metadata = metadata
    }

    // MARK: Reading

    public static func read(_ path: String) throws(SafetensorsError) -> Safetensors {
        func unreadable(_ error: SystemError) -> SafetensorsError {
            SafetensorsError(path: path, problem: .unreadable(error.description))
        }
        let file: OpenFile
        do throws(SystemError) {
            file = try OpenFile(reading: path)
        } catch {
            throw unreadable(error)
        }
        return try Safetensors(path: path, fileBytes: file.size) { (target) throws(SafetensorsError) in
            do throws(SystemError) {
                return try file.read(into: target)
            } catch {
                throw unreadable(error)
            }
        }
    }

    /// Reads a file that is in memory; `name` stands for its path in messages.
    public init(bytes: [UInt8], name: String = "bytes") throws(SafetensorsError) {
        var position = 0
        try self.init(path: name, fileBytes: bytes.count) { target in
            let count = min(target.count, bytes.count - position)
            target.copyBytes(from: bytes[position..<position + count])
            position += count
            return count
        }
    }

    /// `read` fills its argument with what follows in the file and returns how many bytes came.
    init(
        path: String, fileBytes: Int, read: (UnsafeMutableRawBufferPointer) throws(SafetensorsError) -> Int
    ) throws(SafetensorsError) {
        func take(_ count: Int) throws(SafetensorsError) -> [UInt8] {
            let bytes = try readBytes(count, read)
            // Another process cut the file after its size was taken.
            guard bytes.count == count else {
                throw SafetensorsError(
                    path: path, problem: .dataLength(expectedBytes: count, foundBytes: bytes.count))
            }
            return bytes
        }
        guard fileBytes >= 8 else {
            throw SafetensorsError(path: path, problem: .tooShort(bytes: fileBytes))
        }
        let declared = try take(8).withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
        let limit = min(Self.maximumHeaderBytes, fileBytes - 8)
        guard declared >= 2, declared <= UInt64(limit) else {
            throw SafetensorsError(path: path, problem: .headerLength(declared: declared, fileBytes: fileBytes))
        }
        let headerBytes = try take(Int(declared))
        let header: SafetensorsHeader
        do throws(ProblemError) {
            header = try SafetensorsHeader(headerBytes, dataBytes: fileBytes - 8 - headerBytes.count)
        } catch {
            throw SafetensorsError(path: path, problem: error.problem)
        }
        metadata = header.metadata
        tensors = [:]
        for entry in header.entries {
            tensors[entry.name] = StoredTensor(
                dataType: entry.type, shape: entry.shape, bytes: try take(entry.end - entry.begin))
        }
    }

    // MARK: Writing

    /// Writes the file so that a crash at any moment leaves the old file or the new one, whole. Equal contents give
    /// equal bytes.
    public func write(to path: String) throws(SafetensorsError) {
        let layout = layout
        let header = header(of: layout)
        guard header.count - 8 <= Self.maximumHeaderBytes else {
            throw SafetensorsError(
                path: path, problem: .unwritable("the header would have more than 100,000,000 bytes"))
        }
        var problem: SystemError?
        withBytes(of: [header] + layout.map(\.tensor.bytes)) { pieces in
            do throws(SystemError) {
                try writeAtomically(pieces, to: path)
            } catch {
                problem = error
            }
        }
        if let problem { throw SafetensorsError(path: path, problem: .unwritable(problem.description)) }
    }

    /// The bytes that `write(to:)` puts into the file.
    public func serialized() -> [UInt8] {
        let layout = layout
        return layout.reduce(into: header(of: layout)) { $0.append(contentsOf: $1.tensor.bytes) }
    }

    /// The tensors in the order of the reference writer: by element type, the most strictly aligned first, then by
    /// name.
    private var layout: [(name: String, tensor: StoredTensor)] {
        let rank = Dictionary(uniqueKeysWithValues: zip(DataType.allCases, 0...))
        return tensors.map { (name: $0.key, tensor: $0.value) }.sorted {
            let (a, b) = (rank[$0.tensor.dataType]!, rank[$1.tensor.dataType]!)
            return a != b ? a > b : precedes($0.name, $1.name)
        }
    }

    /// The length and the JSON, padded with spaces to a multiple of eight bytes.
    private func header(of layout: [(name: String, tensor: StoredTensor)]) -> [UInt8] {
        var members: [String] = []
        if !metadata.isEmpty {
            let pairs = metadata.sorted { precedes($0.key, $1.key) }.map { "\(quoted($0.key)):\(quoted($0.value))" }
            members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
        }
        var offset = 0
        for (name, tensor) in layout {
            let shape = tensor.shape.map(String.init).joined(separator: ",")
            let end = offset + tensor.bytes.count
            members.append(
                "\(quoted(name)):{\"dtype\":\"\(tensor.dataType.rawValue)\",\"shape\":[\(shape)],"
                    + "\"data_offsets\":[\(offset),\(end)]}")
            offset = end
        }
        var json = Array("{\(members.joined(separator: ","))}".utf8)
        json.append(contentsOf: repeatElement(0x20, count: (8 - json.count % 8) % 8))
        return withUnsafeBytes(of: UInt64(json.count).littleEndian) { Array($0) } + json
    }

    // MARK: Digest

    /// SHA-256 over the tensors' bytes, tensor after tensor in the order of their names' UTF-8; 64 hexadecimal digits.
    /// Names, shapes and metadata are not part of it.
    public var dataDigest: String {
        var hash = SHA256()
        for (_, tensor) in tensors.sorted(by: { precedes($0.key, $1.key) }) {
            tensor.bytes.withUnsafeBytes { hash.update($0) }
        }
        return hash.hexadecimalDigest()
    }
}

/// Byte order, on which all languages agree; Swift's own compares canonically equivalent strings as equal.
private func precedes(_ a: String, _ b: String) -> Bool {
    a.utf8.lexicographicallyPrecedes(b.utf8)
}

private func quoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\r": result += "\\r"
        case "\t": result += "\\t"
        case _ where scalar.value < 0x20:
            let digits = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}

/// Pointers to all arrays at once.
private func withBytes(of arrays: [[UInt8]], _ body: ([UnsafeRawBufferPointer]) -> Void) {
    func collect(_ index: Int, _ pointers: [UnsafeRawBufferPointer]) {
        guard index < arrays.count else { return body(pointers) }
        arrays[index].withUnsafeBytes { collect(index + 1, pointers + [$0]) }
    }
    collect(0, [])
}
