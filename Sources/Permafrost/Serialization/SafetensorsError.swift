/// Why a safetensors file could not be read or written. Printed, it is one line that names the file.
public struct SafetensorsError: Error, Equatable, CustomStringConvertible {
    public enum Problem: Equatable, Sendable {
        /// The system did not give the file; its reason in words.
        case unreadable(String)
        /// The system did not take the file; its reason in words.
        case unwritable(String)
        /// Fewer than the eight bytes of the header's length.
        case tooShort(bytes: Int)
        /// The header's declared length is below 2, above 100,000,000, or goes beyond the file's end.
        case headerLength(declared: UInt64, fileBytes: Int)
        /// The header is not the JSON that the format asks for.
        case headerSyntax(offset: Int, expected: String)
        /// Two tensors, or two entries of the metadata, have the same name.
        case duplicateName(String)
        /// An element type that isn't in `DataType`.
        case unknownType(tensor: String, type: String)
        /// The shape's number of bytes can't be addressed.
        case sizeOverflow(tensor: String, shape: [Int])
        /// The offsets span another number of bytes than shape and type ask for.
        case sizeMismatch(tensor: String, expectedBytes: Int, foundBytes: Int)
        /// A tensor doesn't begin where the one before it ends: there is a hole or an overlap.
        case misplaced(tensor: String, expectedOffset: Int, foundOffset: Int)
        /// The tensors' bytes and the file's don't end at the same place.
        case dataLength(expectedBytes: Int, foundBytes: Int)
    }

    public let path: String
    public let problem: Problem

    public init(path: String, problem: Problem) {
        self.path = path
        self.problem = problem
    }

    public var description: String {
        switch problem {
        case .unreadable(let reason): "can't read '\(path)': \(reason)"
        case .unwritable(let reason): "can't write '\(path)': \(reason)"
        default: "'\(path)' is no valid safetensors file: \(detail)"
        }
    }

    private var detail: String {
        switch problem {
        case .unreadable(let reason), .unwritable(let reason):
            reason
        case .tooShort(let bytes):
            "expected at least 8 bytes, found \(bytes)"
        case .headerLength(let declared, let fileBytes):
            "its header declares \(declared) bytes, in a file of \(fileBytes)"
        case .headerSyntax(let offset, let expected):
            "expected \(expected) at byte \(offset) of the header"
        case .duplicateName(let name):
            "the name '\(name)' comes twice"
        case .unknownType(let tensor, let type):
            "tensor '\(tensor)' has the unknown element type '\(type)'"
        case .sizeOverflow(let tensor, let shape):
            "tensor '\(tensor)' of shape \(shape) is larger than can be addressed"
        case .sizeMismatch(let tensor, let expected, let found):
            "tensor '\(tensor)' needs \(expected) bytes, its offsets give it \(found)"
        case .misplaced(let tensor, let expected, let found):
            "tensor '\(tensor)' begins at offset \(found), expected \(expected)"
        case .dataLength(let expected, let found):
            "its tensors need \(expected) bytes of data, found \(found)"
        }
    }
}
