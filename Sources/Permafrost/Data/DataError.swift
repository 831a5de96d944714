/// Why a data file could not be used. Printed, it is one line that names the file.
public struct DataError: Error, Equatable, CustomStringConvertible {
    public enum Problem: Equatable, Sendable {
        /// The system did not give the file; its reason in words.
        case unreadable(String)
        /// The file ends before the bytes that it declares, counted after decompression.
        case truncated(expectedBytes: Int, foundBytes: Int)
        /// The gzip stream is damaged; zlib's reason in words.
        case corrupt(String)
        /// The first four bytes are not those of an IDX file of unsigned bytes with `expectedRank` axes.
        case wrongMagic(found: UInt32, expectedRank: Int)
        /// The header declares more bytes than a file of this size can hold.
        case impossibleSize([Int])
        /// Bytes follow after the last one that the header declares.
        case trailingBytes
        /// The extents are not those of this data set.
        case wrongExtents(found: [Int], expected: String)
        /// Another number of labels than of images.
        case countMismatch(labels: Int, images: Int)
        /// A label that is none of the data set's classes.
        case labelOutOfRange(label: Int, index: Int, classes: Int)
    }

    public let path: String
    public let problem: Problem

    public init(path: String, problem: Problem) {
        self.path = path
        self.problem = problem
    }

    public var description: String {
        switch problem {
        case .unreadable(let reason):
            "can't read '\(path)': \(reason)"
        case .truncated(let expected, let found):
            "'\(path)' is truncated: expected \(expected) bytes, found \(found)"
        case .corrupt(let reason):
            "'\(path)' is corrupt: \(reason)"
        case .wrongMagic(let found, let rank):
            "'\(path)' is no IDX file of unsigned bytes with \(rank) \(rank == 1 ? "axis" : "axes"): "
                + "expected the magic number \(hexadecimal(0x0800 + UInt32(rank))), found \(hexadecimal(found))"
        case .impossibleSize(let extents):
            "'\(path)' declares \(extents.map(String.init).joined(separator: " x ")) bytes, "
                + "more than a file of its size can hold"
        case .trailingBytes:
            "'\(path)' goes on after its last element"
        case .wrongExtents(let found, let expected):
            "'\(path)' holds \(found.map(String.init).joined(separator: " x ")) elements, expected \(expected)"
        case .countMismatch(let labels, let images):
            "'\(path)' holds \(labels) labels for \(images) images"
        case .labelOutOfRange(let label, let index, let classes):
            "'\(path)' holds label \(label) at index \(index), expected 0 to \(classes - 1)"
        }
    }
}

private func hexadecimal(_ value: UInt32) -> String {
    let digits = String(value, radix: 16)
    return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
}
