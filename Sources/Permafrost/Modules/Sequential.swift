/// Modules that are called one after the other, each with the output of the one before.
///
///     let net = Sequential(Conv2d(1, 16, 3), ReLU(), Flatten(), Linear(576, 10))
///
/// Keys are the positions, "0", "1", …, unless names are given.
open class Sequential: Module {
    private var layers: [(name: String, module: Module)]

    public init(_ layers: [Module]) {
        self.layers = layers.enumerated().map { ("\($0.offset)", $0.element) }
        super.init()
    }

    public convenience init(_ layers: Module...) {
        self.init(layers)
    }

    /// With names: `Sequential(["conv": Conv2d(1, 16, 3), "relu": ReLU()])`. Traps when one occurs twice.
    public init(_ layers: KeyValuePairs<String, Module>) {
        precondition(
            Set(layers.map(\.key)).count == layers.count, "Sequential: a name occurs twice in \(layers.map(\.key))")
        self.layers = layers.map { ($0.key, $0.value) }
        super.init()
    }

    /// Appends a module under its position, or under `name`. Traps when the name is taken.
    public func append(_ module: Module, name: String? = nil) {
        let name = name ?? "\(layers.count)"
        precondition(!layers.contains { $0.name == name }, "Sequential: there is a module named '\(name)' already")
        layers.append((name, module))
    }

    public var count: Int { layers.count }

    /// The module at a position.
    public subscript(position: Int) -> Module {
        get { layers[position].module }
        set { layers[position].module = newValue }
    }

    open override func forward(_ input: Tensor) throws -> Tensor {
        try layers.reduce(input) { try $1.module($0) }
    }

    open override func stateEntries() -> [StateEntry] {
        layers.map { .module($0.name, $0.module) } + reflectedEntries(below: Sequential.self)
    }
}
