import CKernels

/// What a loss over a batch is returned as.
public enum Reduction: String, Sendable, CaseIterable {
    case none, mean, sum
}

// MARK: - Softmax

private final class SoftmaxNode: Node {
    private let logarithm: Bool
    private var result: Tensor?

    init(_ x: Tensor, logarithm: Bool, result: Tensor) {
        self.logarithm = logarithm
        self.result = result.detached()
        super.init(x.node)
    }

    override var operation: String { logarithm ? "logSoftmax" : "softmax" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        let result = result!
        let part = Tensor.uninitialized(result.shape)
        let columns = result.shape[result.rank - 1]
        try requireKernel(
            withKernelContext {
                pf_softmax_backward(
                    $0, Int64(result.count / columns), Int64(columns), logarithm, result.storage.pointer,
                    gradient!.storage.pointer, part.storage.pointer)
            }, operation)
        pass.send(part, to: input0)
    }

    override func releaseSaved() {
        result = nil
        isReleased = true
    }
}

extension Tensor {
    private func softmax(logarithm: Bool) -> Tensor {
        precondition(rank > 0 && shape[rank - 1] > 0, "softmax of a tensor of shape \(shape)")
        var result = Tensor.uninitialized(shape)
        let columns = shape[rank - 1]
        checkKernel(
            withKernelContext {
                pf_softmax(
                    $0, Int64(count / columns), Int64(columns), logarithm, storage.pointer, result.storage.pointer)
            }, "softmax")
        if Tensor.records(self) { result.node = SoftmaxNode(self, logarithm: logarithm, result: result) }
        return result
    }

    /// exp(x) divided by its sum, along the last axis.
    public func softmax() -> Tensor { softmax(logarithm: false) }
    /// The logarithm of the softmax along the last axis.
    public func logSoftmax() -> Tensor { softmax(logarithm: true) }
}

// MARK: - Cross-entropy

private final class CrossEntropyNode: Node {
    private var logits: Tensor?, logNormalizer: Tensor?
    private let targets: [Int32]
    private let smoothing: Float
    private let reduction: Reduction

    init(
        _ logits: Tensor, _ targets: [Int32], _ smoothing: Float, _ reduction: Reduction, logNormalizer: Tensor
    ) {
        self.logits = logits.detached()
        self.logNormalizer = logNormalizer
        self.targets = targets
        self.smoothing = smoothing
        self.reduction = reduction
        super.init(logits.node)
    }

    override var operation: String { "crossEntropy" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        let logits = logits!
        let rows = logits.shape[0]
        let lossGradient =
            switch reduction {
            case .none: gradient!
            case .mean: Tensor.full([rows], gradient!.item() / Float(rows))
            case .sum: Tensor.full([rows], gradient!.item())
            }
        let part = Tensor.uninitialized(logits.shape)
        try requireKernel(
            withKernelContext {
                pf_cross_entropy_backward(
                    $0, Int64(rows), Int64(logits.shape[1]), smoothing, logits.storage.pointer, targets,
                    logNormalizer!.storage.pointer, lossGradient.storage.pointer, part.storage.pointer)
            }, operation)
        pass.send(part, to: input0)
    }

    override func releaseSaved() {
        logits = nil
        logNormalizer = nil
        isReleased = true
    }
}

/// -log softmax(logits)[target], averaged over the batch by default.
///
/// - Parameters:
///   - logits: [batch, classes]
///   - targets: one class a row, in 0 ..< classes
///   - labelSmoothing: this share of the target's probability is spread evenly over all classes
/// - Throws: `TensorError` when shapes don't fit or a target is no class, naming its row.
public func crossEntropy(
    _ logits: Tensor, _ targets: [Int32], labelSmoothing: Float = 0, reduction: Reduction = .mean
) throws -> Tensor {
    guard logits.rank == 2, logits.shape[1] > 0 else {
        throw TensorError("crossEntropy: the logits must be [batch, classes], not \(logits.shape)")
    }
    let rows = logits.shape[0]
    let classes = logits.shape[1]
    guard targets.count == rows else {
        throw TensorError("crossEntropy: \(targets.count) targets for logits of shape \(logits.shape)")
    }
    if let row = targets.firstIndex(where: { $0 < 0 || $0 >= classes }) {
        throw TensorError("crossEntropy: target \(targets[row]) in row \(row) is none of the \(classes) classes")
    }
    guard labelSmoothing >= 0, labelSmoothing <= 1 else {
        throw TensorError("crossEntropy: the label smoothing must be in 0 ... 1, not \(labelSmoothing)")
    }
    let loss = Tensor.uninitialized([rows])
    let logNormalizer = Tensor.uninitialized([rows])
    try requireKernel(
        withKernelContext {
            pf_cross_entropy_forward(
                $0, Int64(rows), Int64(classes), labelSmoothing, logits.storage.pointer, targets, loss.storage.pointer,
                logNormalizer.storage.pointer)
        }, "crossEntropy")
    var result =
        switch reduction {
        case .none: loss
        case .mean: loss.mean()
        case .sum: loss.sum()
        }
    if Tensor.records(logits) {
        result.node = CrossEntropyNode(logits, targets, labelSmoothing, reduction, logNormalizer: logNormalizer)
    }
    return result
}

/// (input - target)², averaged over all elements by default.
/// - Throws: `TensorError` when the shapes differ.
public func mseLoss(_ input: Tensor, _ target: Tensor, reduction: Reduction = .mean) throws -> Tensor {
    guard input.shape == target.shape else {
        throw TensorError("mseLoss: an input of shape \(input.shape) and a target of shape \(target.shape)")
    }
    let squares = (input - target).squared()
    return switch reduction {
    case .none: squares
    case .mean: squares.mean()
    case .sum: squares.sum()
    }
}
