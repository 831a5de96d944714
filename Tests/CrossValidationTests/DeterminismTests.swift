import Permafrost
import Testing

/// The weights that a training ends with depend on no thread count.
@Suite struct DeterminismTests {
    /// Convolutions wide enough to be shared among threads, and everything else that a step of a network takes.
    private final class Network: Module {
        let conv1 = Conv2d(1, 16, 3, padding: 1)
        let bn1 = BatchNorm2d(16)
        let conv2 = Conv2d(16, 32, 3, padding: 1, bias: false)
        let bn2 = BatchNorm2d(32)
        let depthwise = Conv2d(32, 32, 3, padding: 1, groups: 32)
        let fc = Linear(32 * 4 * 4, 10)
        private let generator: Generator

        /// Draws from a generator of its own: other tests draw from the default one at the same time.
        init(_ generator: Generator) {
            self.generator = generator
            super.init()
            for parameter in parameters() where parameter.shape.rank > 1 {
                parameter.value = .uniform(parameter.shape, in: -0.1..<0.1, generator: generator)
            }
            for layer in [conv1, depthwise] { layer.bias?.value = .zeros(layer.bias!.shape) }
            fc.bias?.value = .zeros([10])
        }

        override func forward(_ images: Tensor) throws -> Tensor {
            var x = try bn1(conv1(images)).relu()
            x = try maxPool2d(bn2(conv2(x)).relu(), kernelSize: 2)
            x = try x + depthwise(x).relu()
            return try fc(dropout(x.flattened(startAxis: 1), probability: 0.2, generator: generator))
        }
    }

    /// The digest of the weights after 200 steps on the optical digits, one element frozen.
    private func digest(threads: Int, numerics: Numerics, adam: Bool) throws -> String {
        try withExecution(threads: threads, numerics: numerics) {
            let generator = Generator(seed: 11)
            let network = Network(generator), parameters = network.parameters()
            try network.conv1.weight.freeze(at: [0, 0, 1, 1], to: 1)
            let optimizer: Optimizer =
                adam
                ? try AdamW(parameters: parameters)
                : try SGD(parameters: parameters, learningRate: 0.05, momentum: 0.9, weightDecay: 1e-4)
            let loader = DataLoader(Digits.split().train, batchSize: 32, shuffle: true, generator: generator)
            var step = 0
            while step < 200 {
                for batch in loader where step < 200 {
                    optimizer.zeroGrad()
                    try crossEntropy(network(batch.images), batch.labels).backward()
                    try optimizer.step()
                    step += 1
                }
            }
            #expect(network.conv1.weight.value[element: 0, 0, 1, 1] == 1)
            return network.stateDictionary().dataDigest
        }
    }

    @Test(arguments: Numerics.allCases, [false, true])
    func sameWeightsAtAnyThreadCount(numerics: Numerics, adam: Bool) throws {
        let one = try digest(threads: 1, numerics: numerics, adam: adam)
        #expect(try digest(threads: 2, numerics: numerics, adam: adam) == one)
        #expect(try digest(threads: 3, numerics: numerics, adam: adam) == one)
    }
}
