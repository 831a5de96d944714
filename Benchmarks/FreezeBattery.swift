import Permafrost

/// The assertions that tell a frozen element from one whose gradient is zeroed, as experiments on small networks.
///
/// Each answers nil when it holds, else what was found instead. The numbers are those of Tests/FREEZING.md. Four have
/// no counterpart in a hook and are asserted by the tests alone: conflicting values (7), where a mask comes from (25),
/// two routes that agree (29), work that isn't done (30).
struct FreezeBattery {
    struct Assertion: Sendable {
        let number: Int
        let text: String
        let check: @Sendable (FreezeBattery) throws -> String?
    }

    static let steps = 100
    static let index = [0, 1, 2, 1]

    let route: FreezeRoute
    private let drift = Drift(seed: 0)

    static let assertions: [Assertion] = [
        Assertion(number: 1, text: "SGD with L2 decay") { battery in
            try battery.held { try SGD(parameters: $0, learningRate: 0.05, weightDecay: 0.1) }
        },
        Assertion(number: 2, text: "AdamW") { battery in
            try battery.held { try AdamW(parameters: $0, learningRate: 0.05) }
        },
        Assertion(number: 3, text: "momentum gathered before") { battery in
            try battery.held(from: 10) { try SGD(parameters: $0, learningRate: 0.05, momentum: 0.9) }
        },
        Assertion(number: 4, text: "Adam's moments gathered before") { battery in
            try battery.held(from: 10) { try Adam(parameters: $0, learningRate: 0.05) }
        },
        Assertion(number: 5, text: "after a thaw the state starts anew") { try $0.thawStartsAnew() },
        Assertion(number: 6, text: "optimizer state from before the freeze") { try $0.stateFromBefore() },
        Assertion(number: 8, text: "a trainable zero gradient still decays") { try $0.zeroGradientDecays() },
        Assertion(number: 9, text: "gradient +0.0 for a NaN") { try $0.gradientOfNaN() },
        Assertion(number: 10, text: "a NaN there poisons no clip norm") { try $0.clipNormAfterNaN() },
        Assertion(number: 11, text: "clip norm counts trainable elements") { try $0.clipNorm() },
        Assertion(number: 12, text: "accumulated micro-batches") { battery in
            try battery.held(microBatches: 4) { try SGD(parameters: $0, learningRate: 0.05) }
        },
        Assertion(number: 13, text: "a gradient there at freeze time") { try $0.gradientAtFreezeTime() },
        Assertion(number: 14, text: "gradients zeroed, not dropped") { battery in
            try battery.held(setToNil: false) { try SGD(parameters: $0, learningRate: 0.05) }
        },
        Assertion(number: 15, text: "same input gradient") { try $0.inputGradient() },
        Assertion(number: 16, text: "first layer: input without gradient") { battery in
            try battery.held(inputGrad: false) { try SGD(parameters: $0, learningRate: 0.05) }
        },
        Assertion(number: 17, text: "a layer called twice") { battery in
            try battery.held(calls: 2) { try SGD(parameters: $0, learningRate: 0.05) }
        },
        Assertion(number: 18, text: "same gradient elsewhere") { try $0.otherGradients() },
        Assertion(number: 19, text: "right after step(), before a forward") { battery in
            try battery.held { try SGD(parameters: $0, learningRate: 0.05) }
        },
        Assertion(number: 20, text: "other weights loaded") { try $0.otherWeightsLoaded() },
        Assertion(number: 21, text: "a copy") { try $0.copy() },
        Assertion(number: 22, text: "moving average") { try $0.movingAverage() },
        Assertion(number: 23, text: "same keys when saved") { try $0.keys() },
        Assertion(number: 24, text: "removing another freeze") { try $0.otherFreezeRemoved() },
        Assertion(number: 26, text: "shards masked before or after their sum") { try $0.shards() },
        Assertion(number: 27, text: "statistics after a frozen filter move") { try $0.statisticsMove() },
        Assertion(number: 28, text: "an element of a bias") { try $0.bias() },
    ]

    // MARK: - Means

    private func makeConvolution() -> Conv2d {
        let conv = Conv2d(3, 1, 3)
        conv.weight.value = drift.weight
        conv.bias?.value = drift.bias
        return conv
    }

    private func makeInput(inputGrad: Bool = true) -> Tensor {
        var x = drift.input
        x.requiresGrad = inputGrad
        return x
    }

    @discardableResult
    private func freeze(_ conv: Conv2d) throws -> FreezeHandle {
        try conv.weight.freeze(at: [0, 1, 2, 1], to: 1, route: route)
    }

