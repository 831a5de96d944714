import CKernels
import Foundation

/// Scales the gradients of `parameters` so that their norm, taken over all of them together, is at most `maxNorm`.
///
/// Frozen elements don't count and stay +0.0. Parameters without a gradient are left out. As in PyTorch the factor is
/// `maxNorm / (norm + 1e-6)`, if that is less than 1.
///
/// - Parameters:
///   - normType: p of the p-norm, at least 1; `.infinity` for the largest magnitude.
///   - errorIfNonFinite: throw instead of scaling by a norm that is infinite or NaN.
/// - Returns: the norm before clipping.
/// - Throws: `OptimizerError` for an argument out of its range, and with `errorIfNonFinite`; nothing changes then.
@discardableResult
public func clipGradNorm(
    _ parameters: [Parameter], maxNorm: Double, normType: Double = 2, errorIfNonFinite: Bool = false
) throws -> Double {
    guard maxNorm >= 0 else { throw OptimizerError("maxNorm must not be negative, but is \(maxNorm)") }
    guard normType >= 1 else { throw OptimizerError("normType must be at least 1, but is \(normType)") }
    let norm = gradientNorm(of: parameters, p: normType)
    guard norm.isFinite || !errorIfNonFinite else { throw OptimizerError("the norm of the gradients is \(norm)") }
    let factor = maxNorm / (norm + 1e-6)
    if factor >= 1 { return norm }
    for parameter in parameters where parameter.grad != nil {
        parameter.grad!.withUnsafeMutableBufferPointer { gradient in
            let status = withKernelContext {
                // Adding -0.0 changes no element, not even the sign of a zero.
                pf_scale($0, Int64(gradient.count), Float(factor), -0.0, gradient.baseAddress, gradient.baseAddress)
            }
            checkKernel(status, "clipGradNorm")
        }
    }
    return norm
}

/// Limits every gradient element to -clipValue ... clipValue; a NaN stays.
///
/// - Throws: `OptimizerError` when `clipValue` is negative or NaN.
public func clipGradValue(_ parameters: [Parameter], clipValue: Float) throws {
    guard clipValue >= 0 else { throw OptimizerError("clipValue must not be negative, but is \(clipValue)") }
    for parameter in parameters where parameter.grad != nil {
        parameter.grad!.withUnsafeMutableBufferPointer { gradient in
            for position in gradient.indices where abs(gradient[position]) > clipValue {
                gradient[position] = gradient[position] < 0 ? -clipValue : clipValue
            }
        }
    }
}

/// The p-norm of the trainable elements of all gradients, accumulated in double.
private func gradientNorm(of parameters: [Parameter], p: Double) -> Double {
    var total = 0.0
    for parameter in parameters {
        guard let gradient = parameter.grad else { continue }
        let mask = parameter.gradientMask?.bytes
        gradient.withUnsafeBufferPointer { elements in
            if p == 2 {
                var sum = 0.0
                let status = withKernelContext {
                    pf_sum_of_squares($0, Int64(elements.count), elements.baseAddress, mask?.pointer, &sum)
                }
                checkKernel(status, "clipGradNorm")
                total += sum
                return
            }
            for position in elements.indices where mask == nil || mask!.pointer[position] != 0 {
                let magnitude = Double(abs(elements[position]))
                if p == .infinity {
                    // Written so that a NaN, once met, stays.
                    if !(magnitude <= total) && !total.isNaN { total = magnitude }
                } else {
                    total += pow(magnitude, p)
                }
            }
        }
    }
    switch p {
    case 2: return total.squareRoot()
    case .infinity: return total
    default: return pow(total, 1 / p)
    }
}
