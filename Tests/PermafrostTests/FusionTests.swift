import Permafrost
import Testing

/// Operations that are computed together give what each by itself would, to the bit, whoever looks in between.
@Suite("Fused operations") struct FusionTests {
    /// What an observer between two operations does.
    enum Observer: CaseIterable {
        case none, readsValue, hooksGradient, readsValueAndHooksGradient

        func look(at tensor: Tensor) {
            if self == .readsValue || self == .readsValueAndHooksGradient { _ = tensor.scalars }
            if self == .hooksGradient || self == .readsValueAndHooksGradient { tensor.registerHook { _ in nil } }
        }
    }

    private static let shape: Shape = [3, 4, 6, 5]

    private static func draw(_ shape: Shape, seed: UInt64) -> Tensor {
        var state = seed &* 0x9E37_79B9_7F4A_7C15
        let values = (0..<shape.elementCount).map { _ -> Float in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Float(Int(state >> 40) % 2001 - 1000) / 250
        }
        return Tensor(values, shape: shape)
    }

    private static func expectSame(_ results: [[Tensor]], _ label: String) {
        for (observer, result) in zip(Observer.allCases, results) {
            for (index, pair) in zip(result, results[0]).enumerated() {
                #expect(pair.0.bitEquals(pair.1), "\(label): result \(index) with \(observer)")
            }
        }
    }

    @Test("Batch normalisation, a shortcut and an activation, trained and evaluated", arguments: [true, false])
    func normalization(training: Bool) throws {
        for (activation, shortcut) in [("relu", false), ("relu6", false), ("relu", true), ("relu6", true)] {
            let results = try Observer.allCases.map { observer in
                var (x, scale) = (Self.draw(Self.shape, seed: 1), Self.draw([4], seed: 2))
                var (shift, side) = (Self.draw([4], seed: 3), Self.draw(Self.shape, seed: 4))
                x.requiresGrad = true
                scale.requiresGrad = true
                shift.requiresGrad = true
                side.requiresGrad = true
                var y =
                    training
                    ? try batchNorm(x, scale: scale, shift: shift).output
                    : try batchNorm(
                        x, mean: Self.draw([4], seed: 5), variance: Self.draw([4], seed: 6).squared(), scale: scale,
                        shift: shift)
                observer.look(at: y)
                if shortcut {
                    y = side + y
                    observer.look(at: y)
                }
                let z = activation == "relu" ? y.relu() : y.relu6()
                try z.backward(gradient: Self.draw(Self.shape, seed: 7))
                return [z, x.grad!, scale.grad!, shift.grad!] + (shortcut ? [side.grad!] : [])
            }
            Self.expectSame(results, "\(activation), shortcut: \(shortcut)")
            #expect(results[0][0].scalars.contains(0))
        }
    }

    /// One that runs in place, a depthwise one, and one that fast numerics run by Winograd's algorithm.
    @Test("A convolution and its activation", arguments: [(8, 1, 1), (1, 3, 0), (8, 3, 1)])
    func convolution(groupChannels: Int, kernel: Int, padding: Int) throws {
        for (activation, numerics) in [("relu", Numerics.fast), ("relu6", .fast), ("relu", .exact), ("relu6", .exact)] {
            let results = try Observer.allCases.map { observer in
                var (x, bias) = (Self.draw([2, 8, 14, 14], seed: 1), Self.draw([8], seed: 3))
                var weight = Self.draw([8, groupChannels, kernel, kernel], seed: 2)
                x.requiresGrad = true
                weight.requiresGrad = true
                bias.requiresGrad = true
                func convolved() throws -> Tensor {
                    let y = try conv2d(x, weight, bias: bias, padding: Padding(padding), groups: 8 / groupChannels)
                    observer.look(at: y)
                    return y
                }
                let z = try withExecution(numerics: numerics) {
                    try activation == "relu" ? convolved().relu() : convolved().relu6()
                }
                try z.backward(gradient: Self.draw(z.shape, seed: 4))
                return [z, x.grad!, weight.grad!, bias.grad!]
            }
            Self.expectSame(results, "\(activation), \(numerics)")
            #expect(results[0][0].scalars.contains(0))
            #expect(results[0][0].scalars.contains { $0 > 0 })
        }
    }

