import Foundation
import Permafrost
import Testing

/// 200 steps of training from the same weights on the same batches: no further from PyTorch in float64 than twice
/// PyTorch in float32.
///
/// The network is smooth, tanh and average pooling, so that what is compared is rounding. At a kink of ReLU, or between
/// two equal elements of a maximum, one unit in the last place decides which way a gradient goes: there PyTorch's two
/// ways to compute a convolution in float32, with oneDNN and without, come apart by 10^5 times their distance from
/// float64.
@Suite(.enabled(if: PyTorch.isAvailable, PyTorch.reason)) struct TrainingComparisonTests {
    private final class SmoothNet: Module {
        let conv1 = Conv2d(1, 8, 3, padding: 1, bias: false)
        let bn1 = BatchNorm2d(8)
        let conv2 = Conv2d(8, 16, 3, padding: 1)
        let fc = Linear(256, 10)

        override func forward(_ images: Tensor) throws -> Tensor {
            let x = try avgPool2d(bn1(conv1(images)).tanh(), kernelSize: 2)
            return try fc(conv2(x).tanh().flattened(startAxis: 1))
        }
    }

    private static let steps = 200, every = 20

    @Test(arguments: [
        OptimizerSetting(name: .sgd, options: ["lr": 0.05, "momentum": 0.9, "weight_decay": 1e-4]),
        OptimizerSetting(name: .adamw, options: ["lr": 0.002]),
    ])
    func staysAsCloseAsPyTorch(setting: OptimizerSetting) throws {
        for seed in [1, 2] as [UInt64] {
            let generator = Generator(seed: seed), start = SmoothNet()
            for parameter in start.parameters() where parameter.shape.rank > 1 {
                parameter.value = .uniform(parameter.shape, in: -0.15..<0.15, generator: generator)
            }
            for bias in [start.conv2.bias!, start.fc.bias!] { bias.value = .zeros(bias.shape) }
            let weights = start.stateDictionary(), batches = batches(generator)
            let torch = try trainedInPyTorch(setting, weights, batches)

            for numerics in Numerics.allCases {
                let ours = try withExecution(threads: 1, numerics: numerics) { try trained(setting, weights, batches) }
                for (index, state) in ours.enumerated() {
                    let step = (index + 1) * Self.every
                    let (our, their) = try distances(state, torch, step, start.namedParameters().map(\.name))
                    #expect(our <= 2 * their, "\(setting), seed \(seed), \(numerics), step \(step)")
                }
            }
        }
    }

    private func batches(_ generator: Generator) -> [Batch] {
        let loader = DataLoader(
            Digits.split().train, batchSize: 32, shuffle: true, dropLast: true, generator: generator)
        var result: [Batch] = []
        while result.count < Self.steps { result += loader.prefix(Self.steps - result.count) }
        return result
    }

    /// The state after every `every`th step.
    private func trained(
        _ setting: OptimizerSetting, _ weights: StateDictionary, _ batches: [Batch]
    ) throws -> [StateDictionary] {
        let network = SmoothNet()
        try network.load(stateDictionary: weights)
        let optimizer = try setting.make(network.parameters())
        var result: [StateDictionary] = []
        for (step, batch) in batches.enumerated() {
            optimizer.zeroGrad()
            try crossEntropy(network(batch.images), batch.labels).backward()
            try optimizer.step()
            if (step + 1) % Self.every == 0 { result.append(network.stateDictionary()) }
        }
        return result
    }

    private func trainedInPyTorch(
        _ setting: OptimizerSetting, _ weights: StateDictionary, _ batches: [Batch]
    ) throws -> StateDictionary {
        struct Request: Encodable {
            let setting: OptimizerSetting
            let every: Int
        }
        let folder = try PeerFolder()
        try folder.write(weights, to: "start.safetensors")
        var given = StateDictionary()
        given["images"] = try concatenate(batches.map { $0.images.reshaped(Shape([1] + $0.images.shape)) })
        given[stored: "labels"] = StoredTensor(
            batches.flatMap { $0.labels.map(Int64.init) }, shape: [batches.count, batches[0].labels.count])
        try folder.write(given, to: "batches.safetensors")
        try folder.run("training.py", request: Request(setting: setting, every: Self.every))
        return try folder.state("trained.safetensors")
    }

    /// The Euclidean distances over all parameters of ours and of PyTorch's in float32 from PyTorch's in float64.
    private func distances(
        _ ours: StateDictionary, _ torch: StateDictionary, _ step: Int, _ names: [String]
    ) throws -> (ours: Double, theirs: Double) {
        var squares = (0.0, 0.0)
        for name in names {
            let exact = try torch.doubles("float64.\(step).\(name)")
            squares.0 += try squaredDistance(ours.doubles(name), exact)
            squares.1 += try squaredDistance(torch.doubles("float32.\(step).\(name)"), exact)
        }
        return (squares.0.squareRoot(), squares.1.squareRoot())
    }

    private func squaredDistance(_ a: [Double], _ b: [Double]) throws -> Double {
        try #require(a.count == b.count)
        return zip(a, b).reduce(0) { $0 + ($1.0 - $1.1) * ($1.0 - $1.1) }
    }
}
