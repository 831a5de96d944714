extension Module {
    /// The stored properties that hold parameters, buffers and modules, those of superclasses first.
    ///
    /// - Parameter base: a superclass; only the properties of subclasses of it.
    final func reflectedEntries(below base: Module.Type = Module.self) -> [StateEntry] {
        guard type(of: self) != base else { return [] }
        var mirrors: [Mirror] = []
        var mirror: Mirror? = Mirror(reflecting: self)
        while let current = mirror, current.subjectType != base {
            mirrors.append(current)
            mirror = current.superclassMirror
        }
        var entries: [StateEntry] = []
        for mirror in mirrors.reversed() {
            for property in mirror.children {
                guard let label = property.label else { continue }
                append(property.value, label, property: label, to: &entries)
            }
        }
        return entries
    }

    /// The entries of a layer that knows them: found without reflection, which costs microseconds a property.
    final func affineEntries(_ weight: Parameter?, _ bias: Parameter?) -> [StateEntry] {
        var entries: [StateEntry] = []
        if let weight { entries.append(.parameter("weight", weight)) }
        if let bias { entries.append(.parameter("bias", bias)) }
        return entries
    }

    private func append(_ value: Any, _ key: String, property: String, to entries: inout [StateEntry]) {
        switch value {
        case let module as Module:
            requireNameable(property, module)
            entries.append(.module(key, module))
        case let parameter as Parameter:
            requireNameable(property, parameter)
            entries.append(.parameter(key, parameter))
        case let buffer as Buffer:
            requireNameable(property, buffer)
            entries.append(.buffer(buffer.key ?? key, buffer))
        case is Int, is Float, is Double, is Bool, is String, is Tensor, is Pair, is Padding:
            return
        default:
            appendContents(of: value, key, property: property, to: &entries)
        }
    }

    private func appendContents(of value: Any, _ key: String, property: String, to entries: inout [StateEntry]) {
        if property.hasPrefix(lazyPrefix) && isOptionalState(value) { refuse(property, value) }
        let mirror = Mirror(reflecting: value)
        switch mirror.displayStyle {
        case .optional:
            if let wrapped = mirror.children.first?.value {
                append(wrapped, key, property: property, to: &entries)
            }
        case .collection:
            for (index, element) in mirror.children.enumerated() {
                if index == 0 && isInert(element.value) { return }
                append(element.value, "\(key).\(index)", property: property, to: &entries)
            }
        case .dictionary where value is [String: Any]:
            for (name, element) in (value as! [String: Any]).sorted(by: { $0.key < $1.key }) {
                append(element, "\(key).\(name)", property: property, to: &entries)
            }
        default:
            var visited: Set<ObjectIdentifier> = []
            if containsState(value, &visited) { refuse(property, value) }
        }
    }

    private func requireNameable(_ property: String, _ value: Any) {
        if property.hasPrefix(lazyPrefix) { refuse(property, value) }
    }

    private func refuse(_ property: String, _ value: Any) -> Never {
        let isLazy = property.hasPrefix(lazyPrefix)
        let name = isLazy ? String(property.dropFirst(lazyPrefix.count)) : property
        let place = isLazy ? "lazily" : "inside a \(type(of: value))"
        preconditionFailure(
            "property '\(name)' of \(type(of: self)) holds parameters or modules \(place), where reflection can't name "
                + "them: declare it as a Module, a Parameter, an array or a dictionary of them, or override "
                + "stateEntries()")
    }
}

/// What the name of a lazy property's storage begins with.
private let lazyPrefix = "$__lazy_storage_$_"

/// A value without parts: no parameter can hide in it, nor in others of its type.
private func isInert(_ value: Any) -> Bool {
    let mirror = Mirror(reflecting: value)
    return mirror.displayStyle == nil && mirror.children.isEmpty
}

/// Whether parameters, buffers or modules lie somewhere inside a value that isn't one itself.
private func containsState(_ value: Any, _ visited: inout Set<ObjectIdentifier>) -> Bool {
    if value is Module || value is Parameter || value is Buffer { return true }
    if value is Tensor { return false }
    let mirror = Mirror(reflecting: value)
    if mirror.displayStyle == .class {
        guard visited.insert(ObjectIdentifier(value as AnyObject)).inserted else { return false }
    }
    for (index, part) in mirror.children.enumerated() {
        if index == 0, mirror.displayStyle == .collection, isInert(part.value) { return false }
        if containsState(part.value, &visited) { return true }
    }
    return mirror.superclassMirror.map { $0.children.contains { containsState($0.value, &visited) } } ?? false
}

private protocol AnyOptional {
    static var wrapped: Any.Type { get }
}

extension Optional: AnyOptional {
    static var wrapped: Any.Type { Wrapped.self }
}

/// Whether a value, nil included, is of the type of an optional module, parameter or buffer.
private func isOptionalState(_ value: Any) -> Bool {
    guard let wrapped = (type(of: value) as? any AnyOptional.Type)?.wrapped else { return false }
    return wrapped is Module.Type || wrapped is Parameter.Type || wrapped is Buffer.Type
}