    @Test("A convolution is of its operands as they were when it was called, and in the context that it was called in")
    func operandsChange() throws {
        var (x, weight) = (Self.draw([1, 16, 16, 16], seed: 1), Self.draw([16, 16, 3, 3], seed: 2))
        var bias = Self.draw([16], seed: 3)
        let exact = try withExecution(numerics: .exact) { try conv2d(x, weight, bias: bias, padding: 1).scalars }
        let later = try withExecution(numerics: .exact) { try conv2d(x, weight, bias: bias, padding: 1) }
        let activated = try withExecution(numerics: .exact) { try conv2d(x, weight, bias: bias, padding: 1).relu() }
        x[0, 0, 0, 0] = 100
        weight = weight * 2
        bias.withUnsafeMutableBufferPointer { $0[0] = 100 }
        #expect(later.scalars == exact && activated.scalars == exact.map { max($0, 0) })

        let layer = Conv2d(2, 3, 3)
        let optimizer = try SGD(parameters: layer.parameters(), learningRate: 0.5)
        let input = Self.draw([1, 2, 5, 5], seed: 4)
        let (before, unread) = try (layer(input).relu().scalars, layer(input).relu())
        try layer(input).sum().backward()
        try optimizer.step()
        layer.bias!.value = .zeros([3])
        #expect(try unread.scalars == before && layer(input).relu().scalars != before)
    }

    @Test("What a convolution refuses, it refuses when it is called")
    func convolutionErrors() {
        let (x, weight) = (Self.draw([1, 2, 5, 5], seed: 1), Self.draw([3, 2, 3, 3], seed: 2))
        #expect(throws: TensorError.self) { try conv2d(x, weight, groups: 2).relu() }
        #expect(throws: TensorError.self) { try conv2d(x, weight, dilation: 4).relu() }
        #expect(throws: (any Error).self) { try conv2d(x, weight, padding: Padding(Int(Int32.max))).relu() }
    }

    @Test("Max pooling of an activation of a convolution", arguments: [1, 2])
    func pooledActivation(stride: Int) throws {
        for activation in ["relu", "relu6"] {
            let results = try Observer.allCases.map { observer in
                var (x, weight) = (Self.draw([2, 3, 9, 8], seed: 1), Self.draw([5, 3, 3, 3], seed: 2))
                var bias = Self.draw([5], seed: 3)
                x.requiresGrad = true
                weight.requiresGrad = true
                bias.requiresGrad = true
                let convolved = try conv2d(x, weight, bias: bias, padding: 1)
                let y = activation == "relu" ? convolved.relu() : convolved.relu6()
                observer.look(at: y)
                let z = try maxPool2d(y, kernelSize: 2, stride: Pair(stride))
                try z.backward(gradient: Self.draw(z.shape, seed: 4))
                return [z, x.grad!, weight.grad!, bias.grad!]
            }
            Self.expectSame(results, "pooling \(activation)")
            #expect(results[0][0].scalars.contains(0))
        }
    }

    @Test("A hook between normalisation and relu, or relu and pooling, gets the gradient of what it was put on")
    func gradientsInBetween() throws {
        var x = Self.draw(Self.shape, seed: 1)
        x.requiresGrad = true
        let y = try batchNorm(x, scale: nil, shift: nil).output
        let z = y.relu()
        let pooled = try maxPool2d(z, kernelSize: 2)
        var seen: [String: Tensor] = [:]
        y.registerHook { gradient in
            seen["y"] = gradient
            return nil
        }
        z.registerHook { gradient in
            seen["z"] = gradient
            return nil
        }
        try pooled.backward(gradient: .ones(pooled.shape))
        // The first of a window's largest elements gets the gradient, also where all are 0.
        let (values, ofZ, ofY) = (z.scalars, seen["z"]!.scalars, seen["y"]!.scalars)
        #expect(ofZ.reduce(0, +) == Float(pooled.count))
        #expect(zip(values, ofZ).contains { $0 == 0 && $1 == 1 })
        #expect(zip(values, zip(ofZ, ofY)).allSatisfy { $1.1 == ($0 > 0 ? $1.0 : 0) })
    }

    @Test("A value that two operations take gets both gradients, whichever is used first")
    func sharedValue() throws {
        for reluFirst in [true, false] {
            var x = Self.draw(Self.shape, seed: 1)
            x.requiresGrad = true
            let y = try batchNorm(x, scale: nil, shift: nil).output
            var seen: Tensor?
            let z: Tensor
            if reluFirst {
                let a = y.relu()
                z = a * 2 + y * 3
            } else {
                let b = y * 3
                z = y.relu() * 2 + b
            }
            // Without the hook, both parts meet in the normalisation's node.
            try z.backward(gradient: .ones(z.shape), retainGraph: true)
            let together = x.grad!
            x.grad = nil
            y.registerHook { gradient in
                seen = gradient
                return nil
            }
            try z.backward(gradient: .ones(z.shape))
            #expect(seen!.scalars == y.scalars.map { $0 > 0 ? 5 : 3 })
            #expect(together.bitEquals(x.grad!))
        }
    }

