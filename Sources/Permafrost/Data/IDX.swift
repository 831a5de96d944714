/// An array of unsigned bytes in the IDX format of the MNIST family: two zero bytes, the element type (8), the number
/// of axes, a big-endian 32-bit extent for each, then the elements in row-major order. Source: Y. LeCun, C. Cortes,
/// C. Burges, *The MNIST database of handwritten digits*.
public struct IDXArray: Equatable, Sendable {
    /// The number of elements along each axis.
    public let extents: [Int]
    /// The elements in row-major order.
    public let bytes: [UInt8]

    /// Reads a file, gzip-compressed or as it is.
    ///
    /// Everything is checked: the magic number, that the declared size can be (before memory is taken for it), that all
    /// bytes come, that none follow, and gzip's checksum.
    public init(contentsOf path: String, rank: Int) throws(DataError) {
        try self.init(Self.open(path), rank: rank)
    }

    init(_ source: any ByteSource, rank: Int) throws(DataError) {
        let header = try Self.read(4 + 4 * rank, from: source)
        func word(_ index: Int) -> UInt32 {
            header[4 * index ..< 4 * index + 4].reduce(0) { $0 << 8 | UInt32($1) }
        }
        guard word(0) == 0x0800 + UInt32(rank) else {
            throw DataError(path: source.path, problem: .wrongMagic(found: word(0), expectedRank: rank))
        }
        extents = (1 ... rank).map { Int(word($0)) }
        var count = 1
        for extent in extents {
            let (product, overflow) = count.multipliedReportingOverflow(by: extent)
            guard !overflow, product <= source.bound else {
                throw DataError(path: source.path, problem: .impossibleSize(extents))
            }
            count = product
        }
        bytes = try Self.read(count, from: source)
        guard try readBytes(1, source.read).isEmpty else {
            throw DataError(path: source.path, problem: .trailingBytes)
        }
    }

    /// A source that decompresses when the file starts like a gzip file.
    private static func open(_ path: String) throws(DataError) -> any ByteSource {
        let file: OpenFile
        let start: [UInt8]
        do throws(SystemError) {
            file = try OpenFile(reading: path)
            start = try readBytes(2, file.read)
            try file.seek(to: 0)
        } catch {
            throw DataError(path: path, problem: .unreadable(error.description))
        }
        if start == [0x1f, 0x8b] { return try GzipSource(file, path: path) }
        return FileSource(file, path: path)
    }

    private static func read(_ count: Int, from source: any ByteSource) throws(DataError) -> [UInt8] {
        let bytes = try readBytes(count, source.read)
        guard bytes.count == count else {
            throw DataError(
                path: source.path, problem: .truncated(expectedBytes: count, foundBytes: bytes.count))
        }
        return bytes
    }
}
