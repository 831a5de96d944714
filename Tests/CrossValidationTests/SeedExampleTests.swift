import Foundation
import Permafrost
import Testing

/// The question that this library answers, as it was asked: a convolution's element [0, 1, 2, 1] set to 1 and frozen,
/// the mean of its output, backward.
@Suite struct SeedExampleTests {
    /// The gradient is +0.0 there and, elsewhere, what the formula gives, with and without an input gradient.
    @Test(arguments: [FreezeRoute.mask, .callback], [false, true])
    func frozenElementHasNoGradient(route: FreezeRoute, requiresGrad: Bool) throws {
        let example = Example(seed: 7, requiresGrad: requiresGrad)
        try example.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
        try example.conv(example.x).mean().backward()
        try example.expectGradients(torch: nil)
    }

    /// The same of the recipe that zeroes the gradient in a full backward hook.
    @Test(arguments: [false, true]) func recipe(requiresGrad: Bool) throws {
        let example = Example(seed: 8, requiresGrad: requiresGrad)
        let conv = example.conv
        conv.weight[0, 1, 2, 1] = 1
        conv.registerFullBackwardHook { conv, _, _ in
            conv.weight.grad?[0, 1, 2, 1] = 0
            return nil
        }
        try conv(example.x).mean().backward()
        try example.expectGradients(torch: nil)
    }

    /// And PyTorch's gradient elsewhere.
    @Test(.enabled(if: PyTorch.isAvailable, PyTorch.reason), arguments: [false, true])
    func equalsPyTorchElsewhere(requiresGrad: Bool) throws {
        let example = Example(seed: 9, requiresGrad: requiresGrad)
        try example.conv.weight.freeze(at: [0, 1, 2, 1], to: 1)
        let torch = try example.gradientsInPyTorch()
        try example.conv(example.x).mean().backward()
        try example.expectGradients(torch: torch)
    }
}

private struct Example {
    struct Gradients: Decodable {
        let weight, bias: [Float]
        let input: [Float]?
    }

    let conv: Conv2d
    let x: Tensor

    init(seed: UInt64, requiresGrad: Bool) {
        let generator = Generator(seed: seed)
        conv = Conv2d(3, 1, 3)
        conv.weight.value = .uniform([1, 3, 3, 3], in: -0.2..<0.2, generator: generator)
        conv.bias?.value = .uniform([1], in: -0.2..<0.2, generator: generator)
        x = .randn([1, 3, 10, 10], generator: generator, requiresGrad: requiresGrad)
    }

    /// PyTorch's gradients of the same numbers, nothing frozen.
    func gradientsInPyTorch() throws -> Gradients {
        struct Request: Encodable {
            let weight, bias, input: [Float]
            let requires_grad: Bool
        }
        var weight = conv.weight.value
        weight[0, 1, 2, 1] = 1
        let request = Request(
            weight: weight.scalars, bias: conv.bias!.value.scalars, input: x.scalars, requires_grad: x.requiresGrad)
        let script = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "peers/example.py")
        let answer = try PyTorch.run([script.path], input: JSONEncoder().encode(request))
        return try JSONDecoder().decode(Gradients.self, from: Data(answer.utf8))
    }

    /// Requires +0.0 at the frozen element and everything else within the bound of its formula, PyTorch's numbers too.
    func expectGradients(torch: Gradients?) throws {
        let gradient = try #require(conv.weight.grad)
        #expect(gradient[element: 0, 1, 2, 1].bitPattern == 0)
        #expect(conv.weight.value[element: 0, 1, 2, 1] == 1)
        // Each of the 8x8 outputs has the gradient 1/64, which is exact.
        let image = x.scalars, weight = conv.weight.value.scalars
        let share = Bounded(1.0 / 64)
        for element in 0..<27 where element != 16 {  // 16 is [0, 1, 2, 1]
            let (channel, tap) = element.quotientAndRemainder(dividingBy: 9)
            let seen = (0..<64).map { output in
                Bounded(image[(channel * 10 + output / 8 + tap / 3) * 10 + output % 8 + tap % 3]) * share
            }
            let expected = Bounded.sum(seen)
            #expect(expected.admits(gradient.scalars[element]), "element \(element)")
            if let torch { #expect(expected.admits(torch.weight[element]), "element \(element) in PyTorch") }
        }
        #expect(conv.bias?.grad?.item() == 1)
        #expect((x.grad != nil) == x.requiresGrad)
        guard let inputGradient = x.grad else { return }
        for element in 0..<300 {
            let (channel, position) = element.quotientAndRemainder(dividingBy: 100)
            let taps = (0..<9).filter { tap in
                (0..<8).contains(position / 10 - tap / 3) && (0..<8).contains(position % 10 - tap % 3)
            }
            let expected = Bounded.sum(taps.map { Bounded(weight[channel * 9 + $0]) * share })
            #expect(expected.admits(inputGradient.scalars[element]), "input element \(element)")
            if let torch = torch?.input {
                #expect(expected.admits(torch[element]), "input element \(element) in PyTorch")
            }
        }
    }
}