    @Test("What relu was taken of keeps its value, and relu the value it was taken of")
    func values() throws {
        var x = Self.draw(Self.shape, seed: 1)
        let before = x.scalars
        let y = x.relu()
        x[0, 0, 0, 0] = 100
        #expect(y.scalars == before.map { max($0, 0) })
        #expect(x.scalars.dropFirst() == before.dropFirst())
        let weight = Self.draw([2, 4, 1, 1], seed: 2)
        let c = try conv2d(x, weight)
        let ofConvolution = c.scalars
        #expect(c.relu().scalars == ofConvolution.map { max($0, 0) } && c.scalars == ofConvolution)
        let numerics = withExecution(threads: 1, numerics: .exact) { c.relu6() }
        #expect(numerics.scalars == ofConvolution.map { min(max($0, 0), 6) })
    }

    @Test("Modules' hooks see values and gradients as they are between the modules")
    func moduleHooks() throws {
        let net = Sequential(Conv2d(3, 4, 3, padding: 1), BatchNorm2d(4), ReLU(), Conv2d(4, 2, 3))
        let x = Self.draw([2, 3, 6, 6], seed: 1)
        func gradients() throws -> [Tensor] {
            net.zeroGrad()
            let output = try net(x)
            try output.backward(gradient: Self.draw(output.shape, seed: 2))
            return net.parameters().map { $0.grad! }
        }
        let alone = try gradients()
        var (normalized, activated): (Tensor?, Tensor?)
        var (ofNormalized, ofActivated): (Tensor?, Tensor?)
        net.modules()[2].registerForwardHook { _, _, outputs in
            normalized = outputs[0].detached()
            return nil
        }
        net.modules()[3].registerForwardHook { _, _, outputs in
            activated = outputs[0].detached()
            return nil
        }
        net.modules()[3].registerFullBackwardHook { _, inputs, outputs in
            (ofNormalized, ofActivated) = (inputs[0], outputs[0])
            return nil
        }
        let observed = try gradients()
        #expect(activated!.scalars == normalized!.scalars.map { max($0, 0) })
        #expect(normalized!.scalars.contains { $0 < 0 })
        #expect(ofNormalized!.scalars == zip(normalized!.scalars, ofActivated!.scalars).map { $0 > 0 ? $1 : 0 })
        for (a, b) in zip(alone, observed) { #expect(a.bitEquals(b)) }
    }

    @Test("A module's forward hook sees what a convolution gave, not its activation")
    func convolutionHook() throws {
        let net = Sequential(Conv2d(3, 4, 3, padding: 1), ReLU())
        let x = Self.draw([2, 3, 6, 6], seed: 1)
        let alone = try net(x).scalars
        var seen: Tensor?
        net.modules()[1].registerForwardHook { _, _, outputs in
            seen = outputs[0]
            return nil
        }
        let observed = try net(x)
        #expect(seen!.scalars.contains { $0 < 0 })
        #expect(observed.scalars == alone && seen!.scalars.map { max($0, 0) } == alone)
        let replaced = net.modules()[1].registerForwardHook { _, _, outputs in [-outputs[0]] }
        #expect(try net(x).scalars == seen!.scalars.map { max(-$0, 0) })
        replaced.remove()
        #expect(try net(x).scalars == alone)
    }

    @Test("A frozen scale and shift in front of relu have gradients of +0")
    func frozen() throws {
        let norm = BatchNorm2d(4)
        try norm.weight!.freeze(at: [1])
        try norm.bias!.freeze(at: [2])
        let y = try norm(Self.draw(Self.shape, seed: 1)).relu()
        try y.backward(gradient: Self.draw(Self.shape, seed: 2))
        #expect(norm.weight!.grad!.scalars.map(\.bitPattern).firstIndex(of: 0) == 1)
        #expect(norm.bias!.grad!.scalars.map(\.bitPattern).firstIndex(of: 0) == 2)
        #expect(norm.weight!.grad!.scalars.filter { $0 != 0 }.count == 3)
    }
}
