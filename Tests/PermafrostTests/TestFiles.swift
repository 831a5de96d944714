import CZlib
import Foundation

/// A new folder that goes away with its last reference.
final class TemporaryFolder {
    let path: String

    init() {
        let name = "permafrost-tests-\(UInt64.random(in: 0 ... .max))"
        path = FileManager.default.temporaryDirectory.appendingPathComponent(name).path
        try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    /// The path of a file in the folder, which need not exist.
    func path(_ name: String) -> String { path + "/" + name }

    /// Writes a file into the folder and returns its path.
    @discardableResult
    func write(_ bytes: [UInt8], to name: String) -> String {
        try! Data(bytes).write(to: URL(fileURLWithPath: path(name)))
        return path(name)
    }

    /// The names of the files in the folder, hidden ones too.
    var names: [String] { try! FileManager.default.contentsOfDirectory(atPath: path).sorted() }
}

func contents(of path: String) -> [UInt8] {
    Array(FileManager.default.contents(atPath: path)!)
}

/// A gzip file of one member.
func gzipped(_ bytes: [UInt8]) -> [UInt8] {
    var stream = z_stream()
    deflateInit2_(
        &stream, 9, Z_DEFLATED, 16 + 15, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
    defer { deflateEnd(&stream) }
    var input = bytes
    return [UInt8](unsafeUninitializedCapacity: Int(deflateBound(&stream, UInt(bytes.count))) + 32) { output, count in
        input.withUnsafeMutableBufferPointer {
            stream.next_in = $0.baseAddress
            stream.avail_in = UInt32($0.count)
            stream.next_out = output.baseAddress
            stream.avail_out = UInt32(output.count)
            precondition(deflate(&stream, Z_FINISH) == Z_STREAM_END)
        }
        count = Int(stream.total_out)
    }
}

/// An IDX file of unsigned bytes.
func idx(_ extents: [Int], _ bytes: [UInt8]) -> [UInt8] {
    [0, 0, 8, UInt8(extents.count)] + extents.flatMap { extent in
        stride(from: 24, through: 0, by: -8).map { UInt8(truncatingIfNeeded: extent >> $0) }
    } + bytes
}
