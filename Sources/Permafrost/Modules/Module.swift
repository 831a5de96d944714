/// A part of a network: parameters, buffers and other modules in its properties, and a way to compute outputs from
/// inputs.
///
///     final class Net: Module {
///         let conv1 = Conv2d(1, 16, 3, padding: 1)
///         let fc = Linear(16, 10)
///
///         override func forward(_ x: Tensor) throws -> Tensor {
///             try fc(conv1(x).relu().mean(axes: [2, 3]))
///         }
///     }
///     let logits = try Net()(images)
///
/// A module is called, `try net(x)`, so that its hooks run; `forward` is what it overrides, in one of two forms: one
/// tensor in and out, or arrays of them. Parameters and modules in properties are found by reflection, under the names
/// that PyTorch's `state_dict` would give them (see `stateEntries`).
///
/// A module isn't safe to use from several threads at once.
open class Module: CustomStringConvertible {
    /// Whether this module is in training mode, which changes what `Dropout` and `BatchNorm2d` compute. `train()` and
    /// `eval()` set it for a whole tree.
    public final var training = true

    /// The path at which this module was last found in a tree, for messages; "" at the root.
    public internal(set) final var path: String?

    /// Nil while no hook is registered, so that a module without hooks pays a branch.
    final var hooks: ModuleHooks?

    /// Whether the default `forward(_: Tensor)` is on its way to `forward(_: [Tensor])`.
    private final var isForwarding = false

    public init() {}

    /// Computes the output for one input. Override this, or the form for arrays.
    open func forward(_ input: Tensor) throws -> Tensor {
        isForwarding = true
        defer { isForwarding = false }
        return try single(forward([input]))
    }

    /// Computes outputs from several inputs. Override this in a module with several inputs or outputs.
    open func forward(_ inputs: [Tensor]) throws -> [Tensor] {
        guard !isForwarding else { throw ModuleError(self, "must override forward") }
        guard inputs.count == 1 else { throw ModuleError(self, "expected 1 input, got \(inputs.count)") }
        return [try forward(inputs[0])]
    }

    /// Runs the forward pre-hooks, `forward`, and the forward hooks.
    ///
    /// - Throws: `ModuleError`, naming the layer, when the input doesn't fit; what `forward` or a hook throws.
    public final func callAsFunction(_ input: Tensor) throws -> Tensor {
        if hooks == nil && !GlobalHooks.areRegistered {
            do {
                return try forward(input)
            } catch let error as ModuleError {
                throw error.located(in: self)
            }
        }
        return try single(
            callWithHooks([input]) { inputs in
                inputs.count == 1 ? [try forward(inputs[0])] : try forward(inputs)
            })
    }

    /// Runs the forward pre-hooks, `forward`, and the forward hooks, for a module with several inputs or outputs.
    ///
    /// - Throws: `ModuleError`, naming the layer, when the inputs don't fit; what `forward` or a hook throws.
    public final func callAsFunction(_ inputs: [Tensor]) throws -> [Tensor] {
        try callWithHooks(inputs) { try forward($0) }
    }

    /// The only output of a call.
    final func single(_ outputs: [Tensor]) throws -> Tensor {
        guard outputs.count == 1 else {
            throw ModuleError(
                self, "has \(outputs.count) outputs; call it with an array of inputs to get them as an array")
        }
        return outputs[0]
    }

    /// Puts this module and all below it into training mode, or out of it.
    @discardableResult
    public final func train(_ on: Bool = true) -> Self {
        for (_, module) in namedModules() { module.training = on }
        return self
    }

    /// Puts this module and all below it into evaluation mode: `train(false)`.
    @discardableResult
    public final func eval() -> Self { train(false) }

    /// Drops every parameter's gradient, or fills it with zeros.
    public final func zeroGrad(setToNil: Bool = true) {
        for parameter in parameters() { parameter.zeroGrad(setToNil: setToNil) }
    }

    /// What belongs directly to this module: parameters, buffers, modules, each under its key.
    ///
    /// By default these are its stored properties, those of superclasses first, under the properties' names. Modules
    /// and parameters may be optional, or lie in arrays (`blocks.0`, `blocks.1`, …) and dictionaries with `String`
    /// keys (in the order of the keys). A module or parameter in a place that reflection can't name, such as a tuple,
    /// a structure or a lazy property, traps and names the property. Override this where keys must differ from
    /// properties' names.
    open func stateEntries() -> [StateEntry] { reflectedEntries() }

    /// What `print` shows between the parentheses of a module: its settings.
    open var extraDescription: String { "" }

    /// The module, its settings, and the modules below it, a line each.
    open var description: String { treeDescription() }
}
