import CZlib

/// Bytes that are read once, from first to last.
protocol ByteSource: AnyObject {
    /// The name for messages.
    var path: String { get }
    /// No more bytes than this can come: what is declared to be longer needn't be allocated.
    var bound: Int { get }
    /// Fills `destination`; returns how many bytes came, fewer than its count only at the end.
    func read(into destination: UnsafeMutableRawBufferPointer) throws(DataError) -> Int
}

/// Bytes that are in memory already.
final class MemorySource: ByteSource {
    let path: String
    private let bytes: UnsafeRawBufferPointer
    private var position = 0

    /// `bytes` must outlive the source.
    init(_ bytes: UnsafeRawBufferPointer, path: String) {
        self.bytes = bytes
        self.path = path
    }

    var bound: Int { bytes.count }

    func read(into destination: UnsafeMutableRawBufferPointer) -> Int {
        let count = min(destination.count, bytes.count - position)
        destination.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[position ..< position + count]))
        position += count
        return count
    }
}

/// A file as it is.
final class FileSource: ByteSource {
    let path: String
    private let file: OpenFile

    init(_ file: OpenFile, path: String) {
        self.file = file
        self.path = path
    }

    var bound: Int { file.size }

    func read(into destination: UnsafeMutableRawBufferPointer) throws(DataError) -> Int {
        do {
            return try file.read(into: destination)
        } catch {
            throw DataError(path: path, problem: .unreadable(error.description))
        }
    }
}

/// A gzip file (RFC 1952, any number of members), decompressed as it is read; checksums are verified at the end of each
/// member. It holds 64 KiB of the file and zlib's window, whatever the file declares.
final class GzipSource: ByteSource {
    let path: String
    private let file: OpenFile
    /// On the heap: zlib's state points back to it.
    private let stream: UnsafeMutablePointer<z_stream>
    private let input: UnsafeMutableRawBufferPointer
    private var memberEnded = false

    init(_ file: OpenFile, path: String) throws(DataError) {
        self.file = file
        self.path = path
        stream = .allocate(capacity: 1)
        stream.initialize(to: z_stream())
        input = .allocate(byteCount: 65536, alignment: 16)
        // 16 + 15: a gzip header is required, the window has 32 KiB.
        let status = inflateInit2_(stream, 16 + 15, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size))
        guard status == Z_OK else { throw DataError(path: path, problem: .corrupt(message(of: status))) }
    }

    deinit {
        inflateEnd(stream)
        stream.deallocate()
        input.deallocate()
    }

    /// Deflate's shortest code for its longest match: 258 bytes from 2 bits.
    var bound: Int { file.size.multipliedReportingOverflow(by: 1032).partialValue }

    func read(into destination: UnsafeMutableRawBufferPointer) throws(DataError) -> Int {
        var filled = 0
        while filled < destination.count {
            if stream.pointee.avail_in == 0, try !refill() {
                if memberEnded { break }
                throw DataError(path: path, problem: .corrupt("the compressed data end early"))
            }
            if memberEnded {
                inflateReset(stream)
                memberEnded = false
            }
            let room = min(destination.count - filled, 1 << 30)
            stream.pointee.next_out = (destination.baseAddress! + filled).assumingMemoryBound(to: UInt8.self)
            stream.pointee.avail_out = UInt32(room)
            let status = inflate(stream, Z_NO_FLUSH)
            filled += room - Int(stream.pointee.avail_out)
            switch status {
            case Z_OK, Z_BUF_ERROR: break
            case Z_STREAM_END: memberEnded = true
            default: throw DataError(path: path, problem: .corrupt(message(of: status)))
            }
        }
        return filled
    }

    /// Whether another piece of the file was there.
    private func refill() throws(DataError) -> Bool {
        do {
            let count = try file.read(into: input)
            stream.pointee.next_in = input.baseAddress!.assumingMemoryBound(to: UInt8.self)
            stream.pointee.avail_in = UInt32(count)
            return count > 0
        } catch {
            throw DataError(path: path, problem: .unreadable(error.description))
        }
    }

    private func message(of status: Int32) -> String {
        if let text = stream.pointee.msg { return String(cString: text) }
        return String(cString: zError(status))
    }
}
