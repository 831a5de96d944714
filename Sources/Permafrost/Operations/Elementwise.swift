import CKernels

// MARK: - Without the tape

extension Tensor {
    /// One kernel call; nothing is recorded.
    func unary(_ operation: pf_unary) -> Tensor {
        let result = Tensor.uninitialized(shape)
        checkKernel(
            withKernelContext {
                pf_elementwise_unary($0, operation, Int64(count), storage.pointer, result.storage.pointer)
            }, "elementwise operation")
        return result
    }

    /// One kernel call over the broadcast shape; nothing is recorded.
    static func binary(_ operation: pf_binary, _ a: Tensor, _ b: Tensor, _ name: String) throws -> Tensor {
        let result: Tensor
        let status: pf_status
        if a.shape == b.shape {
            result = .uninitialized(a.shape)
            status = withKernelContext { context in
                var count = Int64(a.count)
                var strideA: Int64 = 1
                var strideB: Int64 = 1
                return pf_elementwise_binary(
                    context, operation, 1, &count, a.storage.pointer, &strideA, b.storage.pointer, &strideB,
                    result.storage.pointer)
            }
        } else {
            guard let shape = Shape.broadcast(a.shape, b.shape) else {
                throw TensorError("\(name): shapes \(a.shape) and \(b.shape) don't broadcast")
            }
            result = .uninitialized(shape)
            status = withKernelContext {
                pf_elementwise_binary(
                    $0, operation, Int32(shape.rank), shape.asInt64, a.storage.pointer,
                    a.shape.broadcastStrides(to: shape), b.storage.pointer, b.shape.broadcastStrides(to: shape),
                    result.storage.pointer)
            }
        }
        checkKernel(status, name)
        return result
    }

    /// self += scale * other in place, unseen by the tape; the shapes are equal.
    mutating func addScaled(_ other: Tensor, by scale: Float) {
        makeUnique()
        checkKernel(
            withKernelContext {
                pf_add_scaled($0, Int64(count), scale, other.storage.pointer, storage.pointer)
            }, "addition in place")
    }

    /// scale * self + shift; nothing is recorded.
    func affine(scale: Float, shift: Float) -> Tensor {
        let result = Tensor.uninitialized(shape)
        checkKernel(
            withKernelContext {
                pf_scale($0, Int64(count), scale, shift, storage.pointer, result.storage.pointer)
            }, "scaling")
        return result
    }

    /// Sums over the axes along which a tensor of `shape` was broadcast to this one's shape.
    func summed(to shape: Shape) -> Tensor {
        guard self.shape != shape else { return self }
        let lead = rank - shape.rank
        let axes = (0..<rank).filter { $0 < lead || shape[$0 - lead] != self.shape[$0] }
        return reduced(.sum, axes: axes).withShape(shape)
    }

    /// The same elements under another shape with as many.
    func withShape(_ shape: Shape) -> Tensor {
        Tensor(shape: shape, storage: storage)
    }
}

// MARK: - Arithmetic

private final class AddNode: Node {
    private let shapes: (Shape, Shape)
    private let sign: Float

    init(_ a: Tensor, _ b: Tensor, sign: Float) {
        shapes = (a.shape, b.shape)
        self.sign = sign
        super.init(a.node, b.node)
    }

    override var operation: String { sign > 0 ? "+" : "-" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) {
        if input0 != nil { pass.send(gradient!.summed(to: shapes.0), to: input0) }
        if input1 != nil {
            let sum = gradient!.summed(to: shapes.1)
            pass.send(sign > 0 ? sum : sum.unary(pf_negate), to: input1)
        }
    }
}

private final class MultiplyNode: Node {
    private var a: Tensor?, b: Tensor?
    private let shapes: (Shape, Shape)

    init(_ a: Tensor, _ b: Tensor) {
        if b.node != nil { self.a = a.detached() }
        if a.node != nil { self.b = b.detached() }
        shapes = (a.shape, b.shape)
        super.init(a.node, b.node)
    }

    override var operation: String { "*" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) {
        if input0 != nil { pass.send((gradient! * b!).summed(to: shapes.0), to: input0) }
        if input1 != nil { pass.send((gradient! * a!).summed(to: shapes.1), to: input1) }
    }

    override func releaseSaved() {
        a = nil
        b = nil
        isReleased = true
    }
}

private final class DivideNode: Node {
    private var b: Tensor?, quotient: Tensor?
    private let shapes: (Shape, Shape)

    init(_ a: Tensor, _ b: Tensor, quotient: Tensor) {
        self.b = b.detached()
        if b.node != nil { self.quotient = quotient }
        shapes = (a.shape, b.shape)
        super.init(a.node, b.node)
    }

    override var operation: String { "/" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) {
        let part = gradient! / b!
        if input0 != nil { pass.send(part.summed(to: shapes.0), to: input0) }
        if input1 != nil { pass.send((part * quotient!).unary(pf_negate).summed(to: shapes.1), to: input1) }
    }

    override func releaseSaved() {
        b = nil
        quotient = nil
        isReleased = true
    }
}

private final class ScaleNode: Node {
    private let scale: Float

    init(_ x: Tensor, scale: Float) {
        self.scale = scale
        super.init(x.node)
    }

    override var operation: String { "scale" }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) {
        pass.send(scale == 1 ? gradient! : gradient!.affine(scale: scale, shift: 0), to: input0)
    }
}

extension Tensor {
    /// Whether an operation on these operands is recorded.
    static func records(_ a: Tensor, _ b: Tensor? = nil, _ c: Tensor? = nil) -> Bool {
        (a.node != nil || b?.node != nil || c?.node != nil) && isGradEnabled
    }

    /// The value of a scalar that no gradient flows to, as a literal is: arithmetic with it is one pass over the other
    /// operand.
    private var constant: Float? {
        rank == 0 && node == nil ? item() : nil
    }