    private func element(_ parameter: Parameter) -> Float { parameter.value[element: 0, 1, 2, 1] }

    private func differs(_ found: Float, from expected: Float) -> String? {
        found.bitPattern == expected.bitPattern ? nil : "\(found)"
    }

    private func step(_ conv: Conv2d, _ x: Tensor, _ optimizer: Optimizer, times: Int = 1) throws {
        for _ in 0..<times {
            optimizer.zeroGrad()
            try conv(x).mean().backward()
            try optimizer.step()
        }
    }

    /// Trains, and looks at the element after every step from the freeze on.
    private func held(
        from start: Int = 0, microBatches: Int = 1, calls: Int = 1, inputGrad: Bool = true, setToNil: Bool = true,
        _ make: ([Parameter]) throws -> Optimizer
    ) throws -> String? {
        let conv = makeConvolution(), x = makeInput(inputGrad: inputGrad)
        let optimizer = try make(conv.parameters())
        for step in 0..<start + FreezeBattery.steps {
            if step == start { try freeze(conv) }
            optimizer.zeroGrad(setToNil: setToNil)
            for _ in 0..<microBatches {
                var loss = try conv(x).mean()
                for _ in 1..<calls { loss = try loss + conv(x).squared().mean() }
                try loss.backward()
            }
            try optimizer.step()
            if step >= start, let found = differs(element(conv.weight), from: 1) { return found }
        }
        return nil
    }

    // MARK: - Optimizer

    private func thawStartsAnew() throws -> String? {
        let conv = makeConvolution(), x = makeInput(), fresh = makeConvolution()
        let optimizer = try SGD(parameters: conv.parameters(), learningRate: 0.05, momentum: 0.9)
        try step(conv, x, optimizer, times: 10)
        let freeze = try freeze(conv)
        try step(conv, x, optimizer, times: FreezeBattery.steps)
        freeze.remove()
        fresh.weight.value = conv.weight.value
        try step(conv, x, optimizer)
        try step(fresh, x, SGD(parameters: fresh.parameters(), learningRate: 0.05, momentum: 0.9))
        return differs(element(conv.weight), from: element(fresh.weight))
    }

    private func stateFromBefore() throws -> String? {
        let conv = makeConvolution(), x = makeInput()
        let optimizer = try SGD(parameters: conv.parameters(), learningRate: 0.05, momentum: 0.9)
        try step(conv, x, optimizer, times: 10)
        let state = optimizer.stateDictionary()
        try freeze(conv)
        try optimizer.load(stateDictionary: state)
        try step(conv, x, optimizer, times: FreezeBattery.steps)
        return differs(element(conv.weight), from: 1)
    }

    private func zeroGradientDecays() throws -> String? {
        let conv = makeConvolution()
        try freeze(conv)
        var x = drift.input
        x[0, 0] = 0
        x.requiresGrad = true
        let before = conv.weight.value[element: 0, 0, 0, 0]
        let optimizer = try SGD(parameters: conv.parameters(), learningRate: 0.05, weightDecay: 0.1)
        try step(conv, x, optimizer, times: FreezeBattery.steps)
        return abs(conv.weight.value[element: 0, 0, 0, 0]) < abs(before) ? nil : "no decay"
    }

    // MARK: - Gradient

    private func gradientOfNaN() throws -> String? {
        let conv = makeConvolution()
        try freeze(conv)
        var x = drift.input
        x[0, 1, 5, 5] = Tensor(.nan)
        x.requiresGrad = true
        try conv(x).mean().backward()
        return differs(conv.weight.grad![element: 0, 1, 2, 1], from: 0)
    }

    /// A NaN in the element's raw gradient alone.
    private func clipNormAfterNaN() throws -> String? {
        let conv = makeConvolution(), x = makeInput()
        try freeze(conv)
        conv.weight.registerHook { gradient in
            var poisoned = gradient
            poisoned[0, 1, 2, 1] = Tensor(.nan)
            return poisoned
        }
        try conv(x).mean().backward()
        let norm = try clipGradNorm(conv.parameters(), maxNorm: 0.1)
        return norm.isFinite ? nil : "norm \(norm)"
    }

    private func clipNorm() throws -> String? {
        let conv = makeConvolution(), x = makeInput()
        try freeze(conv)
        try conv(x).mean().backward()
        var gradient = conv.weight.grad!
        let norm = try clipGradNorm(conv.parameters(), maxNorm: 1e9)
        gradient[0, 1, 2, 1] = 0
        let squares = (gradient.scalars + conv.bias!.grad!.scalars).reduce(0) { $0 + Double($1) * Double($1) }
        // A sum of 28 squares in double: the orders of summation differ by less than 28 roundings.
        return abs(norm - squares.squareRoot()) <= 28 * Double.ulpOfOne * norm ? nil : "norm \(norm)"
    }

