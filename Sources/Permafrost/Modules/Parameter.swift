/// A tensor that training changes: a module's weight, bias, scale or shift.
///
/// It owns its value, its gradient and what is frozen of it. A frozen element keeps its bits through optimizer steps
/// and through every assignment of `value`; see `freeze(at:to:route:name:)`.
public final class Parameter {
    private var stored: Tensor
    let leaf: Leaf

    /// Whether `backward()` computes a gradient. Without one, optimizers leave the parameter alone.
    public var requiresGrad: Bool
    /// The name in the model, as in `conv1.weight`; set by the module tree, used in messages.
    public var name: String?
    /// Projections that an optimizer applies to the value after each of its steps, in this order.
    public var constraints: [any Constraint] = []

    /// What is frozen now; nil when nothing is.
    public internal(set) var gradientMask: GradientMask?
    /// All freezes, on and off, in the order in which they were made.
    public internal(set) var freezes: [FreezeHandle] = []
    private var observers: [WeakFreezeObserver] = []

    public init(_ value: Tensor, requiresGrad: Bool = true) {
        stored = value.detached()
        leaf = Leaf()
        self.requiresGrad = requiresGrad
    }

    public var shape: Shape { stored.shape }
    /// The number of elements.
    public var count: Int { stored.count }

    /// The elements, outside any tape. Writing in place doesn't copy, unless a tape still holds the old value; the
    /// shape can't change, and frozen elements keep their values whatever is assigned.
    public var value: Tensor {
        _read { yield stored }
        _modify {
            let shape = stored.shape
            defer { assigned(expecting: shape) }
            yield &stored
        }
    }

    private func assigned(expecting shape: Shape) {
        precondition(
            stored.shape == shape, "\(label) has shape \(shape); a value of shape \(stored.shape) can't be assigned")
        stored.node = nil
        gradientMask?.frozen.assert(on: &stored)
    }

    /// The value as a leaf of the tape: what operations take.
    public var tensor: Tensor {
        requiresGrad ? Tensor(shape: shape, storage: stored.storage, node: leaf) : stored
    }

    /// The gradient that `backward()` has accumulated; nil before the first. Frozen elements are +0.0.
    public var grad: Tensor? {
        _read { yield leaf.grad }
        _modify {
            defer { gradientAssigned() }
            yield &leaf.grad
        }
    }

    private func gradientAssigned() {
        guard let shape = leaf.grad?.shape else { return }
        precondition(
            shape == stored.shape, "\(label) has shape \(stored.shape); a gradient of shape \(shape) can't be assigned")
        clearFrozenGradient()
    }

    /// Drops the gradient, or fills it with zeros.
    public func zeroGrad(setToNil: Bool = true) {
        if setToNil {
            leaf.grad = nil
        } else if let shape = leaf.grad?.shape {
            leaf.grad = .zeros(shape)
        }
    }

    /// Elements of the value, as in `weight[0, .all, 1, 1] = -1`.
    public subscript(_ indices: any AxisIndex...) -> Tensor {
        get { stored.slice(trapping { try Selection(indices, in: shape) }) }
        set { value.assign(newValue, at: trapping { try Selection(indices, in: shape) }) }
    }

    /// One element of the value.
    public subscript(element indices: Int...) -> Float {
        get { stored.withUnsafeBufferPointer { $0[stored.offset(of: indices)] } }
        set {
            let offset = stored.offset(of: indices)
            value.withUnsafeMutableBufferPointer { $0[offset] = newValue }
        }
    }

    /// Adds a hook on the gradient, before it is accumulated into `grad`; a tensor it returns takes the gradient's
    /// place.
    @discardableResult
    public func registerHook(
        file: StaticString = #fileID, line: Int = #line, _ hook: @escaping (Tensor) throws -> Tensor?
    ) -> HookHandle {
        if leaf.tensorHooks == nil { leaf.tensorHooks = HookList() }
        return leaf.tensorHooks!.add(hook, origin: HookOrigin(file: file, line: line))
    }

    /// Adds a hook that runs after the gradient was accumulated into `grad`.
    @discardableResult
    public func registerPostAccumulateGradHook(
        file: StaticString = #fileID, line: Int = #line, _ hook: @escaping (Parameter) throws -> Void
    ) -> HookHandle {
        if leaf.postAccumulateHooks == nil { leaf.postAccumulateHooks = HookList() }
        return leaf.postAccumulateHooks!.add(
            { [weak self] in if let self { try hook(self) } }, origin: HookOrigin(file: file, line: line))
    }

    /// What messages call this parameter.
    var label: String { name ?? "a parameter of shape \(shape)" }
}

// MARK: - Access for freezes and optimizers

/// What keeps something for each element of a parameter, and so must forget it when the element is frozen.
protocol FreezeObserver: AnyObject {
    func froze(_ elements: FrozenElements, of parameter: Parameter)
}

private struct WeakFreezeObserver {
    weak var observer: (any FreezeObserver)?
}

extension Parameter {
    func add(observer: any FreezeObserver) {
        observers.removeAll { $0.observer == nil || $0.observer === observer }
        observers.append(WeakFreezeObserver(observer: observer))
    }

    func notifyObservers(ofFreezing elements: FrozenElements) {
        for entry in observers {
            entry.observer?.froze(elements, of: self)
        }
    }

    func clearFrozenGradient() {
        guard let mask = gradientMask, leaf.grad != nil else { return }
        mask.clear(&leaf.grad!)
    }

    /// Takes `mask` into effect everywhere: kernels, callback, present gradient, value.
    func install(_ mask: GradientMask?) {
        gradientMask = mask
        leaf.gradientMask = mask?.kernelBytes
        leaf.afterBackward = mask.map { mask in { gradient in mask.clear(&gradient) } }
        clearFrozenGradient()
        mask?.frozen.assert(on: &stored)
    }

    /// The elements for an update that respects the mask itself: frozen values aren't re-asserted.
    func withUnmaskedValue<R>(_ body: (inout Tensor) throws -> R) rethrows -> R {
        try body(&stored)
    }
}
