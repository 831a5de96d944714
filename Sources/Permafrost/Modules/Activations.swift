/// max(x, 0), elementwise.
public final class ReLU: Module {
    public override func forward(_ input: Tensor) throws -> Tensor { input.relu() }

    public override func stateEntries() -> [StateEntry] { [] }
}

/// min(max(x, 0), 6), elementwise.
public final class ReLU6: Module {
    public override func forward(_ input: Tensor) throws -> Tensor { input.relu6() }

    public override func stateEntries() -> [StateEntry] { [] }
}

/// Zeroes each element with a probability in training and scales the others by 1 / (1 - probability); in evaluation it
/// passes its input on.
public final class Dropout: Module {
    public let probability: Float

    /// Traps when the probability isn't in 0 ... 1.
    public init(_ probability: Float = 0.5) {
        precondition((0...1).contains(probability), "Dropout: the probability must be in 0 ... 1, not \(probability)")
        self.probability = probability
        super.init()
    }

    public override func forward(_ input: Tensor) throws -> Tensor {
        guard training else { return input }
        return try naming { try dropout(input, probability: probability) }
    }

    public override var extraDescription: String { "\(probability)" }

    public override func stateEntries() -> [StateEntry] { [] }
}

/// Joins neighbouring axes into one: all but the first by default.
public final class Flatten: Module {
    public let startAxis: Int
    public let endAxis: Int

    /// The first and last axis to join; negative counts from the end.
    public init(startAxis: Int = 1, endAxis: Int = -1) {
        self.startAxis = startAxis
        self.endAxis = endAxis
        super.init()
    }

    public override func forward(_ input: Tensor) throws -> Tensor {
        guard let start = input.shape.normalizedAxis(startAxis), let end = input.shape.normalizedAxis(endAxis),
            start <= end
        else {
            throw ModuleError(self, "can't join axes \(startAxis) to \(endAxis) of an input of shape \(input.shape)")
        }
        let extents = Array(input.shape)
        return input.reshaped(
            Shape(extents[..<start] + [extents[start...end].reduce(1, *)] + extents[(end + 1)...]))
    }

    public override var extraDescription: String { "startAxis: \(startAxis), endAxis: \(endAxis)" }

    public override func stateEntries() -> [StateEntry] { [] }
}
