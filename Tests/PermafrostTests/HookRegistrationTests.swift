import Testing

@testable import Permafrost

@Suite struct HookRegistrationTests {
    @Test func removeIsImmediateAndIdempotent() throws {
        let scale = Scale(1)
        var fired = 0
        let handle = scale.registerForwardPreHook { _, _ in
            fired += 1
            return nil
        }
        _ = try scale(vector(1))
        #expect(handle.isActive)
        handle.remove()
        handle.remove()
        #expect(!handle.isActive)
        _ = try scale(vector(1))
        #expect(fired == 1)
        #expect(scale.hooks == nil)
    }

    @Test func droppingTheHandleLeavesTheHook() throws {
        let scale = Scale(1)
        var fired = 0
        scale.registerForwardPreHook { _, _ in
            fired += 1
            return nil
        }
        _ = try scale(vector(1))
        #expect(fired == 1)
    }

    @Test func changesWhileHooksFire() throws {
        let scale = Scale(1)
        let trace = Trace()
        var handles: [HookHandle] = []
        handles.append(
            scale.registerForwardPreHook { scale, _ in
                trace.note("a")
                handles[0].remove()
                handles[1].remove()
                scale.registerForwardPreHook { _, _ in trace.note("new"); return nil }
                return nil
            })
        handles.append(scale.registerForwardPreHook { _, _ in trace.note("removed by a"); return nil })
        handles.append(scale.registerForwardPreHook { _, _ in trace.note("c"); return nil })
        _ = try scale(vector(1))
        #expect(trace.events == ["a", "c"])
        _ = try scale(vector(1))
        #expect(trace.events == ["a", "c", "c", "new"])
    }

    @Test func changesWhileBackwardHooksFire() throws {
        let scale = Scale(1)
        let trace = Trace()
        var second: HookHandle?
        scale.registerFullBackwardHook { scale, _, _ in
            trace.note("first")
            second?.remove()
            scale.registerFullBackwardHook { _, _, _ in trace.note("new"); return nil }
            return nil
        }
        second = scale.registerFullBackwardHook { _, _, _ in trace.note("second"); return nil }
        try scale(vector(1)).sum().backward()
        #expect(trace.events == ["first"])
    }

    @Test func aCallsBackwardHooksAreThoseOfItsBeginningStillThere() throws {
        let scale = Scale(1)
        let trace = Trace()
        let removed = scale.registerFullBackwardHook { _, _, _ in trace.note("removed"); return nil }
        scale.registerFullBackwardHook { _, _, _ in trace.note("kept"); return nil }
        let y = try scale(vector(1)).sum()
        removed.remove()
        scale.registerFullBackwardHook { _, _, _ in trace.note("late"); return nil }
        try y.backward()
        #expect(trace.events == ["kept"])
    }

    @Test func hooksAreListedInFiringOrderAndCleared() throws {
        let net = Sequential(Scale(1), Scale(2))
        let scale = net[0]
        let line = #line + 1
        let last = scale.registerForwardHook(alwaysCall: true) { _, _, _ in nil }
        scale.registerForwardHook(prepend: true) { _, _, _ in nil }
        scale.registerForwardPreHook { _, _ in nil }
        let deep = net[1].registerFullBackwardHook { _, _, _ in nil }
        #expect(scale.registeredHooks().map(\.kind) == [.forwardPre, .forward, .forward])
        #expect(scale.registeredHooks(.forward).map(\.alwaysCall) == [false, true])
        let file = "PermafrostTests/HookRegistrationTests.swift"
        #expect(scale.registeredHooks(.forward).map(\.origin) == ["\(file):\(line + 1)", "\(file):\(line)"])
        scale.registeredHooks(.forward)[0].handle.remove()
        #expect(scale.registeredHooks(.forward).count == 1)

        scale.removeAllHooks(.forwardPre)
        #expect(scale.registeredHooks().map(\.kind) == [.forward])
        net.removeAllHooks(recursively: true)
        #expect(!last.isActive && !deep.isActive)
        #expect(scale.hooks == nil && net[1].hooks == nil)
    }

    @Test func hooksOfTensorsParametersAndOptimizersAreListedAndCleared() throws {
        let scale = Scale(1)
        let x = vector(1, requiresGrad: true)
        let optimizer = try SGD(parameters: scale.parameters(), learningRate: 1)
        let line = #line + 1
        let tensor = x.registerHook { _ in throw Stop() }
        let handles = [
            tensor,
            scale.weight.registerHook { _ in throw Stop() },
            scale.weight.registerPostAccumulateGradHook { _ in throw Stop() },
            optimizer.registerStepPostHook { _ in throw Stop() },
            optimizer.registerStepPreHook { _ in throw Stop() },
        ]
        #expect(x.registeredHooks().map(\.origin) == ["PermafrostTests/HookRegistrationTests.swift:\(line)"])
        #expect(scale.weight.registeredHooks().map(\.kind) == [.tensor, .postAccumulateGrad])
        #expect(optimizer.registeredHooks().map(\.kind) == [.optimizerStepPre, .optimizerStepPost])
        #expect(vector(1).registeredHooks().isEmpty)

        x.removeAllHooks()
        scale.weight.removeAllHooks()
        optimizer.removeAllHooks()
        #expect(handles.allSatisfy { !$0.isActive })
        try scale(x).sum().backward()
        try optimizer.step()
        #expect(scale.weight.value.scalars == [0])
    }

    @Test func hooksKeepNeitherModulesNorGraphsAlive() throws {
        weak var module: Scale?
        weak var node: Node?
        do {
            let scale = Scale(1)
            module = scale
            scale.registerForwardPreHook { _, _ in nil }
            scale.registerForwardHook { _, _, _ in nil }
            scale.registerFullBackwardPreHook { _, _ in nil }
            scale.registerFullBackwardHook { _, _, _ in nil }
            let y = try scale(vector(1, requiresGrad: true)).sum()
            node = y.node
            try y.backward()
            scale.registerForwardHook { _, _, _ in throw Stop() }
            #expect(throws: Stop.self) { try scale(vector(1)) }
        }
        #expect(module == nil)
        #expect(node == nil)
    }
}
