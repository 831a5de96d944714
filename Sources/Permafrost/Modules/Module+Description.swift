extension Module {
    /// PyTorch's form: the type, its settings, and the modules below, indented.
    final func treeDescription() -> String {
        let children = children
        guard !children.isEmpty else { return "\(type(of: self))(\(extraDescription))" }
        var lines = extraDescription.isEmpty ? [] : [extraDescription]
        lines += children.map { "(\($0.name)): \($0.module)" }
        let body = lines.joined(separator: "\n").split(separator: "\n").map { "  " + $0 }.joined(separator: "\n")
        return "\(type(of: self))(\n\(body)\n)"
    }
}
