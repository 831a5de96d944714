import Foundation
import Permafrost
import Testing

/// Weights to PyTorch and back through safetensors files, loaded strictly on both sides, and what the networks compute
/// from them in evaluation mode.
@Suite(.enabled(if: PyTorch.isAvailable, PyTorch.reason)) struct RoundTripTests {
    @Test(arguments: NetworkKind.allCases) func weightsGoOutAndIn(kind: NetworkKind) throws {
        let seed = UInt64.random(in: 0 ... .max), generator = Generator(seed: seed)
        let images = Tensor.uniform(Shape([2] + kind.imageShape), in: -4..<4, generator: generator)
        let network = kind.make()
        network.randomize(generator)

        let folder = try PeerFolder(), given = network.stateDictionary()
        try folder.write(given, to: "given.safetensors")
        var input = StateDictionary()
        input["images"] = images
        try folder.write(input, to: "images.safetensors")
        let names = try JSONDecoder().decode([String].self, from: folder.run("round_trip.py", [kind.rawValue]))
        #expect(names == given.names)

        let returned = try folder.state("returned.safetensors")
        #expect(Set(returned.names) == Set(names))
        for name in names { #expect(returned[stored: name] == given[stored: name], "\(name), seed \(seed)") }

        let outputs = try folder.state("outputs.safetensors")
        try network.compare(outputs, "given", images, "seed \(seed)")

        let other = kind.make(), made = try folder.state("made.safetensors")
        try other.load(stateDictionary: made)
        for name in names { #expect(other.stateDictionary()[stored: name] == made[stored: name], "\(name)") }
        try other.compare(outputs, "made", images, "seed \(seed)")

        // Weights for which PyTorch's float32 rounds nothing: equal outputs. A parameter in the wrong place shows.
        let exact = kind.make(epsilon: 0x1p-7)
        try exact.load(stateDictionary: folder.state("exact.safetensors"))
        let output = try withExecution(numerics: .exact) {
            try exact.eval()(#require(outputs["exact.images"]))
        }
        let expected = try outputs.doubles("exact.float64")
        #expect(try outputs.doubles("exact.float32") == expected, "PyTorch rounds after all; seed \(seed)")
        #expect(output.scalars.map(Double.init) == expected, "seed \(seed)")
        #expect(expected[..<10] != expected[10...], "the network doesn't tell two images apart; seed \(seed)")
    }
}

extension Module {
    /// Weights as they are drawn, and statistics as training leaves them.
    fileprivate func randomize(_ generator: Generator) {
        for parameter in parameters() where parameter.shape.rank > 1 {
            let limit = (3 / Float(parameter.shape.dropFirst().reduce(1, *))).squareRoot()
            parameter.value = .uniform(parameter.shape, in: -limit..<limit, generator: generator)
        }
        for case let layer as BatchNorm2d in modules() {
            let shape: Shape = [layer.features]
            layer.weight?.value = .uniform(shape, in: 0.5..<1.5, generator: generator)
            layer.bias?.value = .uniform(shape, in: -0.5..<0.5, generator: generator)
            layer.runningMean?.value = .uniform(shape, in: -0.5..<0.5, generator: generator)
            layer.runningVariance?.value = .uniform(shape, in: 0.5..<1.5, generator: generator)
            layer.batchesTracked?.value = Tensor(Float(generator.integer(below: 1000)))
        }
    }

    /// Requires that our outputs and PyTorch's lie within the bound of `peers/rounding.py` around those in double
    /// precision.
    fileprivate func compare(
        _ outputs: StateDictionary, _ label: String, _ images: Tensor, _ context: String,
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let reference = try outputs.doubles("\(label).float64")
        var results = [("PyTorch's", try outputs.doubles("\(label).float32"), "bound")]
        for numerics in Numerics.allCases {
            let output = try withExecution(numerics: numerics) { try noGrad { try eval()(images) } }
            #expect(Array(output.shape) == [2, 10], sourceLocation: sourceLocation)
            results.append(
                ("our \(numerics)", output.scalars.map(Double.init), numerics == .fast ? "fast_bound" : "bound"))
        }
        for (name, result, bound) in results {
            let allowed = try outputs.doubles("\(label).\(bound)")
            for index in reference.indices {
                let error = abs(result[index] - reference[index])
                #expect(
                    error <= allowed[index], "\(name) output \(index) of the \(label) weights, \(context)",
                    sourceLocation: sourceLocation)
            }
        }
    }
}
