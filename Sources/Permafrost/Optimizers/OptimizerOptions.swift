/// The settings of one group of an optimizer, with the names that checkpoints save them under.
protocol OptimizerOptions {
    /// Numbers and the range that each must be in.
    static var numbers: [(name: String, path: WritableKeyPath<Self, Double>, range: NumberRange)] { get }
    static var flags: [(name: String, path: WritableKeyPath<Self, Bool>)] { get }
}

/// The range of an optimizer's setting.
enum NumberRange: String {
    case notNegative = "not negative"
    case positive = "positive"
    case belowOne = "at least 0 and less than 1"
    case any = "a finite number"

    func contains(_ value: Double) -> Bool {
        guard value.isFinite else { return false }
        switch self {
        case .notNegative: return value >= 0
        case .positive: return value > 0
        case .belowOne: return value >= 0 && value < 1
        case .any: return true
        }
    }
}

extension OptimizerOptions {
    func validate() throws {
        for (name, path, range) in Self.numbers where !range.contains(self[keyPath: path]) {
            throw OptimizerError("\(name) must be \(range.rawValue), not \(self[keyPath: path])")
        }
    }

    var settings: [String: Double] {
        var result: [String: Double] = [:]
        for (name, path, _) in Self.numbers { result[name] = self[keyPath: path] }
        for (name, path) in Self.flags { result[name] = self[keyPath: path] ? 1 : 0 }
        return result
    }

    mutating func set(_ settings: [String: Double]) throws {
        var changed = self
        for (name, path, _) in Self.numbers { changed[keyPath: path] = settings[name] ?? self[keyPath: path] }
        for (name, path) in Self.flags {
            if let flag = settings[name] { changed[keyPath: path] = flag != 0 }
        }
        try changed.validate()
        self = changed
    }

    /// The settings of each group: these, as the group changes them.
    func configured(for groups: [ParameterGroup<Self>]) throws -> [Self] {
        try groups.map { group in
            var options = self
            group.configure(&options)
            try options.validate()
            return options
        }
    }
}

extension ParameterState {
    /// The elements of a buffer for writing, made of zeros on first use. Valid while this state isn't changed
    /// otherwise.
    mutating func pointer(toBuffer buffer: Int, shape: Shape) -> UnsafeMutablePointer<Float> {
        if buffers[buffer] == nil { buffers[buffer] = .zeros(shape) }
        buffers[buffer]!.makeUnique()
        return buffers[buffer]!.storage.pointer
    }
}
