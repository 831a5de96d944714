import Foundation

/// A number beside a bound on how far from it a float32 computation of it may lie: running error analysis (Higham,
/// Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.3).
///
/// A test writes a formula in this type, and gets what it should give (computed in double precision) with a bound that
/// follows from the formula alone. Each operation adds what its operands' errors become, and the rounding of its own
/// result. A rounding counts as 2^-23, twice the unit roundoff: so a computation may arrange the formula's operations
/// in another way that rounds up to twice as often (a constant rounded to float32 before it is used, a reciprocal
/// multiplied instead of a division) and still lie within the bound.
struct Bounded {
    let value: Double
    let error: Double

    static let rounding = 0x1p-23
    /// Half of the spacing of subnormal numbers: what a result near zero is rounded by.
    static let underflow = 0x1p-149

    init(value: Double, error: Double) {
        self.value = value
        self.error = error
    }

    /// A number that is exact in both computations.
    init(_ exact: Double) { self.init(value: exact, error: 0) }
    init(_ exact: Float) { self.init(Double(exact)) }

    /// The result of one operation whose operands' errors move it by at most `propagated`.
    private static func rounded(_ value: Double, _ propagated: Double, roundings: Double = 1) -> Bounded {
        // An error beyond all bounds times a zero is NaN, and still beyond all bounds: with unlucky settings a sequence
        // of steps magnifies what it can't exclude without end.
        guard !propagated.isNaN else { return Bounded(value: value, error: .infinity) }
        return Bounded(
            value: value,
            error: propagated + roundings * rounding * (Swift.abs(value) + propagated) + underflow)
    }

    static prefix func - (a: Bounded) -> Bounded { Bounded(value: -a.value, error: a.error) }
    static func + (a: Bounded, b: Bounded) -> Bounded { rounded(a.value + b.value, a.error + b.error) }
    static func - (a: Bounded, b: Bounded) -> Bounded { a + -b }

    static func * (a: Bounded, b: Bounded) -> Bounded {
        rounded(
            a.value * b.value,
            Swift.abs(a.value) * b.error + Swift.abs(b.value) * a.error + a.error * b.error)
    }

    static func / (a: Bounded, b: Bounded) -> Bounded {
        let quotient = a.value / b.value
        let least = Swift.abs(b.value) - b.error
        guard least > 0 else { return Bounded(value: quotient, error: .infinity) }
        return rounded(quotient, (a.error + Swift.abs(quotient) * b.error) / least)
    }

    func squareRoot() -> Bounded {
        let root = value.squareRoot()
        return .rounded(root, root - Swift.max(0, value - error).squareRoot())
    }

    /// Libraries' exp and log are granted two units in the last place.
    func exp() -> Bounded {
        let power = Foundation.exp(value)
        return .rounded(power, power * expm1(error), roundings: 2)
    }

    func log() -> Bounded {
        let least = value - error
        return least > 0
            ? .rounded(Foundation.log(value), Foundation.log(value) - Foundation.log(least), roundings: 2)
            : Bounded(value: Foundation.log(value), error: .infinity)
    }

    /// The larger one; a wrong choice between two that are nearly equal costs no more than their errors.
    static func max(_ a: Bounded, _ b: Bounded) -> Bounded {
        Bounded(value: Swift.max(a.value, b.value), error: Swift.max(a.error, b.error))
    }

    /// For a formula that is usually computed in one of two ways: the bound of the worse.
    static func either(_ a: Bounded, _ b: Bounded) -> Bounded {
        Bounded(value: a.value, error: Swift.max(a.error, b.error) + Swift.abs(a.value - b.value))
    }

    /// A sum in any order: of n terms, each goes through at most n - 1 additions, so it is rounded by at most gamma_n
    /// (Higham, lemma 3.1).
    static func sum(_ terms: [Bounded]) -> Bounded {
        let propagated = terms.reduce(0) { $0 + $1.error }
        let magnitude = terms.reduce(0) { $0 + Swift.abs($1.value) } + propagated
        let n = Double(terms.count) * rounding
        return Bounded(value: terms.reduce(0) { $0 + $1.value }, error: propagated + n / (1 - n) * magnitude)
    }

    func admits(_ computed: Float) -> Bool { Swift.abs(Double(computed) - value) <= error }
}
