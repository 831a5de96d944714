/// Something that belongs directly to a module, under its key.
public enum StateEntry {
    case parameter(String, Parameter)
    case buffer(String, Buffer)
    case module(String, Module)

    public var key: String {
        switch self {
        case .parameter(let key, _), .buffer(let key, _), .module(let key, _): key
        }
    }
}

/// One entry of a state dictionary.
public struct NamedState {
    public enum Content {
        case parameter(Parameter)
        case buffer(Buffer)
    }

    /// The whole key, as in `layer1.0.conv1.weight`.
    public let name: String
    public let content: Content

    public var value: Tensor {
        switch content {
        case .parameter(let parameter): parameter.value
        case .buffer(let buffer): buffer.value
        }
    }
}

extension Module {
    /// The modules directly below this one.
    public final var children: [(name: String, module: Module)] {
        stateEntries().compactMap { entry in
            if case .module(let key, let module) = entry { (key, module) } else { nil }
        }
    }

    /// This module, under the name "", and all below it, parents first. A module that is reachable in several ways is
    /// listed once, under the first name.
    public final func namedModules() -> [(name: String, module: Module)] {
        walk().map { ($0.name, $0.module) }
    }

    /// This module and all below it, parents first.
    public final func modules() -> [Module] {
        walk().map(\.module)
    }

    /// All parameters in PyTorch's order: a module's own, then those of the modules below it. A parameter that is
    /// reachable in several ways is listed once.
    public final func parameters() -> [Parameter] {
        namedParameters().map(\.parameter)
    }

    /// All parameters with the keys that PyTorch's `state_dict` would give them, as in `conv1.weight`.
    public final func namedParameters() -> [(name: String, parameter: Parameter)] {
        var seen: Set<ObjectIdentifier> = []
        var result: [(name: String, parameter: Parameter)] = []
        for (prefix, _, entries) in walk() {
            for case .parameter(let key, let parameter) in entries
            where seen.insert(ObjectIdentifier(parameter)).inserted {
                let name = join(prefix, key)
                parameter.name = deeper(parameter.name, name)
                result.append((name, parameter))
            }
        }
        return result
    }

    /// All buffers with their keys, as in `bn1.running_mean`.
    public final func namedBuffers() -> [(name: String, buffer: Buffer)] {
        var seen: Set<ObjectIdentifier> = []
        var result: [(name: String, buffer: Buffer)] = []
        for (prefix, _, entries) in walk() {
            for case .buffer(let key, let buffer) in entries where seen.insert(ObjectIdentifier(buffer)).inserted {
                result.append((join(prefix, key), buffer))
            }
        }
        return result
    }

    /// The entries of the state dictionary in PyTorch's order: of each module, parents first, the parameters, then the
    /// buffers. What is reachable in several ways appears under each of its keys. Traps when a module contains itself.
    public final func namedState() -> [NamedState] {
        var result: [NamedState] = []
        appendState(to: &result, prefix: "", ancestors: [])
        return result
    }

    private func appendState(to result: inout [NamedState], prefix: String, ancestors: [Module]) {
        precondition(
            !ancestors.contains { $0 === self },
            "the \(type(of: self)) at '\(prefix)' contains itself, so its state has no end; hold the enclosing module "
                + "outside the properties that reflection sees, or override stateEntries()")
        let entries = stateEntries()
        for case .parameter(let key, let parameter) in entries {
            result.append(NamedState(name: join(prefix, key), content: .parameter(parameter)))
        }
        for case .buffer(let key, let buffer) in entries {
            result.append(NamedState(name: join(prefix, key), content: .buffer(buffer)))
        }
        for case .module(let key, let module) in entries {
            module.appendState(to: &result, prefix: join(prefix, key), ancestors: ancestors + [self])
        }
    }

    /// This module and all below it once each, parents first, with what belongs to each; notes the paths on the way.
    private func walk() -> [(name: String, module: Module, entries: [StateEntry])] {
        var seen: Set<ObjectIdentifier> = []
        var result: [(name: String, module: Module, entries: [StateEntry])] = []
        func visit(_ module: Module, _ name: String) {
            guard seen.insert(ObjectIdentifier(module)).inserted else { return }
            module.path = deeper(module.path, name)
            let entries = module.stateEntries()
            result.append((name, module, entries))
            for case .module(let key, let child) in entries {
                visit(child, join(name, key))
            }
        }
        visit(self, "")
        return result
    }
}

private func join(_ prefix: String, _ key: String) -> String {
    prefix.isEmpty ? key : "\(prefix).\(key)"
}

/// The name to remember: `new`, unless the walk started below the one that gave the longer name `old`.
private func deeper(_ old: String?, _ new: String) -> String {
    guard let old, old != new, new.isEmpty || old.hasSuffix("." + new) else { return new }
    return old
}
