/// 2-D convolution (cross-correlation, as in PyTorch): [batch, inputChannels, height, width] ->
/// [batch, outputChannels, height', width']; also without the batch axis.
open class Conv2d: Module {
    /// [outputChannels, inputChannels / groups, kernel height, kernel width]
    public let weight: Parameter
    /// [outputChannels]
    public let bias: Parameter?
    public let inputChannels: Int
    public let outputChannels: Int
    public let kernelSize: Pair
    public let stride: Pair
    public let padding: Padding
    public let dilation: Pair
    public let groups: Int

    /// Weights and biases are drawn uniformly from ±1/√(inputChannels / groups · kernel height · kernel width).
    /// Traps when a size isn't positive or the groups don't divide the channels.
    public init(
        inputChannels: Int, outputChannels: Int, kernelSize: Pair, stride: Pair = 1, padding: Padding = 0,
        dilation: Pair = 1, groups: Int = 1, bias: Bool = true
    ) {
        precondition(
            inputChannels > 0 && outputChannels > 0,
            "Conv2d: the numbers of channels must be positive, not \(inputChannels) and \(outputChannels)")
        precondition(kernelSize.isPositive, "Conv2d: the kernel size must be positive, not \(kernelSize)")
        precondition(stride.isPositive, "Conv2d: the stride must be positive, not \(stride)")
        precondition(dilation.isPositive, "Conv2d: the dilation must be positive, not \(dilation)")
        precondition(
            min(padding.top, padding.bottom, padding.left, padding.right) >= 0,
            "Conv2d: the padding can't be negative: \(padding)")
        precondition(
            groups > 0 && inputChannels % groups == 0 && outputChannels % groups == 0,
            "Conv2d: \(groups) groups don't divide \(inputChannels) input and \(outputChannels) output channels")
        self.inputChannels = inputChannels
        self.outputChannels = outputChannels
        self.kernelSize = kernelSize
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.groups = groups
        let fanIn = inputChannels / groups * kernelSize.height * kernelSize.width
        weight = .uniform([outputChannels, inputChannels / groups, kernelSize.height, kernelSize.width], fanIn: fanIn)
        self.bias = bias ? .uniform([outputChannels], fanIn: fanIn) : nil
        super.init()
    }

    /// The short form: `Conv2d(3, 1, 3)`.
    public convenience init(
        _ inputChannels: Int, _ outputChannels: Int, _ kernelSize: Pair, stride: Pair = 1, padding: Padding = 0,
        dilation: Pair = 1, groups: Int = 1, bias: Bool = true
    ) {
        self.init(
            inputChannels: inputChannels, outputChannels: outputChannels, kernelSize: kernelSize, stride: stride,
            padding: padding, dilation: dilation, groups: groups, bias: bias)
    }

    open override func forward(_ input: Tensor) throws -> Tensor {
        let rank = input.rank
        guard rank == 3 || rank == 4, input.shape[rank - 3] == inputChannels else {
            throw ModuleError(
                self, "expected an input of shape [batch, \(inputChannels), height, width], got \(input.shape)")
        }
        return try batched(input) { input in
            try conv2d(
                input, weight.tensor, bias: bias?.tensor, stride: stride, padding: padding, dilation: dilation,
                groups: groups)
        }
    }

    open override func stateEntries() -> [StateEntry] {
        affineEntries(weight, bias) + reflectedEntries(below: Conv2d.self)
    }

    open override var extraDescription: String {
        var text = "\(inputChannels), \(outputChannels), kernelSize: \(kernelSize), stride: \(stride)"
        if padding != 0 { text += ", padding: \(padding)" }
        if dilation != 1 { text += ", dilation: \(dilation)" }
        if groups != 1 { text += ", groups: \(groups)" }
        if bias == nil { text += ", bias: false" }
        return text
    }
}

extension Pair {
    var isPositive: Bool { height > 0 && width > 0 }
}

extension Module {
    /// Runs an operation on images, [batch, channels, height, width], also for an input without the batch axis.
    final func batched(_ input: Tensor, _ operation: (Tensor) throws -> Tensor) throws -> Tensor {
        try naming {
            guard input.rank == 3 else { return try operation(input) }
            let output = try operation(input.reshaped([1] + Array(input.shape)))
            return output.reshaped(Array(output.shape.dropFirst()))
        }
    }

    /// Runs an operation whose errors about its arguments shall name this layer.
    final func naming<R>(_ operation: () throws -> R) throws -> R {
        do {
            return try operation()
        } catch let error as TensorError {
            throw ModuleError(self, error.message)
        }
    }
}