    private func gradientAtFreezeTime() throws -> String? {
        let conv = makeConvolution(), x = makeInput()
        let optimizer = try SGD(parameters: conv.parameters(), learningRate: 0.05)
        try conv(x).mean().backward()
        try freeze(conv)
        try optimizer.step()
        return differs(element(conv.weight), from: 1)
    }

    private func inputGradient() throws -> String? {
        let conv = makeConvolution(), free = makeConvolution()
        conv.weight[element: 0, 1, 2, 1] = 1
        free.weight.value = conv.weight.value
        try freeze(conv)
        let x = makeInput(), y = makeInput()
        try conv(x).squared().mean().backward()
        try free(y).squared().mean().backward()
        return x.grad!.bitEquals(y.grad!) ? nil : "other bits"
    }

    private func otherGradients() throws -> String? {
        let conv = makeConvolution(), free = makeConvolution()
        try freeze(conv)
        free.weight.value = conv.weight.value
        let x = makeInput()
        return try withExecution(numerics: .exact) {
            try conv(x).squared().mean().backward()
            try free(x).squared().mean().backward()
            var expected = free.weight.grad!
            expected[0, 1, 2, 1] = 0
            return conv.weight.grad!.bitEquals(expected) ? nil : "other bits"
        }
    }

    // MARK: - State

    private func otherWeightsLoaded() throws -> String? {
        let conv = makeConvolution()
        try freeze(conv)
        try conv.load(stateDictionary: makeConvolution().stateDictionary(), strict: false)
        return differs(element(conv.weight), from: 1)
    }

    private func copy() throws -> String? {
        let conv = makeConvolution(), x = makeInput()
        try freeze(conv)
        let copy = try conv.copied(by: { Conv2d(3, 1, 3) })
        try step(copy, x, SGD(parameters: copy.parameters(), learningRate: 0.05), times: FreezeBattery.steps)
        return differs(element(copy.weight), from: 1)
    }

    private func movingAverage() throws -> String? {
        let conv = makeConvolution(), x = makeInput()
        let optimizer = try SGD(parameters: conv.parameters(), learningRate: 0.05)
        let averages = try AveragedParameters([conv.weight], .exponential(decay: 0.9))
        for step in 0..<10 + FreezeBattery.steps {
            if step == 10 { try freeze(conv) }
            try self.step(conv, x, optimizer)
            averages.update()
        }
        return differs(averages.values[0][element: 0, 1, 2, 1], from: 1)
    }

    private func keys() throws -> String? {
        let conv = makeConvolution()
        let before = conv.stateDictionary().names
        try freeze(conv)
        return conv.stateDictionary().names == before ? nil : "other keys"
    }

    private func otherFreezeRemoved() throws -> String? {
        let conv = makeConvolution(), x = makeInput()
        let other = try conv.weight.freeze(at: [0, 0, 0, 0], route: route)
        try freeze(conv)
        other.remove()
        let optimizer = try SGD(parameters: conv.parameters(), learningRate: 0.05)
        try step(conv, x, optimizer, times: FreezeBattery.steps)
        return differs(element(conv.weight), from: 1)
    }

    // MARK: - Model

    private func shards() throws -> String? {
        let whole = makeConvolution(), parts = [makeConvolution(), makeConvolution()]
        try freeze(whole)
        let x = makeInput()
        for part in parts {
            part.weight.value = whole.weight.value
            try freeze(part)
            try part(x).mean().backward()
            try whole(x).mean().backward()
        }
        let sum = parts[0].weight.grad! + parts[1].weight.grad!
        return sum.bitEquals(whole.weight.grad!) ? nil : "other bits"
    }

    private func statisticsMove() throws -> String? {
        let conv = makeConvolution(), bn = BatchNorm2d(1)
        try conv.weight.freeze(route: route)
        let before = bn.runningMean?.value
        _ = try bn(conv(drift.input))
        guard let before, let after = bn.runningMean?.value else { return "no statistics" }
        return before.bitEquals(after) ? "they stay" : nil
    }

    private func bias() throws -> String? {
        let conv = makeConvolution(), x = makeInput()
        try conv.bias!.freeze(at: [0], to: 1, route: route)
        let optimizer = try AdamW(parameters: conv.parameters(), learningRate: 0.05)
        try step(conv, x, optimizer, times: FreezeBattery.steps)
        return differs(conv.bias!.value[element: 0], from: 1)
    }
}
