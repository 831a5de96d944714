import Foundation
import Permafrost

/// What PyTorch computed for random settings of each operation, as `peers/make_goldens.py` wrote it.
struct Goldens: CustomStringConvertible {
    let folder: URL
    let description: String

    /// Those in the repository.
    static let committed = Goldens(
        folder: URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Goldens"),
        description: "the committed goldens")

    /// The cases of one kind, `convolution` for instance.
    func cases(_ kind: String) throws -> [GoldenCase] {
        struct File: Decodable {
            let torch: String
            let seed: Int
            let cases: [GoldenCase.Entry]
        }
        let file = try JSONDecoder().decode(
            File.self, from: Data(contentsOf: folder.appending(path: "\(kind).json")))
        let bytes = try Data(contentsOf: folder.appending(path: "\(kind).f32"))
        let values = bytes.withUnsafeBytes { raw in
            (0..<raw.count / 4).map {
                Float(bitPattern: UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4 * $0, as: UInt32.self)))
            }
        }
        return file.cases.enumerated().map { index, entry in
            GoldenCase(
                entry: entry, values: values,
                description: "\(kind) \(index) of PyTorch \(file.torch), seed \(file.seed): \(entry.settings)")
        }
    }
}

/// One setting of an operation, with the tensors that went in and came out.
struct GoldenCase: CustomStringConvertible {
    struct Entry: Decodable {
        struct Place: Decodable {
            let shape: [Int]
            let offset: Int
        }
        let settings: [String: Setting]
        let tensors: [String: Place]
    }

    enum Setting: Decodable, CustomStringConvertible {
        case flag(Bool)
        case number(Double)
        case numbers([Double])
        case text(String)

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let flag = try? container.decode(Bool.self) {
                self = .flag(flag)
            } else if let number = try? container.decode(Double.self) {
                self = .number(number)
            } else if let numbers = try? container.decode([Double].self) {
                self = .numbers(numbers)
            } else {
                self = .text(try container.decode(String.self))
            }
        }

        var description: String {
            switch self {
            case .flag(let flag): "\(flag)"
            case .number(let number): "\(number)"
            case .numbers(let numbers): "\(numbers)"
            case .text(let text): text
            }
        }
    }

    struct MissingError: Error, CustomStringConvertible {
        let description: String
    }

    let entry: Entry
    let values: [Float]
    let description: String

    func numbers(_ name: String) throws -> [Double] {
        guard case .numbers(let numbers)? = entry.settings[name] else { throw missing(name, "list of numbers") }
        return numbers
    }

    func number(_ name: String, default fallback: Double? = nil) throws -> Double {
        if case .number(let number)? = entry.settings[name] { return number }
        guard let fallback, entry.settings[name] == nil else { throw missing(name, "number") }
        return fallback
    }

    func flag(_ name: String, default fallback: Bool? = nil) throws -> Bool {
        if case .flag(let flag)? = entry.settings[name] { return flag }
        guard let fallback, entry.settings[name] == nil else { throw missing(name, "flag") }
        return fallback
    }

    func text(_ name: String) throws -> String {
        guard case .text(let text)? = entry.settings[name] else { throw missing(name, "text") }
        return text
    }

    func integers(_ name: String) throws -> [Int] { try numbers(name).map { Int($0) } }

    func pair(_ name: String) throws -> Pair {
        let both = try integers(name)
        return Pair(both[0], both[1])
    }

    func tensor(_ name: String, requiresGrad: Bool = false) throws -> Tensor {
        guard let tensor = optionalTensor(name, requiresGrad: requiresGrad) else { throw missing(name, "tensor") }
        return tensor
    }

    func optionalTensor(_ name: String, requiresGrad: Bool = false) -> Tensor? {
        guard let place = entry.tensors[name] else { return nil }
        let shape = Shape(place.shape)
        var tensor = Tensor(Array(values[place.offset..<place.offset + shape.elementCount]), shape: shape)
        tensor.requiresGrad = requiresGrad
        return tensor
    }

    private func missing(_ name: String, _ kind: String) -> MissingError {
        MissingError(description: "\(description) has no \(kind) \(name)")
    }
}
