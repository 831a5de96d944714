import CKernels

/// relu or relu6 of a tensor, not computed yet: where nobody else holds the argument it is computed in place, or along
/// with the convolution that the argument waits for.
final class DeferredActivation: DeferredElements {
    private let kind: pf_activation
    private var argument: Storage

    init(_ kind: pf_activation, _ argument: Storage) {
        self.kind = kind
        self.argument = argument
        if !(argument.deferred is DeferredConvolution) { _ = argument.pointer }
    }

    override func compute(count: Int) -> UnsafeMutablePointer<Float> {
        if isKnownUniquelyReferenced(&argument), let convolution = argument.deferred as? DeferredConvolution {
            return convolution.compute(kind, count: count)
        }
        let elements = argument.pointer
        let block = block(replacing: &argument, count: count)
        checkKernel(pf_elementwise_unary(&context, kind.unary, Int64(count), elements, block), kind.name)
        return block
    }
}

extension pf_activation {
    var unary: pf_unary { self == pf_activation_relu6 ? pf_relu6 : pf_relu }
    var backward: pf_binary { self == pf_activation_relu6 ? pf_relu6_backward : pf_relu_backward }
    var name: String { self == pf_activation_relu6 ? "relu6" : "relu" }
}

/// Its backward is left to the neighbours where they can do it on their way: a batch normalisation before it, a max
/// pooling behind it. Hooks on the tensors between them see the gradients that belong to these.
final class ActivationNode: Node {
    let kind: pf_activation
    private var result: Tensor?

    init(_ x: Tensor, _ kind: pf_activation, result: Tensor) {
        self.kind = kind
        self.result = result.detached()
        super.init(x.node)
    }

    override var operation: String { kind.name }

    override func propagate(_ pass: BackwardPass) {
        var gradient = gradient.take()!
        if gradientHasPassed {
            gradientHasPassed = false
            pass.send(gradient, to: input0)
        } else if let producer = input0, producer.differentiatesActivations, producer.gradient == nil {
            pass.send(gradient, to: producer)
            producer.gradientAwaits = AwaitedActivation(kind: kind, result: result!)
        } else {
            gradient.pass(through: kind, result: result!)
            pass.send(gradient, to: input0)
        }
    }

    override func releaseSaved() {
        result = nil
        isReleased = true
    }
}

extension Tensor {
    private func activated(_ kind: pf_activation) -> Tensor {
        let deferred =
            (storage.deferred as? DeferredNormalization)?.activated(kind) ?? DeferredActivation(kind, storage)
        var result = Tensor(shape: shape, storage: Storage(count: count, deferred: deferred))
        if Tensor.records(self) { result.node = ActivationNode(self, kind, result: result) }
        return result
    }

    /// max(x, 0); its derivative at 0 is 0.
    public func relu() -> Tensor { activated(pf_activation_relu) }
    /// min(max(x, 0), 6); its derivative at 0 and 6 is 0.
    public func relu6() -> Tensor { activated(pf_activation_relu6) }

    /// A gradient with respect to an activation's result becomes that with respect to its argument, in place
    /// unless it is shared.
    mutating func pass(through kind: pf_activation, result: Tensor) {
        let isShared = !isKnownUniquelyReferenced(&storage)
        let source = storage
        if isShared { storage = Storage(count: count) }
        var count = Int64(count)
        var stride: Int64 = 1
        checkKernel(
            withKernelContext {
                pf_elementwise_binary(
                    $0, kind.backward, 1, &count, source.pointer, &stride, result.storage.pointer, &stride,
                    storage.pointer)
            }, kind.name)
    }
}
