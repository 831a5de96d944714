/// One audited element.
public struct AuditEntry: Equatable, Sendable {
    public let parameter: String
    public let index: [Int]
    /// The value before.
    public let value: Float
    public let bitsBefore: UInt32
    public let bitsAfter: UInt32

    public var isChanged: Bool { bitsBefore != bitsAfter }
}

/// Remembers the bits of chosen elements, and later says which of them are different.
///
///     let audit = Audit(ofFrozenIn: net.namedParameters())
///     // ... train ...
///     let report = audit.report()
///     print(report)                       // 1 element checked, 0 changed
public struct Audit {
    private struct Item {
        let name: String
        let shape: Shape
        let offsets: [Int]
        let bits: [UInt32]
        let current: () -> Tensor
    }

    private var items: [Item] = []

    public init() {}

    /// Audits every element that is frozen now.
    public init(ofFrozenIn parameters: [(name: String, parameter: Parameter)]) {
        for (name, parameter) in parameters {
            if let mask = parameter.gradientMask {
                add(name, offsets: mask.frozen.offsets.map(Int.init), of: parameter.value) { parameter.value }
            }
        }
    }

    /// Adds elements of a parameter, frozen or not, as they are now.
    public mutating func add(_ selection: ElementSelection, of parameter: Parameter, named name: String) throws {
        let offsets = try selection.offsets(in: parameter.value, of: name)
        add(name, offsets: offsets, of: parameter.value) { parameter.value }
    }

    /// Adds elements of a tensor, to be compared with another of the same shape.
    public mutating func add(
        _ selection: ElementSelection, of before: Tensor, comparedWith after: Tensor, named name: String
    ) throws {
        guard before.shape == after.shape else {
            throw FreezeError("\(name) had shape \(before.shape) before and has shape \(after.shape) after")
        }
        add(name, offsets: try selection.offsets(in: before, of: name), of: before) { after }
    }

    mutating func add(_ name: String, offsets: [Int], of tensor: Tensor, current: @escaping () -> Tensor) {
        let bits = tensor.withUnsafeBufferPointer { elements in offsets.map { elements[$0].bitPattern } }
        items.append(Item(name: name, shape: tensor.shape, offsets: offsets, bits: bits, current: current))
    }

    /// Compares all elements with what they are now.
    ///
    /// - Parameter entryLimit: the report lists at most so many elements; all are checked and counted.
    public func report(entryLimit: Int = 1000) -> AuditReport {
        var checked = 0, changed = 0
        var entries: [AuditEntry] = []
        var firstChanged: AuditEntry?
        for item in items {
            item.current().withUnsafeBufferPointer { elements in
                for (offset, before) in zip(item.offsets, item.bits) {
                    let after = elements[offset].bitPattern
                    checked += 1
                    if after != before { changed += 1 }
                    let isFirstChanged = after != before && firstChanged == nil
                    guard entries.count < entryLimit || isFirstChanged else { continue }
                    let entry = AuditEntry(
                        parameter: item.name, index: item.shape.indices(ofOffset: offset),
                        value: Float(bitPattern: before), bitsBefore: before, bitsAfter: after)
                    if entries.count < entryLimit { entries.append(entry) }
                    if isFirstChanged { firstChanged = entry }
                }
            }
        }
        return AuditReport(checked: checked, changed: changed, firstChanged: firstChanged, entries: entries)
    }
}

/// What an audit found.
public struct AuditReport: Equatable, Sendable, CustomStringConvertible {
    /// How many elements were compared.
    public let checked: Int
    /// How many have other bits than before.
    public let changed: Int
    public let firstChanged: AuditEntry?
    /// The elements, changed or not, up to the limit that was asked for.
    public let entries: [AuditEntry]

    public var description: String {
        let summary = "\(checked) element\(checked == 1 ? "" : "s") checked, \(changed) changed"
        guard let first = firstChanged else { return summary }
        return summary + "; the first is \(first.parameter)\(bracketed(first.index)): \(first.value) "
            + "(0x\(String(first.bitsBefore, radix: 16))) became \(Float(bitPattern: first.bitsAfter)) "
            + "(0x\(String(first.bitsAfter, radix: 16)))"
    }
}
