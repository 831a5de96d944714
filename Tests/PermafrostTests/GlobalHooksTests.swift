import Testing

@testable import Permafrost

/// Tests run side by side, so each hook here answers to its own modules only.
@Suite struct GlobalHooksTests {
    @Test func globalHooksFireBeforeTheModulesOwn() throws {
        let scale = Scale(2)
        nonisolated(unsafe) var events: [String] = []
        scale.registerForwardPreHook { _, inputs in
            events.append("own pre")
            return [inputs[0] + 1]
        }
        scale.registerForwardHook { _, _, _ in events.append("own forward"); return nil }
        scale.registerFullBackwardPreHook { _, _ in events.append("own backward pre"); return nil }
        scale.registerFullBackwardHook { _, _, _ in events.append("own backward"); return nil }
        let handles = [
            registerModuleForwardPreHook { module, inputs in
                guard module === scale else { return nil }
                events.append("global pre")
                return [inputs[0] * 10]
            },
            registerModuleForwardPreHook(prepend: true) { module, _ in
                if module === scale { events.append("prepended pre") }
                return nil
            },
            registerModuleForwardHook { module, _, _ in
                if module === scale { events.append("global forward") }
                return nil
            },
            registerModuleFullBackwardPreHook { module, _ in
                if module === scale { events.append("global backward pre") }
                return nil
            },
            registerModuleFullBackwardHook { module, gradInput, _ in
                guard module === scale else { return nil }
                events.append("global backward")
                return [gradInput[0]! * 100]
            },
        ]
        var x = Tensor([1])
        x.requiresGrad = true
        let y = try scale(x)
        #expect(y.scalars == [22])
        try y.sum().backward()
        #expect(
            events == [
                "prepended pre", "global pre", "own pre", "global forward", "own forward",
                "global backward pre", "own backward pre", "global backward", "own backward",
            ])
        // weight 2, the global hook's 100, and the global pre-hook's 10 before the call.
        #expect(x.grad?.scalars == [2000])

        for handle in handles { handle.remove() }
        events = []
        _ = try scale(x)
        #expect(events == ["own pre", "own forward"])
    }

    @Test func globalHooksReachModulesWithoutHooksOfTheirOwn() throws {
        let net = Sequential(Scale(2), Scale(3))
        nonisolated(unsafe) var types: [String] = []
        let mine = net.modules()
        let handle = registerModuleForwardHook(alwaysCall: true) { module, _, _ in
            if mine.contains(where: { $0 === module }) { types.append("\(type(of: module))") }
            return nil
        }
        defer { handle.remove() }
        _ = try net(Tensor([1]))
        #expect(types == ["Scale", "Scale", "Sequential"])
    }

    @Test func globalAlwaysCallHooksFireWhenACallThrows() throws {
        let linear = Linear(2, 2)
        nonisolated(unsafe) var fired = 0
        let handle = registerModuleForwardHook(alwaysCall: true) { module, _, outputs in
            if module === linear && outputs.isEmpty { fired += 1 }
            return nil
        }
        defer { handle.remove() }
        #expect(throws: ModuleError.self) { try linear(.ones([1, 3])) }
        #expect(fired == 1)
    }

    @Test func globalHooksAreListedAndCleared() async {
        await #expect(processExitsWith: .success) {
            registerModuleForwardPreHook { _, _ in nil }
            let handle = registerModuleFullBackwardHook { _, _, _ in nil }
            precondition(GlobalHooks.registeredHooks().map(\.kind) == [.forwardPre, .fullBackward])
            GlobalHooks.removeAllHooks(.forwardPre)
            precondition(GlobalHooks.registeredHooks().map(\.kind) == [.fullBackward])
            GlobalHooks.removeAllHooks()
            precondition(!handle.isActive && !GlobalHooks.areRegistered)
        }
    }
}
