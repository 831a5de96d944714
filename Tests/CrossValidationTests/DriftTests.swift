import Testing

@testable import PermafrostBench

/// The table that `permafrost-bench drift` prints.
@Suite struct DriftTests {
    /// What a freeze promises: exactly 1 under every optimizer, whether or not the input needs a gradient.
    @Test(arguments: Drift.Setting.all.indices, [false, true])
    func freezesHoldExactly(setting: Int, inputGrad: Bool) throws {
        for seed in 0..<5 as Range<UInt64> {
            for way in [Drift.Way.mask, .callback] {
                let value = try Drift(seed: seed).finalValue(Drift.Setting.all[setting], inputGrad: inputGrad, way: way)
                #expect(value.bitPattern == Drift.value.bitPattern, "\(way), seed \(seed)")
            }
        }
    }

    /// The recipe holds where its mathematics hold: plain SGD. Under weight decay the value shrinks by the decay alone,
    /// for the gradient is zeroed: (1 - 0.05 * 0.1)^20, with two roundings a step.
    @Test(arguments: [false, true]) func recipeIsItsMathematics(inputGrad: Bool) throws {
        let drift = Drift(seed: 1)
        #expect(try drift.finalValue(Drift.Setting.all[0], inputGrad: inputGrad, way: .recipe) == 1)
        let decayed = try drift.finalValue(Drift.Setting.all[1], inputGrad: inputGrad, way: .recipe)
        let expected = (0..<Drift.steps).reduce(Bounded(1.0)) { value, _ in
            value - Bounded(0.05) * (Bounded(0.1) * value)
        }
        #expect(expected.admits(decayed), "\(decayed), not within \(expected.error) of \(expected.value)")
    }

    /// PyTorch's column: where the mathematics leave no choice, its recipe ends where ours does.
    @Test(.enabled(if: PyTorch.isAvailable, PyTorch.reason)) func peer() throws {
        let peer = try Peer(script: "drift.py"), drift = Drift(seed: 2)
        #expect(try peer.finalValue(drift, Drift.Setting.all[0], inputGrad: true) == 1)
        let expected = (0..<Drift.steps).reduce(Bounded(1.0)) { value, _ in
            value - Bounded(0.05) * (Bounded(0.1) * value)
        }
        #expect(expected.admits(try peer.finalValue(drift, Drift.Setting.all[1], inputGrad: true)))
        // Its hook fires before the gradient is there when no input needs one: the weight moves.
        #expect(try peer.finalValue(drift, Drift.Setting.all[0], inputGrad: false) != 1)
    }
}
