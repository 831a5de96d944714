import Foundation
import Permafrost
import Testing

/// What PyTorch computed when the goldens were made.
@Suite struct GoldenTests {
    @Test(arguments: Numerics.allCases) func convolution(numerics: Numerics) throws {
        try compareConvolutions(.committed, numerics: numerics)
    }
    @Test func pooling() throws { try comparePooling(.committed) }
    @Test func batchNormalization() throws { try compareBatchNormalization(.committed) }
    @Test func linear() throws { try compareLinear(.committed) }
    @Test func losses() throws { try compareLosses(.committed) }
    @Test func optimizers() throws { try compareOptimizers(.committed) }
}

/// The same against the PyTorch at hand, with settings that no run before has seen; a failure prints the seed.
@Suite(.enabled(if: PyTorch.isAvailable, PyTorch.reason)) struct LivePyTorchTests {
    @Test func everyOperation() throws {
        let goldens = try PyTorch.makeGoldens(seed: .random(in: 0...UInt32.max), configurations: 200, elements: 20_000)
        defer { try? FileManager.default.removeItem(at: goldens.folder) }
        for numerics in Numerics.allCases { try compareConvolutions(goldens, numerics: numerics) }
        try comparePooling(goldens)
        try compareBatchNormalization(goldens)
        try compareLinear(goldens)
        try compareLosses(goldens)
        try compareOptimizers(goldens)
    }
}
