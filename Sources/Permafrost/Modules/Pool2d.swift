/// The largest element of each window: [batch, channels, height, width] -> [batch, channels, height', width']; also
/// without the batch axis.
public final class MaxPool2d: Module {
    public let kernelSize: Pair
    public let stride: Pair
    public let padding: Pair
    public let dilation: Pair
    public let ceilMode: Bool

    /// - Parameters:
    ///   - stride: the kernel size when nil.
    ///   - padding: on each side, with -∞; at most half the kernel size.
    ///   - ceilMode: also take windows that begin inside and end outside the input.
    public init(
        _ kernelSize: Pair, stride: Pair? = nil, padding: Pair = 0, dilation: Pair = 1, ceilMode: Bool = false
    ) {
        precondition(kernelSize.isPositive, "MaxPool2d: the kernel size must be positive, not \(kernelSize)")
        precondition(stride?.isPositive != false, "MaxPool2d: the stride must be positive, not \(stride!)")
        precondition(dilation.isPositive, "MaxPool2d: the dilation must be positive, not \(dilation)")
        self.kernelSize = kernelSize
        self.stride = stride ?? kernelSize
        self.padding = padding
        self.dilation = dilation
        self.ceilMode = ceilMode
        super.init()
    }

    public convenience init(
        kernelSize: Pair, stride: Pair? = nil, padding: Pair = 0, dilation: Pair = 1, ceilMode: Bool = false
    ) {
        self.init(kernelSize, stride: stride, padding: padding, dilation: dilation, ceilMode: ceilMode)
    }

    public override func forward(_ input: Tensor) throws -> Tensor {
        try requireImages(input)
        return try batched(input) {
            try maxPool2d(
                $0, kernelSize: kernelSize, stride: stride, padding: padding, dilation: dilation, ceilMode: ceilMode)
        }
    }

    public override var extraDescription: String {
        "kernelSize: \(kernelSize), stride: \(stride), padding: \(padding), dilation: \(dilation), "
            + "ceilMode: \(ceilMode)"
    }

    public override func stateEntries() -> [StateEntry] { [] }
}

/// The mean of each window: [batch, channels, height, width] -> [batch, channels, height', width']; also without the
/// batch axis.
public final class AvgPool2d: Module {
    public let kernelSize: Pair
    public let stride: Pair
    public let padding: Pair
    public let ceilMode: Bool
    public let countIncludePad: Bool

    /// - Parameters:
    ///   - stride: the kernel size when nil.
    ///   - padding: zeros on each side; at most half the kernel size.
    ///   - ceilMode: also take windows that begin inside and end outside the input.
    ///   - countIncludePad: divide by the whole window, padding included.
    public init(
        _ kernelSize: Pair, stride: Pair? = nil, padding: Pair = 0, ceilMode: Bool = false,
        countIncludePad: Bool = true
    ) {
        precondition(kernelSize.isPositive, "AvgPool2d: the kernel size must be positive, not \(kernelSize)")
        precondition(stride?.isPositive != false, "AvgPool2d: the stride must be positive, not \(stride!)")
        self.kernelSize = kernelSize
        self.stride = stride ?? kernelSize
        self.padding = padding
        self.ceilMode = ceilMode
        self.countIncludePad = countIncludePad
        super.init()
    }

    public convenience init(
        kernelSize: Pair, stride: Pair? = nil, padding: Pair = 0, ceilMode: Bool = false, countIncludePad: Bool = true
    ) {
        self.init(
            kernelSize, stride: stride, padding: padding, ceilMode: ceilMode, countIncludePad: countIncludePad)
    }

    public override func forward(_ input: Tensor) throws -> Tensor {
        try requireImages(input)
        return try batched(input) {
            try avgPool2d(
                $0, kernelSize: kernelSize, stride: stride, padding: padding, ceilMode: ceilMode,
                countIncludePad: countIncludePad)
        }
    }

    public override var extraDescription: String {
        "kernelSize: \(kernelSize), stride: \(stride), padding: \(padding)"
    }

    public override func stateEntries() -> [StateEntry] { [] }
}

/// Means of windows chosen so that the output has the given size: [batch, channels, height, width] ->
/// [batch, channels, outputSize.height, outputSize.width]; also without the batch axis.
public final class AdaptiveAvgPool2d: Module {
    public let outputSize: Pair

    public init(_ outputSize: Pair) {
        precondition(outputSize.isPositive, "AdaptiveAvgPool2d: the output size must be positive, not \(outputSize)")
        self.outputSize = outputSize
        super.init()
    }

    public convenience init(outputSize: Pair) {
        self.init(outputSize)
    }

    public override func forward(_ input: Tensor) throws -> Tensor {
        try requireImages(input)
        return try batched(input) { try adaptiveAvgPool2d($0, outputSize: outputSize) }
    }

    public override var extraDescription: String { "outputSize: \(outputSize)" }

    public override func stateEntries() -> [StateEntry] { [] }
}

extension Module {
    fileprivate func requireImages(_ input: Tensor) throws {
        guard input.rank == 3 || input.rank == 4 else {
            throw ModuleError(self, "expected an input of shape [batch, channels, height, width], got \(input.shape)")
        }
    }
}
