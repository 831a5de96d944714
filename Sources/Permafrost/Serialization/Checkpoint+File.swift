/// The file: tensors and metadata whose names begin with their section.
///
///     model.NAME                      a parameter or buffer
///     freeze.N.offsets, .values       the elements of a freeze; its parameter, route, name and whether it is on are
///     metadata optimizer.NAME                  a tensor, or a number as metadata
///     schedule.NAME, generator.NAME   numbers as metadata
///     extra.NAME                      what the training loop added, a tensor or a value as metadata
extension Checkpoint {
    static let versionKey = "permafrost.checkpoint"
    static let version = "1"

    /// Whether a file says that it is a checkpoint.
    public static func isCheckpoint(_ file: Safetensors) -> Bool {
        file.metadata[versionKey] != nil
    }

    /// Writes the file so that a crash at any moment leaves the old file or the new one, whole.
    public func write(to path: String) throws {
        try safetensors().write(to: path)
    }

    public static func read(_ path: String) throws -> Checkpoint {
        do {
            return try Checkpoint(Safetensors.read(path))
        } catch let error as CheckpointError {
            throw CheckpointError("'\(path)': \(error.message)")
        }
    }

    public func safetensors() -> Safetensors {
        var file = Safetensors(metadata: [Self.versionKey: Self.version])
        func add(_ section: String, _ tensors: [String: Tensor]) {
            for (name, tensor) in tensors { file.tensors["\(section).\(name)"] = StoredTensor(tensor) }
        }
        func add<Value>(_ section: String, _ values: [String: Value]) {
            for (name, value) in values { file.metadata["\(section).\(name)"] = "\(value)" }
        }
        for name in model.names { file.tensors["model.\(name)"] = model[stored: name] }
        var number = 0
        for (parameter, records) in freezes.sorted(by: { $0.key < $1.key }) {
            for record in records {
                let key = "freeze.\(number)"
                number += 1
                let count = [record.offsets.count]
                file.tensors["\(key).offsets"] = StoredTensor(record.offsets.map(Int64.init), shape: count)
                file.tensors["\(key).values"] = StoredTensor(Tensor(record.values))
                add(key, ["parameter": parameter, "route": record.route.rawValue])
                add(key, ["enabled": record.isEnabled])
                if let name = record.name { add(key, ["name": name]) }
            }
        }
        if let optimizer {
            add("optimizer", optimizer.tensors)
            add("optimizer", optimizer.numbers)
        }
        if let schedule { add("schedule", schedule) }
        if let generator { add("generator", ["seed": generator.seed, "stream": generator.stream]) }
        add("extra", tensors)
        add("extra", values)
        return file
    }

    /// - Throws: `CheckpointError` for a file that is none, is of another version, or whose parts don't fit each other.
    public init(_ file: Safetensors) throws {
        guard let version = file.metadata[Self.versionKey] else {
            throw CheckpointError("this file is no checkpoint of Permafrost")
        }
        guard version == Self.version else {
            throw CheckpointError("this is a checkpoint of version \(version), expected \(Self.version)")
        }
        var freezeParts: [Int: FreezeParts] = [:]
        for (name, stored) in file.tensors.sorted(by: { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }) {
            let (section, rest) = try Self.split(name)
            switch section {
            case "model": model[stored: rest] = stored
            case "freeze":
                let (number, part) = try Self.split(rest)
                freezeParts[try Self.number(number, in: name), default: FreezeParts()].tensors[part] = stored
            case "optimizer", "extra":
                guard let tensor = stored.tensor() else {
                    throw CheckpointError("'\(name)' has type \(stored.dataType.rawValue), expected F32")
                }
                if section == "extra" {
                    tensors[rest] = tensor
                } else {
                    optimizer = optimizer ?? OptimizerState()
                    optimizer!.tensors[rest] = tensor
                }
            default: throw CheckpointError("'\(name)' belongs to no part of a checkpoint")
            }
        }
        for (name, value) in file.metadata where name != Self.versionKey {
            let (section, rest) = try Self.split(name)
            switch section {
            case "freeze":
                let (number, part) = try Self.split(rest)
                freezeParts[try Self.number(number, in: name), default: FreezeParts()].values[part] = value
            case "optimizer":
                optimizer = optimizer ?? OptimizerState()
                optimizer!.numbers[rest] = try Self.number(value, in: name)
            case "schedule":
                schedule = schedule ?? [:]
                schedule![rest] = try Self.number(value, in: name)
            case "generator":
                generator = generator ?? Generator.State(seed: 0)
                switch rest {
                case "seed": generator!.seed = try Self.number(value, in: name)
                case "stream": generator!.stream = try Self.number(value, in: name)
                default: throw CheckpointError("'\(name)' belongs to no part of a checkpoint")
                }
            case "extra": values[rest] = value
            default: throw CheckpointError("'\(name)' belongs to no part of a checkpoint")
            }
        }
        for (number, parts) in freezeParts.sorted(by: { $0.key < $1.key }) {
            let (parameter, record) = try parts.record(number)
            freezes[parameter, default: []].append(record)
        }
    }

    /// The pieces of one freeze, as they come.
    private struct FreezeParts {
        var tensors: [String: StoredTensor] = [:]
        var values: [String: String] = [:]

        func record(_ number: Int) throws -> (parameter: String, FreezeRecord) {
            guard let parameter = values["parameter"], let route = values["route"].flatMap(FreezeRoute.init),
                let isEnabled = values["enabled"].flatMap({ Bool($0) }), let offsets = tensors["offsets"]?.int64s,
                let elements = tensors["values"], elements.dataType == .float32, let floats = elements.tensor(),
                offsets.count == floats.count
            else { throw CheckpointError("freeze.\(number) is incomplete or its parts don't fit each other") }
            return (
                parameter,
                FreezeRecord(
                    name: values["name"], route: route, isEnabled: isEnabled, offsets: offsets.map(Int.init),
                    values: floats.scalars)
            )
        }
    }

    /// The part of a name before the first dot, and the rest.
    private static func split(_ name: String) throws -> (String, String) {
        guard let dot = name.firstIndex(of: ".") else {
            throw CheckpointError("'\(name)' belongs to no part of a checkpoint")
        }
        return (String(name[..<dot]), String(name[name.index(after: dot)...]))
    }

    private static func number<Number: LosslessStringConvertible>(_ text: String, in name: String) throws -> Number {
        guard let number = Number(text) else { throw CheckpointError("'\(name)' has '\(text)', expected a number") }
        return number
    }
}
