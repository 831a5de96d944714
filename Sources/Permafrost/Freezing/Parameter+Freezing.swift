extension Parameter {
    // MARK: Freezing

    /// Freezes the elements that a subscript with the same indices selects: their values stay what they are to the bit,
    /// under every optimizer, until they are thawed.
    ///
    /// A gradient that is there already becomes +0.0 at these elements, and so does their state in optimizers.
    ///
    ///     try conv.weight.freeze(at: [0, 1, 2, 1], to: 1)
    ///     try conv.weight.freeze(at: [.all, .all, 1, 1], to: -1, name: "centre")
    ///
    /// - Parameters:
    ///   - indices: as in a subscript; axes that none names are whole.
    ///   - value: what the elements are held at; where they are now without one.
    ///   - route: who zeroes their gradient.
    ///   - name: shared by freezes that are to be switched together.
    /// - Returns: a handle that thaws exactly these elements.
    /// - Throws: `FreezeError` when an index is out of range (it names the axis and its size), when nothing is
    ///   selected, when the value isn't finite, or when an element is frozen at another value; nothing is frozen then.
    @discardableResult
    public func freeze(
        at indices: [any AxisIndex], to value: Float? = nil, route: FreezeRoute = .mask, name: String? = nil
    ) throws -> FreezeHandle {
        try freeze(.at(indices), to: value, route: route, name: name)
    }

    /// Freezes the whole parameter.
    @discardableResult
    public func freeze(to value: Float? = nil, route: FreezeRoute = .mask, name: String? = nil) throws -> FreezeHandle {
        try freeze(.all, to: value, route: route, name: name)
    }

    /// Freezes the elements whose indices satisfy the predicate.
    @discardableResult
    public func freeze(
        where predicate: @escaping (_ indices: [Int]) throws -> Bool, to value: Float? = nil,
        route: FreezeRoute = .mask, name: String? = nil
    ) throws -> FreezeHandle {
        try freeze(.matching(predicate), to: value, route: route, name: name)
    }

    /// Freezes each element at a value of its own: a thousand stuck-at faults in one call.
    @discardableResult
    public func freeze(
        _ elements: [(indices: [Int], value: Float)], route: FreezeRoute = .mask, name: String? = nil
    ) throws -> FreezeHandle {
        let offsets = try ElementSelection.indices(elements.map(\.indices)).offsets(in: self.value, of: label)
        return try addFreeze(offsets: offsets, values: elements.map(\.value), route: route, name: name)
    }

    /// Freezes a selection at the elements of `values`, which has the selection's shape (or its number of elements, for
    /// a selection that isn't made of indices).
    @discardableResult
    public func freeze(
        _ selection: ElementSelection, values: Tensor, route: FreezeRoute = .mask, name: String? = nil
    ) throws -> FreezeHandle {
        let offsets = try selection.offsets(in: self.value, of: label)
        guard values.count == offsets.count else {
            throw FreezeError("\(offsets.count) elements of \(label) are selected, but \(values.count) values came")
        }
        return try addFreeze(offsets: offsets, values: values.scalars, route: route, name: name)
    }

    /// Freezes a selection, at one value or where its elements are now.
    @discardableResult
    public func freeze(
        _ selection: ElementSelection, to value: Float? = nil, route: FreezeRoute = .mask, name: String? = nil
    ) throws -> FreezeHandle {
        let offsets = try selection.offsets(in: self.value, of: label)
        if let value {
            let values = [Float](repeating: value, count: offsets.count)
            return try addFreeze(offsets: offsets, values: values, route: route, name: name)
        }
        let present = self.value.withUnsafeBufferPointer { elements in offsets.map { elements[$0] } }
        return try addFreeze(offsets: offsets, values: present, inPlace: true, route: route, name: name)
    }

    /// Freezes everything but a selection, where it is now.
    ///
    /// - Returns: nil when the selection is everything.
    @discardableResult
    public func trainOnly(
        _ selection: ElementSelection, route: FreezeRoute = .mask, name: String? = nil
    ) throws -> FreezeHandle? {
        let trainable = Set(try selection.offsets(in: value, of: label))
        let offsets = (0..<count).filter { !trainable.contains($0) }
        if offsets.isEmpty { return nil }
        let present = value.withUnsafeBufferPointer { elements in offsets.map { elements[$0] } }
        return try addFreeze(offsets: offsets, values: present, inPlace: true, route: route, name: name)
    }

    /// Freezes everything but the elements that a subscript with the same indices selects.
    @discardableResult
    public func trainOnly(
        at indices: [any AxisIndex], route: FreezeRoute = .mask, name: String? = nil
    ) throws -> FreezeHandle? {
        try trainOnly(.at(indices), route: route, name: name)
    }

    // MARK: Thawing

    /// Thaws the elements of a selection, whichever freeze has them; it has them no more. What isn't frozen stays so.
    public func thaw(_ selection: ElementSelection) throws {
        let thawed = Set(try selection.offsets(in: value, of: label))
        for freeze in freezes {
            freeze.elements = freeze.elements.removing(where: thawed.contains)
        }
        remove(freezes.filter(\.elements.isEmpty))
    }

    /// Thaws the elements that a subscript with the same indices selects.
    public func thaw(at indices: [any AxisIndex]) throws {
        try thaw(.at(indices))
    }

    /// Removes every freeze.
    public func thaw() {
        remove(freezes)
    }

    // MARK: Named freezes

    /// The freezes made under a name, on and off.
    public func freezes(named name: String) -> [FreezeHandle] {
        freezes.filter { $0.name == name }
    }

    /// Switches on all freezes of a name.
    ///
    /// - Throws: `FreezeError` when there is none of this name, or when one of them and another freeze that is on hold
    ///   an element at two values; all are as before then.
    public func enableFreezes(named name: String) throws {
        let chosen = freezes(named: name)
        guard !chosen.isEmpty else { throw noFreeze(named: name, among: freezes, of: label) }
        try enable(chosen)
    }

    /// Switches off all freezes of a name.
    public func disableFreezes(named name: String) {
        for freeze in freezes(named: name) {
            freeze.isEnabled = false
        }
        freezesChanged()
    }

    /// Whether an element is frozen now.
    public func isFrozen(_ indices: Int...) throws -> Bool {
        guard let mask = gradientMask else { return false }
        let offset = try ElementSelection.indices([indices]).offsets(in: value, of: label)[0]
        return mask.bytes.pointer[offset] == 0
    }

    // MARK: Copies and checkpoints

    /// Replaces the value and all freezes by those of `records`.
    ///
    /// - Throws: `FreezeError` when they don't fit this parameter or each other; it is as before then.
    public func restore(_ records: [FreezeRecord]) throws {
        let restored = try records.map { record in
            guard record.offsets.count == record.values.count else {
                throw FreezeError(
                    "a freeze of \(label) has \(record.offsets.count) elements, but \(record.values.count) values")
            }
            if let outside = record.offsets.first(where: { $0 < 0 || $0 >= min(count, Int(Int32.max)) }) {
                throw FreezeError("a freeze of \(label) has the offset \(outside), but it has \(count) elements")
            }
            let elements = try FrozenElements.sorting(
                offsets: record.offsets, values: record.values, conflict: conflict)
            let freeze = FreezeHandle(name: record.name, route: record.route, elements: elements)
            freeze.isEnabled = record.isEnabled
            return freeze
        }
        let mask = try mask(of: restored)
        for freeze in freezes { freeze.parameter = nil }
        for freeze in restored { freeze.parameter = self }
        freezes = restored
        install(mask)
        if let mask { notifyObservers(ofFreezing: mask.frozen) }
    }

    /// Takes over the value, the freezes and `requiresGrad` of another parameter of the same shape; afterwards the two
    /// are independent.
    public func copyState(of other: Parameter) throws {
        guard shape == other.shape else {
            throw FreezeError("\(label) has shape \(shape), and \(other.label) has shape \(other.shape)")
        }
        thaw()
        value = other.value
        try restore(other.freezes.map(\.record))
        requiresGrad = other.requiresGrad
    }

    /// Assigns a value that comes from elsewhere, such as a file.
    ///
    /// - Parameter strict: throw when `newValue` would change a frozen element, instead of keeping that one.
    public func load(_ newValue: Tensor, strict: Bool = false) throws {
        guard newValue.shape == shape else {
            throw FreezeError("\(label) has shape \(shape), but a value of shape \(newValue.shape) came")
        }
        if strict { try checkFrozen(against: newValue) }
        value = newValue
    }

    /// Throws when `newValue`, of this parameter's shape, would change a frozen element.
    func checkFrozen(against newValue: Tensor) throws {
        guard let mask = gradientMask, let position = mask.frozen.firstDifference(in: newValue) else { return }
        let offset = Int(mask.frozen.offsets[position])
        let loaded = newValue.withUnsafeBufferPointer { $0[offset] }
        throw FreezeError(
            "\(label)\(bracketed(shape.indices(ofOffset: offset))) is frozen at \(mask.frozen.values[position]); "
                + "\(loaded) can't be loaded into it")
    }

    // MARK: Internals

    private func conflict(offset: Int, held: Float, wanted: Float) -> FreezeError {
        FreezeError(
            "\(label)\(bracketed(shape.indices(ofOffset: offset))) can't be frozen both at \(held) and at \(wanted)")
    }

    private func addFreeze(
        offsets: [Int], values: [Float], inPlace: Bool = false, route: FreezeRoute, name: String?
    ) throws -> FreezeHandle {
        if !inPlace, let position = values.firstIndex(where: { !$0.isFinite }) {
            let element = bracketed(shape.indices(ofOffset: offsets[position]))
            throw FreezeError("\(label)\(element) can't be frozen at \(values[position]), which isn't a finite number")
        }
        let elements = try FrozenElements.sorting(offsets: offsets, values: values, conflict: conflict)
        let freeze = FreezeHandle(name: name, route: route, elements: elements)
        let mask = try mask(of: freezes + [freeze])
        freeze.parameter = self
        freezes.append(freeze)
        install(mask)
        notifyObservers(ofFreezing: elements)
        return freeze
    }

    func remove(_ removed: [FreezeHandle]) {
        for freeze in removed { freeze.parameter = nil }
        freezes.removeAll { $0.parameter == nil }
        freezesChanged()
    }

    func enable(_ chosen: [FreezeHandle]) throws {
        try checkEnabling(chosen)
        for freeze in chosen { freeze.isEnabled = true }
        freezesChanged()
        for freeze in chosen { notifyObservers(ofFreezing: freeze.elements) }
    }

    /// Throws when some of these freezes can't be on together with those that are.
    func checkEnabling(_ chosen: [FreezeHandle]) throws {
        _ = try union(of: freezes.filter { freeze in freeze.isEnabled || chosen.contains { $0 === freeze } })
    }

    /// After freezes went away or off: fewer elements are held, so there can't be a conflict.
    func freezesChanged() {
        install(trapping { try mask(of: freezes) })
    }

    /// The elements of all these freezes, on or off.
    private func union(of freezes: [FreezeHandle]) throws -> FrozenElements {
        try freezes.reduce(FrozenElements()) { try $0.union($1.elements, conflict: conflict) }
    }

    /// The mask of those freezes that are on; nil when they hold nothing.
    private func mask(of freezes: [FreezeHandle]) throws -> GradientMask? {
        let enabled = freezes.filter(\.isEnabled), frozen = try union(of: enabled), byKernel: FrozenElements
        if frozen.isEmpty { return nil }
        if enabled.allSatisfy({ $0.route == .mask }) {
            byKernel = frozen
        } else {
            byKernel = try union(of: enabled.filter { $0.route == .mask })
        }
        return GradientMask(shape: shape, frozen: frozen, byKernel: byKernel)
    }
}

/// Names what there is instead of a freeze that was asked for.
func noFreeze(named name: String, among freezes: [FreezeHandle], of owner: String) -> FreezeError {
    let names = Set(freezes.compactMap(\.name)).sorted().map { "'\($0)'" }
    let present = names.isEmpty ? "none with a name" : names.joined(separator: ", ")
    return FreezeError("\(owner) has no freeze '\(name)'; it has \(present)")
}
