/// A module's parameters and buffers by name, as values: independent of the module from the moment they are taken.
///
/// The names and their order are those of PyTorch's `state_dict`. Written to a safetensors file it is what
/// `load_state_dict(load_file(path))` takes in Python, and the other way round.
public struct StateDictionary: Equatable, Sendable {
    /// In the module's order; of a file, in the order of the names' UTF-8.
    public private(set) var names: [String] = []
    private var values: [String: StoredTensor] = [:]

    public init() {}

    /// The tensors of a file.
    public init(_ file: Safetensors) {
        for (name, tensor) in file.tensors.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
            self[stored: name] = tensor
        }
    }

    public var count: Int { names.count }

    /// A value as float32. Reading gives nil for a name that isn't there or an element type that doesn't convert;
    /// setting nil removes the name.
    public subscript(name: String) -> Tensor? {
        get { values[name]?.tensor() }
        set { self[stored: name] = newValue.map { StoredTensor($0) } }
    }

    /// A value in its own element type.
    public subscript(stored name: String) -> StoredTensor? {
        get { values[name] }
        set {
            let old = values.updateValue(newValue, forKey: name)
            if newValue == nil { names.removeAll { $0 == name } } else if old == nil { names.append(name) }
        }
    }

    /// The contents of a file with these values.
    public func safetensors(metadata: [String: String] = [:]) -> Safetensors {
        Safetensors(tensors: values, metadata: metadata)
    }

    /// SHA-256 over all elements; see `Safetensors.dataDigest`.
    public var dataDigest: String { safetensors().dataDigest }
}

private extension Dictionary {
    /// Like the method of the same name, with nil for removal.
    mutating func updateValue(_ value: Value?, forKey key: Key) -> Value? {
        if let value { updateValue(value, forKey: key) } else { removeValue(forKey: key) }
    }
}

/// Where a state dictionary and a module differ in their names.
public struct KeyDifferences: Equatable, Sendable {
    /// Names of the module that the state dictionary lacks.
    public internal(set) var missing: [String] = []
    /// Names of the state dictionary that the module lacks.
    public internal(set) var unexpected: [String] = []

    public var isEmpty: Bool { missing.isEmpty && unexpected.isEmpty }
}

/// Why a state dictionary wasn't loaded. It names everything that is wrong, and nothing was changed.
public struct StateDictionaryError: Error, Equatable, CustomStringConvertible {
    public struct Mismatch: Equatable, Sendable {
        public let name: String
        public let expectedShape: [Int]
        public let foundShape: [Int]
        public let foundType: DataType
    }

    public internal(set) var keys = KeyDifferences()
    /// Values of another shape, or of an element type that doesn't convert to float32.
    public internal(set) var mismatched: [Mismatch] = []
    /// In strict loading: what would change frozen elements.
    public internal(set) var frozen: [FreezeError] = []

    public var description: String {
        var parts: [String] = []
        if !keys.missing.isEmpty { parts.append("missing \(keys.missing.joined(separator: ", "))") }
        if !keys.unexpected.isEmpty { parts.append("unexpected \(keys.unexpected.joined(separator: ", "))") }
        parts += mismatched.map { mismatch in
            let convertible = mismatch.expectedShape != mismatch.foundShape
            let found = convertible ? "" : " of type \(mismatch.foundType.rawValue)"
            return "\(mismatch.name) has shape \(mismatch.foundShape)\(found), expected \(mismatch.expectedShape)"
                + (convertible ? "" : " of a type that converts to float32")
        }
        parts += frozen.map(\.message)
        return "the state doesn't fit the module: " + parts.joined(separator: "; ")
    }
}

extension Module {
    /// All parameters and buffers, with PyTorch's names in PyTorch's order.
    public final func stateDictionary() -> StateDictionary {
        var result = StateDictionary()
        for state in namedState() {
            switch state.content {
            case .parameter(let parameter):
                result[stored: state.name] = StoredTensor(parameter.value)
            case .buffer(let buffer):
                result[stored: state.name] = StoredTensor(buffer)
            }
        }
        return result
    }

    /// Takes over parameters and buffers, all or nothing.
    ///
    /// Frozen elements: with `strict`, a value that would change one is an error; otherwise it keeps its own.
    ///
    /// - Parameter strict: whether a missing or an unexpected name is an error. A wrong shape always is.
    /// - Returns: the names in which the two differ; empty when `strict`.
    /// - Throws: `StateDictionaryError` that names every key that is missing, unexpected or misshapen; nothing was
    ///   loaded then.
    @discardableResult
    public final func load(stateDictionary: StateDictionary, strict: Bool = true) throws -> KeyDifferences {
        _ = namedParameters()  // Gives the parameters their names, for messages.
        let state = namedState()
        var problems = StateDictionaryError()
        var differences = KeyDifferences()
        var tensors: [Tensor?] = []
        for entry in state {
            let stored = stateDictionary[stored: entry.name]
            tensors.append(stored?.tensor())
            if let stored {
                let shape = Array(entry.value.shape)
                if tensors.last! == nil || stored.shape != shape {
                    problems.mismatched.append(.init(
                        name: entry.name, expectedShape: shape, foundShape: stored.shape,
                        foundType: stored.dataType))
                }
            } else {
                differences.missing.append(entry.name)
            }
        }
        let known = Set(state.map(\.name))
        differences.unexpected = stateDictionary.names.filter { !known.contains($0) }
        if strict { problems.keys = differences }
        if strict && problems.mismatched.isEmpty {
            for case (.parameter(let parameter), let tensor?) in zip(state.map(\.content), tensors) {
                do { try parameter.checkFrozen(against: tensor) } catch let error as FreezeError {
                    problems.frozen.append(error)
                }
            }
        }
        guard problems == StateDictionaryError() else { throw problems }
        for case (let content, let tensor?) in zip(state.map(\.content), tensors) {
            switch content {
            case .parameter(let parameter): parameter.value = tensor
            case .buffer(let buffer): buffer.value = tensor
            }
        }
        return differences
    }
}

extension StoredTensor {
    init(_ buffer: Buffer) {
        switch buffer.storage {
        case .float32:
            self.init(buffer.value)
        case .int64:
            // What is no count is stored as 0.
            let counts = buffer.value.scalars.map { Int64(exactly: $0.rounded()) ?? 0 }
            self.init(counts, shape: Array(buffer.shape))
        }
    }
}
