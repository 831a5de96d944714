import Foundation
import Testing

@testable import Permafrost

/// Learning rates over steps, against PyTorch's documented values.
@Suite struct ScheduleTests {
    private func rates(_ schedule: LearningRateSchedule, base: Double = 0.1, steps: Int) throws -> [Double] {
        let optimizer = try SGD(parameters: [Parameter(.ones([1]))], learningRate: base)
        let scheduler = LRScheduler(optimizer, schedule)
        return try (0..<steps).map { _ in
            defer { _ = try? scheduler.step() }
            return try #require(optimizer.learningRates.first)
        }
    }

    private func isClose(_ a: [Double], _ b: [Double]) -> Bool {
        a.count == b.count && zip(a, b).allSatisfy { abs($0 - $1) <= 1e-15 }
    }

    @Test func stepsAndMilestones() throws {
        #expect(isClose(try rates(.step(size: 2, gamma: 0.5), steps: 5), [0.1, 0.1, 0.05, 0.05, 0.025]))
        #expect(
            isClose(try rates(.multiStep(milestones: [1, 3], gamma: 0.1), steps: 5), [0.1, 0.01, 0.01, 0.001, 0.001]))
        #expect(isClose(try rates(.exponential(gamma: 0.5), steps: 3), [0.1, 0.05, 0.025]))
    }

    @Test func warmUpThenCosine() throws {
        let schedule = LearningRateSchedule.linear(from: 0.2, steps: 4).then(after: 4, .cosine(steps: 2, minimum: 0.02))
        #expect(isClose(try rates(schedule, steps: 7), [0.02, 0.04, 0.06, 0.08, 0.1, 0.06, 0.02]))
    }

    /// torch.optim.lr_scheduler.OneCycleLR(max_lr=0.1, total_steps=10): rates and beta1 printed by PyTorch 2.13.
    @Test func oneCycleIsPyTorchs() throws {
        let optimizer = try Adam(parameters: [Parameter(.ones([1]))], learningRate: 0.5)
        let scheduler = LRScheduler(optimizer, .oneCycle(maximum: 0.1, steps: 10))
        let expected: [(Double, Double)] = [
            (0.0040000000000000036, 0.95),
            (0.052000000000000005, 0.8999999999999999),
            (0.1, 0.85),
            (0.09504846320134738, 0.854951556604879),
            (0.0811745653949763, 0.8688255099070633),
            (0.06112620219362893, 0.8888739533021842),
            (0.03887419780637107, 0.9111260466978157),
            (0.0188258346050237, 0.9311744900929366),
            (0.004951936798652629, 0.945048443395121),
            (4e-07, 0.95),
        ]
        for (rate, beta) in expected {
            #expect(abs(optimizer.learningRates[0] - rate) <= 1e-15)
            #expect(abs(optimizer.options[0].beta1 - beta) <= 1e-15)
            if scheduler.stepCount < 9 { try scheduler.step() }
        }
        #expect(throws: OptimizerError.self) { try scheduler.step() }
    }

    @Test func aSchedulerGoesOnFromSavedState() throws {
        func make() throws -> (Optimizer, LRScheduler) {
            let optimizer = try SGD(parameters: [Parameter(.ones([1]))], learningRate: 0.1)
            return (optimizer, LRScheduler(optimizer, .cosine(steps: 10)))
        }
        let (optimizer, scheduler) = try make()
        for _ in 0..<4 { try scheduler.step() }
        let (laterOptimizer, later) = try make()
        try later.load(stateDictionary: scheduler.stateDictionary())
        #expect(laterOptimizer.learningRates == optimizer.learningRates)
        try scheduler.step()
        try later.step()
        #expect(laterOptimizer.learningRates == optimizer.learningRates)
        #expect(throws: OptimizerError.self) { try later.load(stateDictionary: [:]) }
    }

    @Test func plateauReducesAfterPatienceAndCoolsDown() throws {
        let optimizer = try SGD(parameters: [Parameter(.ones([1]))], learningRate: 1)
        let plateau = try ReduceLROnPlateau(optimizer, factor: 0.5, patience: 1, cooldown: 1, minimum: 0.2)
        // Better, then one bad step borne, then a reduction; the step after it isn't counted.
        let metrics = [1.0, 1.0, 0.99995, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
        let rates = metrics.map { metric in
            plateau.step(metric)
            return optimizer.learningRates[0]
        }
        #expect(rates == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.2, 0.2])
        #expect(plateau.best == 1)
        #expect(throws: OptimizerError.self) { try ReduceLROnPlateau(optimizer, factor: 1) }
    }
}
