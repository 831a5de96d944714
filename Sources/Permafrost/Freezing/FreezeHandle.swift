/// Who makes the gradient of a frozen element +0.0. Weights come out the same to the bit either way in `.exact`
/// numerics.
public enum FreezeRoute: String, CaseIterable, Codable, Sendable {
    /// The backward kernel, which is given the parameter's mask. The default, and the one that saves work.
    case mask
    /// A Swift callback that the backward pass runs last of all.
    case callback
}

/// One freeze of some elements of a parameter. Dropping the handle doesn't thaw; `remove()` does.
///
/// A parameter may have several freezes, named or not, on and off. Those that are on hold together: an element is
/// frozen while at least one of them has it.
public final class FreezeHandle {
    public let name: String?
    public let route: FreezeRoute
    /// Whether this freeze holds its elements now; see `enable()` and `disable()`.
    public internal(set) var isEnabled = true
    var elements: FrozenElements
    weak var parameter: Parameter?

    init(name: String?, route: FreezeRoute, elements: FrozenElements) {
        self.name = name
        self.route = route
        self.elements = elements
    }

    /// Whether this freeze still belongs to its parameter, on or off.
    public var isActive: Bool { parameter != nil }

    /// The number of elements that this freeze has.
    public var elementCount: Int { elements.count }

    /// Thaws the elements of this freeze, except those that another one holds. A second call does nothing.
    public func remove() {
        parameter?.remove([self])
    }

    /// Switches the freeze off until `enable()`: its elements train again, unless another freeze holds them.
    public func disable() {
        guard isEnabled, let parameter else { return }
        isEnabled = false
        parameter.freezesChanged()
    }

    /// Switches the freeze on again: its elements go back to its values and stay there.
    ///
    /// - Throws: `FreezeError` when another freeze that is on holds one of them at another value, or when this one was
    ///   removed.
    public func enable() throws {
        guard let parameter else { throw FreezeError("a freeze that was removed can't be enabled") }
        if !isEnabled { try parameter.enable([self]) }
    }

    /// What a checkpoint saves of this freeze.
    public var record: FreezeRecord {
        FreezeRecord(
            name: name, route: route, isEnabled: isEnabled, offsets: elements.offsets.map(Int.init),
            values: elements.values)
    }
}

/// A freeze as a value, as checkpoints save it and copies take it over.
public struct FreezeRecord: Equatable, Sendable {
    public var name: String?
    public var route: FreezeRoute
    public var isEnabled: Bool
    /// Row-major positions in the parameter.
    public var offsets: [Int]
    /// What each of them is held at.
    public var values: [Float]

    public init(name: String?, route: FreezeRoute, isEnabled: Bool, offsets: [Int], values: [Float]) {
        self.name = name
        self.route = route
        self.isEnabled = isEnabled
        self.offsets = offsets
        self.values = values
    }
}