    private func scaled(_ scale: Float, shift: Float) -> Tensor {
        var result = affine(scale: scale, shift: shift)
        if Tensor.records(self) { result.node = ScaleNode(self, scale: scale) }
        return result
    }

    public static func + (a: Tensor, b: Tensor) -> Tensor {
        if let b = b.constant { return a.scaled(1, shift: b) }
        if let a = a.constant { return b.scaled(1, shift: a) }
        var result = normalizedSum(a, b) ?? normalizedSum(b, a) ?? trapping { try binary(pf_add, a, b, "+") }
        if records(a, b) { result.node = AddNode(a, b, sign: 1) }
        return result
    }

    public static func - (a: Tensor, b: Tensor) -> Tensor {
        if let b = b.constant { return a.scaled(1, shift: -b) }
        if let a = a.constant { return b.scaled(-1, shift: a) }
        var result = trapping { try binary(pf_subtract, a, b, "-") }
        if records(a, b) { result.node = AddNode(a, b, sign: -1) }
        return result
    }

    public static func * (a: Tensor, b: Tensor) -> Tensor {
        if let b = b.constant { return a.scaled(b, shift: 0) }
        if let a = a.constant { return b.scaled(a, shift: 0) }
        var result = trapping { try binary(pf_multiply, a, b, "*") }
        if records(a, b) { result.node = MultiplyNode(a, b) }
        return result
    }

    public static func / (a: Tensor, b: Tensor) -> Tensor {
        var result = trapping { try binary(pf_divide, a, b, "/") }
        if records(a, b) { result.node = DivideNode(a, b, quotient: result) }
        return result
    }

    public static prefix func - (a: Tensor) -> Tensor { a.scaled(-1, shift: 0) }

    public static func += (a: inout Tensor, b: Tensor) { a = a + b }
    public static func -= (a: inout Tensor, b: Tensor) { a = a - b }
    public static func *= (a: inout Tensor, b: Tensor) { a = a * b }
    public static func /= (a: inout Tensor, b: Tensor) { a = a / b }

    // For numbers that aren't literals; a literal is a tensor, which the type checker finds sooner.
    @_disfavoredOverload public static func + (a: Tensor, b: Float) -> Tensor { a.scaled(1, shift: b) }
    @_disfavoredOverload public static func + (a: Float, b: Tensor) -> Tensor { b.scaled(1, shift: a) }
    @_disfavoredOverload public static func - (a: Tensor, b: Float) -> Tensor { a.scaled(1, shift: -b) }
    @_disfavoredOverload public static func - (a: Float, b: Tensor) -> Tensor { b.scaled(-1, shift: a) }
    @_disfavoredOverload public static func * (a: Tensor, b: Float) -> Tensor { a.scaled(b, shift: 0) }
    @_disfavoredOverload public static func * (a: Float, b: Tensor) -> Tensor { b.scaled(a, shift: 0) }
    @_disfavoredOverload public static func / (a: Tensor, b: Float) -> Tensor { a / Tensor(b) }
    @_disfavoredOverload public static func / (a: Float, b: Tensor) -> Tensor { Tensor(a) / b }
    @_disfavoredOverload public static func += (a: inout Tensor, b: Float) { a = a + b }
    @_disfavoredOverload public static func -= (a: inout Tensor, b: Float) { a = a - b }
    @_disfavoredOverload public static func *= (a: inout Tensor, b: Float) { a = a * b }
    @_disfavoredOverload public static func /= (a: inout Tensor, b: Float) { a = a / b }
}

// MARK: - Functions of one tensor

private final class UnaryNode: Node {
    private let kind: pf_unary
    private let name: String
    /// The argument or the result, whichever the derivative is written in.
    private var saved: Tensor?

    init(_ x: Tensor, _ kind: pf_unary, name: String, saved: Tensor) {
        self.kind = kind
        self.name = name
        self.saved = saved.detached()
        super.init(x.node)
    }

    override var operation: String { name }

    override func backward(_ gradient: Tensor?, _ pass: BackwardPass) throws {
        let gradient = gradient!
        let saved = saved!
        let result: Tensor
        switch kind {
        case pf_absolute:
            result =
                try Tensor.binary(pf_relu_backward, gradient, saved, name)
                - Tensor.binary(pf_relu_backward, gradient, -saved, name)
        case pf_exp: result = gradient * saved
        case pf_log: result = gradient / saved
        case pf_sqrt: result = gradient / (2 * saved)
        case pf_sigmoid: result = gradient * saved * (1 - saved)
        case pf_tanh: result = gradient * (1 - saved * saved)
        default: preconditionFailure("\(name) has no derivative here")
        }
        pass.send(result, to: input0)
    }

    override func releaseSaved() {
        saved = nil
        isReleased = true
    }
}

extension Tensor {
    private func unary(_ kind: pf_unary, _ name: String, savesArgument: Bool = false) -> Tensor {
        var result = unary(kind)
        if Tensor.records(self) {
            result.node = UnaryNode(self, kind, name: name, saved: savesArgument ? self : result)
        }
        return result
    }

    public func exp() -> Tensor { unary(pf_exp, "exp") }
    /// The natural logarithm.
    public func log() -> Tensor { unary(pf_log, "log", savesArgument: true) }
    public func sqrt() -> Tensor { unary(pf_sqrt, "sqrt") }
    public func sigmoid() -> Tensor { unary(pf_sigmoid, "sigmoid") }
    public func tanh() -> Tensor { unary(pf_tanh, "tanh") }
    /// |x|; its derivative at 0 is 0.
    public func abs() -> Tensor { unary(pf_absolute, "abs", savesArgument: true) }
    public func squared() -> Tensor { self * self }
}
