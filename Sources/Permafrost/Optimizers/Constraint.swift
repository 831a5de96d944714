/// A projection of a parameter's value onto a set, which an optimizer applies after each of its steps; frozen values
/// are re-asserted afterwards.
public protocol Constraint {
    func project(_ value: inout Tensor) throws
}

/// No element is negative.
public struct NonNegative: Constraint {
    public init() {}

    public func project(_ value: inout Tensor) {
        value.withUnsafeMutableBufferPointer { elements in
            for position in elements.indices where elements[position] < 0 {
                elements[position] = 0
            }
        }
    }
}

/// Each slice along axis 0, such as a convolution's filter, has Euclidean length 1. A slice of zeros stays as it is.
public struct UnitNorm: Constraint {
    public init() {}

    public func project(_ value: inout Tensor) {
        forEachRow(of: &value, length: value.count / max(value.shape.first ?? 1, 1)) { row in
            let length = row.reduce(0.0) { $0 + Double($1) * Double($1) }.squareRoot()
            guard length > 0 else { return }
            for position in row.indices { row[position] = Float(Double(row[position]) / length) }
        }
    }
}

/// The constrained convolution of Bayar and Stamm (2016): the centre of each kernel is -1 and its other taps sum to 1.
/// For weights of shape [out, in, height, width] with odd height and width.
public struct BayarConstraint: Constraint {
    public init() {}

    public func project(_ value: inout Tensor) throws {
        let shape = value.shape
        guard shape.rank == 4, shape[2] % 2 == 1, shape[3] % 2 == 1, shape[2] * shape[3] > 1 else {
            throw FreezeError("a Bayar constraint needs kernels with odd sides and more than one tap, not \(shape)")
        }
        let taps = shape[2] * shape[3], centre = taps / 2
        forEachRow(of: &value, length: taps) { kernel in
            kernel[centre] = 0
            let sum = kernel.reduce(0.0) { $0 + Double($1) }
            // A sum of 0 can't be scaled to 1; spreading 1 evenly is the nearest point that sums to it.
            for tap in kernel.indices {
                kernel[tap] = sum == 0 ? kernel[tap] + 1 / Float(taps - 1) : Float(Double(kernel[tap]) / sum)
            }
            kernel[centre] = -1
        }
    }
}

private func forEachRow(of value: inout Tensor, length: Int, _ body: (UnsafeMutableBufferPointer<Float>) -> Void) {
    guard length > 0 else { return }
    value.withUnsafeMutableBufferPointer { elements in
        for start in stride(from: 0, to: elements.count, by: length) {
            body(UnsafeMutableBufferPointer(rebasing: elements[start..<start + length]))
        }
    }
}
