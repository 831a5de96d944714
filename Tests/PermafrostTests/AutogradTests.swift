import Foundation
import Testing

@testable import Permafrost

/// Gradients of operations whose values are small integers: float32 arithmetic is exact, so results are compared with
/// ==.
@Suite struct AutogradTests {
    @Test func polynomials() throws {
        let x = Tensor([1, 2, -3], requiresGrad: true)
        let y = Tensor([4, -5, 6], requiresGrad: true)
        try (x * x * y - 3 * x + y).sum().backward()
        #expect(x.grad?.scalars == [5, -23, -39])
        #expect(y.grad?.scalars == [2, 5, 10])
    }

    @Test func broadcastOperandsGetSums() throws {
        let a = Tensor([[1, 2, 3], [4, 5, 6]], requiresGrad: true)
        let row = Tensor([1, -1, 2], requiresGrad: true)
        let scalar = Tensor(3, requiresGrad: true)
        try (a * row * scalar).sum().backward()
        #expect(a.grad?.scalars == [3, -3, 6, 3, -3, 6])
        #expect(row.grad?.scalars == [15, 21, 27])
        #expect(scalar.grad?.shape == [] && scalar.grad?.item() == 16)
    }

    @Test func division() throws {
        let a = Tensor([8, 12], requiresGrad: true)
        let b = Tensor([4, 2], requiresGrad: true)
        try (a / b).sum().backward()
        #expect(a.grad?.scalars == [0.25, 0.5])
        #expect(b.grad?.scalars == [-0.5, -3])
    }

    @Test func reductionsAndMovement() throws {
        let x = Tensor.arange(24, requiresGrad: true)
        let y = x.reshaped([2, 3, 4]).permuted([1, 0, 2])
        try (y.sum(axes: [1, 2]) * Tensor([1, 10, 100])).sum().backward()
        #expect(x.grad?.scalars == (0..<24).map { [1, 10, 100][$0 / 4 % 3] })
        let z = Tensor([[1, 2], [3, 4]], requiresGrad: true)
        try z.mean().backward()
        #expect(z.grad?.scalars == [0.25, 0.25, 0.25, 0.25])
    }

    @Test func slicesAndAssignments() throws {
        let x = Tensor.arange(6, requiresGrad: true)
        let v = Tensor([10, 20], requiresGrad: true)
        var y = x * 2
        y[1..<3] = v
        try (y * Tensor([1, 2, 3, 4, 5, 6])).sum().backward()
        #expect(x.grad?.scalars == [2, 0, 0, 8, 10, 12])
        #expect(v.grad?.scalars == [2, 3])
        let z = Tensor.arange(6, requiresGrad: true)
        try z[.every(2)].sum().backward()
        #expect(z.grad?.scalars == [1, 0, 1, 0, 1, 0])
    }

    @Test func concatenation() throws {
        let a = Tensor([1, 2], requiresGrad: true)
        let b = Tensor([3])
        let c = Tensor([4, 5], requiresGrad: true)
        try (concatenate([a, b, c]) * Tensor([1, 2, 3, 4, 5])).sum().backward()
        #expect(a.grad?.scalars == [1, 2])
        #expect(c.grad?.scalars == [4, 5])
    }

    @Test func matrices() throws {
        let a = Tensor([[1, 2], [3, 4], [5, 6]], requiresGrad: true)
        let b = Tensor([[1, -1], [2, 0]], requiresGrad: true)
        let g = Tensor([[1, 2], [3, 4], [5, 6]])
        let product = try matmul(a, b)
        #expect(product.scalars == [5, -1, 11, -3, 17, -5])
        try product.backward(gradient: g)
        #expect(a.grad?.scalars == [-1, 2, -1, 6, -1, 10])
        #expect(b.grad?.scalars == [35, 44, 44, 56])
        let weight = Tensor([[1, 2], [3, 4], [5, 6]], requiresGrad: true)
        let bias = Tensor([1, 1, 1], requiresGrad: true)
        let x = Tensor([1, -1, 2, 0], shape: [2, 1, 2], requiresGrad: true)
        let y = try linear(x, weight, bias: bias)
        #expect(y.shape == [2, 1, 3] && y.scalars == [0, 0, 0, 3, 7, 11])
        try y.sum().backward()
        #expect(x.grad?.scalars == [9, 12, 9, 12])
        #expect(weight.grad?.scalars == [3, -1, 3, -1, 3, -1])
        #expect(bias.grad?.scalars == [2, 2, 2])
    }

