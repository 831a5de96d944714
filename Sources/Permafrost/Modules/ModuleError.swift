/// A module was given, or a hook of it returned, something that doesn't fit.
///
/// The message begins with the layer: its type, and its path in the tree when it was called through an enclosing module
/// or the tree has been walked, as in `Conv2d conv1: expected …`.
public struct ModuleError: Error, CustomStringConvertible {
    /// The module's type, as in `Conv2d`.
    public let type: String
    /// The module's path in the tree, as in `features.0`; nil when unknown.
    public internal(set) var path: String?
    /// What was expected and what came.
    public let message: String
    private let identifier: ObjectIdentifier

    public init(_ module: Module, _ message: String) {
        type = "\(Swift.type(of: module))"
        path = module.path
        identifier = ObjectIdentifier(module)
        self.message = message
    }

    public var description: String {
        guard let path, !path.isEmpty else { return "\(type): \(message)" }
        return "\(type) \(path): \(message)"
    }

    /// The same error with the path as seen from `root`, when the module it is about lies in that tree.
    func located(in root: Module) -> ModuleError {
        guard ObjectIdentifier(root) != identifier,
            let found = root.namedModules().first(where: { ObjectIdentifier($0.module) == identifier })
        else { return self }
        var error = self
        error.path = found.module.path
        return error
    }
}