    /// Derivatives of functions of one number, against their formulas in double.
    ///
    /// The kernels' functions are good to 4 ulp, a derivative is formed with at most three more roundings from at most
    /// two such values, and sigmoid and tanh subtract a rounded value from 1, whose error (an ulp of 1) is scaled by
    /// the value itself: 16 u relative plus 4 u absolute covers all, with u = 2⁻²⁴ per half ulp.
    @Test(arguments: [-3.5, -1.0, -0.25, 0.125, 0.75, 2.0, 5.0] as [Float])
    func functionsOfOneNumber(_ value: Float) throws {
        func check(_ f: (Tensor) -> Tensor, _ derivative: (Double) -> Double, _ name: String) throws {
            let x = Tensor(value, requiresGrad: true)
            try f(x).backward()
            let expected = derivative(Double(value))
            let got = Double(x.grad!.item())
            let u = Double(Float.ulpOfOne) / 2
            #expect(
                abs(got - expected) <= 16 * u * abs(expected) + 4 * u, "\(name) at \(value): \(got), not \(expected)")
        }
        func sigmoid(_ x: Double) -> Double { 1 / (1 + Foundation.exp(-x)) }
        try check({ $0.exp() }, { Foundation.exp($0) }, "exp")
        try check({ $0.relu() }, { $0 > 0 ? 1 : 0 }, "relu")
        try check({ $0.relu6() }, { $0 > 0 && $0 < 6 ? 1 : 0 }, "relu6")
        try check({ $0.sigmoid() }, { sigmoid($0) * (1 - sigmoid($0)) }, "sigmoid")
        try check({ $0.tanh() }, { 1 - Foundation.tanh($0) * Foundation.tanh($0) }, "tanh")
        try check({ $0.abs() }, { $0 > 0 ? 1 : -1 }, "abs")
        try check({ $0.squared() }, { 2 * $0 }, "squared")
        if value > 0 {
            try check({ $0.log() }, { 1 / $0 }, "log")
            try check({ $0.sqrt() }, { 0.5 / $0.squareRoot() }, "sqrt")
        }
    }

    @Test func gradientsAccumulateOverPasses() throws {
        let x = Tensor([1, 2], requiresGrad: true)
        try (x * 3).sum().backward()
        try (x * 4).sum().backward()
        #expect(x.grad?.scalars == [7, 7])
        x.grad = nil
        try x.sum().backward()
        #expect(x.grad?.scalars == [1, 1])
    }

    @Test func aSecondPassNeedsTheGraphRetained() throws {
        let x = Tensor([2], requiresGrad: true)
        let y = (x * x).sum()
        try y.backward(retainGraph: true)
        try y.backward()
        #expect(x.grad?.scalars == [8])
        let error = #expect(throws: AutogradError.self) { try y.backward() }
        #expect(error?.message.contains("retainGraph") == true)
        #expect(x.grad?.scalars == [8])
    }

    @Test func misuseIsAClearError() throws {
        let x = Tensor([1, 2], requiresGrad: true)
        func message(_ body: () throws -> Void) -> String {
            do {
                try body()
                return "no error"
            } catch {
                return "\(error)"
            }
        }
        #expect(message { try x.sum().backward(createGraph: true) }.contains("second-order"))
        #expect(message { try (x * 2).backward() }.contains("one element, not one of shape [2]"))
        #expect(message { try Tensor(1).backward() }.contains("requires no gradient"))
        #expect(message { try noGrad { x.sum() }.backward() }.contains("requires no gradient"))
        #expect(message { try (x * 2).backward(gradient: Tensor([1])) }.contains("shape [1] for a tensor of shape [2]"))
    }

    @Test func mutatingALeafLaterLeavesItsGradientAlone() throws {
        var x = Tensor([3], requiresGrad: true)
        let y = (x * x).sum()
        x[0] = 100
        try y.backward()
        #expect(x.grad?.scalars == [6])
        #expect(x.scalars == [100])
    }

    @Test func tensorHooksSeeWholeGradientsAndReplaceThem() throws {
        let x = Tensor([1, 1], requiresGrad: true)
        var seen: [String] = []
        let y = x * 2
        y.registerHook {
            seen.append("y \($0.scalars)")
            return $0 * 10
        }
        let handle = x.registerHook {
            seen.append("x \($0.scalars)")
            return nil
        }
        try (y.sum() + (y * 3).sum()).backward()
        #expect(seen == ["y [4.0, 4.0]", "x [80.0, 80.0]"])
        #expect(x.grad?.scalars == [80, 80])
        handle.remove()
        handle.remove()
        #expect(!handle.isActive)
        try x.sum().backward()
        #expect(seen.count == 2)
    }

    @Test func whenAHookThrowsEveryGradientIsWhatItWas() throws {
        struct Stop: Error {}
        let a = Tensor([1], requiresGrad: true)
        let b = Tensor([2], requiresGrad: true)
        try (a * b).sum().backward()
        let before = (a.grad!.scalars, b.grad!.scalars)
        let y = a * 5
        y.registerHook { _ in throw Stop() }
        // b's gradient is finished before y's hook throws.
        let loss = (y + b).sum()
        #expect(throws: Stop.self) { try loss.backward() }
        #expect(a.grad?.scalars == before.0)
        #expect(b.grad?.scalars == before.1)
        try (a * b).sum().backward()
        #expect(a.grad?.scalars == [before.0[0] * 2])
    }

    @Test func aHookOfTheWrongShapeIsAnError() {
        let x = Tensor([1, 2], requiresGrad: true)
        x.registerHook { _ in Tensor([1]) }
        let error = #expect(throws: AutogradError.self) { try x.sum().backward() }
        #expect(error?.message.contains("shape [1] for a tensor of shape [2]") == true)
        #expect(x.grad == nil)
    }

    @Test func longChainsNeitherOverflowNorLeak() throws {
        let x = Tensor([1], requiresGrad: true)
        var y = x
        for _ in 0..<100_000 { y = y + 1 }
        try y.sum().backward()
        #expect(x.grad?.scalars == [1])
        weak var first: Node?
        do {
            let z = x * 2
            first = z.node
            var w = z
            for _ in 0..<100_000 { w = w + 1 }
            #expect(first != nil)
        }
        #expect(first == nil)
    }

    @Test func noGradHoldsForItsClosureOnly() {
        let x = Tensor([1], requiresGrad: true)
        noGrad {
            #expect(!(x * 2).requiresGrad)
            enableGrad { #expect((x * 2).requiresGrad) }
            #expect(!isGradEnabled)
        }
        #expect((x * 2).requiresGrad)
        #expect(!(x * 2).detached().requiresGrad)
    }
}
