import Testing

@testable import Permafrost

private final class Net: Module {
    let conv = Conv2d(2, 3, 3, bias: false)
    let bn = BatchNorm2d(3)
    let fc = Linear(3, 4)

    override func forward(_ x: Tensor) throws -> Tensor {
        try fc(bn(conv(x)).relu().mean(axes: [2, 3]))
    }
}

private func bits(_ state: StateDictionary) -> [String: [UInt8]] {
    Dictionary(uniqueKeysWithValues: state.names.map { ($0, state[stored: $0]!.bytes) })
}

@Suite(.serialized) struct StateDictionaryTests {
    @Test func hasPyTorchsNamesOrderAndTypes() throws {
        let net = Net()
        _ = try net(.rand([2, 2, 5, 5]))
        let state = net.stateDictionary()
        #expect(state.names == [
            "conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked",
            "fc.weight", "fc.bias",
        ])
        #expect(state[stored: "bn.num_batches_tracked"] == StoredTensor([1], shape: []))
        #expect(state["conv.weight"]!.bitEquals(net.conv.weight.value))
    }

    @Test func isIndependentOfTheModuleAndLoadsBack() throws {
        let (net, other) = (Net(), Net())
        _ = try net(.rand([2, 2, 5, 5]))
        let state = net.stateDictionary()
        let saved = bits(state)
        net.conv.weight.value = .zeros([3, 2, 3, 3])
        #expect(bits(state) == saved)
        #expect(try other.load(stateDictionary: StateDictionary(Safetensors(bytes: state.safetensors().serialized())))
            .isEmpty)
        #expect(bits(other.stateDictionary()) == saved)
    }

    @Test func namesEverythingThatDoesNotFitAndLoadsNothing() throws {
        let net = Net()
        let before = bits(net.stateDictionary())
        var state = Net().stateDictionary()
        state["fc.weight"] = .zeros([3, 4])
        state["bn.bias"] = nil
        state["head.weight"] = 1
        state[stored: "bn.weight"] = StoredTensor(
            dataType: .complex64, shape: [3], bytes: .init(repeating: 0, count: 24))
        let error = try #require(throws: StateDictionaryError.self) { try net.load(stateDictionary: state) }
        #expect(error.keys.missing == ["bn.bias"])
        #expect(error.keys.unexpected == ["head.weight"])
        #expect(error.mismatched.map(\.name) == ["bn.weight", "fc.weight"])
        for text in [
            "missing bn.bias", "unexpected head.weight", "fc.weight has shape [3, 4], expected [4, 3]", "type C64",
        ] { #expect(error.description.contains(text), "\(error)") }
        #expect(bits(net.stateDictionary()) == before)
        // Not strict, a wrong shape is an error all the same.
        #expect(throws: StateDictionaryError.self) { try net.load(stateDictionary: state, strict: false) }
        #expect(bits(net.stateDictionary()) == before)
    }

    @Test func looseLoadingTakesWhatThereIs() throws {
        let net = Net()
        var state = StateDictionary()
        state["fc.bias"] = Tensor([1, 2, 3, 4])
        state["other"] = 5
        let differences = try net.load(stateDictionary: state, strict: false)
        #expect(differences.missing.count == 7 && differences.unexpected == ["other"])
        #expect(net.fc.bias!.value.scalars == [1, 2, 3, 4])
    }

    @Test func frozenElementsThrowWhenStrictAndStayOtherwise() throws {
        let net = Net()
        try net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1)
        let state = Net().stateDictionary()
        let before = bits(net.stateDictionary())
        let error = try #require(throws: StateDictionaryError.self) { try net.load(stateDictionary: state) }
        #expect(error.description.contains("conv.weight[0,1,2,1] is frozen at 1.0"))
        #expect(bits(net.stateDictionary()) == before)
        try net.load(stateDictionary: state, strict: false)
        #expect(net.conv.weight[0, 1, 2, 1].item() == 1)
        #expect(net.conv.weight[1].bitEquals(state["conv.weight"]![1]))
        #expect(try net.load(stateDictionary: net.stateDictionary()).isEmpty)
    }
}

@Suite(.serialized) struct CheckpointTests {
    let folder = TemporaryFolder()

    /// A training whose every part has state: batch statistics, momentum, schedule, dropout, freezes.
    private final class Training {
        let net = Net()
        let optimizer: Optimizer
        let scheduler: LRScheduler
        let generator = Generator(seed: 9)

        init(_ optimizer: String = "sgd") throws {
            self.optimizer = optimizer == "sgd"
                ? try SGD(parameters: net.parameters(), learningRate: 0.1, momentum: 0.9, weightDecay: 0.01)
                : try AdamW(parameters: net.parameters(), amsgrad: true)
            scheduler = LRScheduler(self.optimizer, .cosine(steps: 20))
        }

        func train(_ steps: Int) throws {
            for _ in 0..<steps {
                optimizer.zeroGrad()
                let x = try dropout(.randn([4, 2, 6, 6], generator: generator), generator: generator)
                try crossEntropy(net(x), [0, 1, 2, 3]).backward()
                try optimizer.step()
                try scheduler.step()
            }
        }

        func checkpoint() -> Checkpoint {
            Checkpoint(of: net, optimizer: optimizer, scheduler: scheduler, generator: generator)
        }

        func restore(_ checkpoint: Checkpoint) throws {
            try checkpoint.restore(net, optimizer: optimizer, scheduler: scheduler, generator: generator)
        }

        var bytes: [UInt8] { checkpoint().safetensors().serialized() }
    }

    @Test(arguments: ["sgd", "adamw"]) func trainingGoesOnToTheSameBits(optimizer: String) throws {
        let whole = try Training(optimizer)
        try whole.net.conv.weight.freeze(at: [0, 1, 2, 1], to: 1, name: "one")
        try whole.net.fc.weight.freeze(at: [.all, 2], route: .callback)
        try whole.net.conv.weight.freeze(at: [1], to: -0.0, name: "off").disable()
        try whole.train(5)
        let path = folder.path("checkpoint.safetensors")
        try whole.checkpoint().write(to: path)
        try whole.train(7)

        let resumed = try Training(optimizer)
        try resumed.train(2)
        try resumed.restore(Checkpoint.read(path))
        #expect(resumed.bytes == contents(of: path))
        try resumed.train(7)
        #expect(resumed.bytes == whole.bytes)
        let freezes = resumed.net.conv.weight.freezes
        #expect(freezes.map(\.name) == ["one", "off"] && freezes.map(\.isEnabled) == [true, false])
        #expect(freezes[1].record.values.allSatisfy { $0.bitPattern == 0x8000_0000 })
        #expect(resumed.net.fc.weight.freezes[0].route == .callback)
        #expect(resumed.net.conv.weight[0, 1, 2, 1].item() == 1)
    }

    @Test func keepsWhatTheTrainingLoopAdds() throws {
        var checkpoint = Checkpoint(of: Net(), values: ["position": "a.b=c\n"], tensors: ["average.x": Tensor([1, 2])])
        checkpoint.generator = Generator.State(seed: .max, stream: 1 << 63)
        let back = try Checkpoint(Safetensors(bytes: checkpoint.safetensors().serialized()))
        #expect(back.values == checkpoint.values)
        #expect(back.tensors["average.x"]!.scalars == [1, 2])
        #expect(back.generator == checkpoint.generator)
        #expect(back.optimizer == nil && back.schedule == nil)
    }

    @Test func everyKindOfScheduleIsSaved() throws {
        let training = try Training(), plateau = try ReduceLROnPlateau(training.optimizer, factor: 0.5, patience: 1)
        let path = folder.path("plateau.safetensors")
        func checkpoint() -> Checkpoint {
            Checkpoint(of: training.net, optimizer: training.optimizer, scheduler: plateau)
        }
        try checkpoint().write(to: path)  // The best metric is infinite at first.
        #expect(try Checkpoint.read(path).schedule?["best"] == .infinity)
        for metric in [1.0, 0.5, 0.5] { plateau.step(metric) }
        try checkpoint().write(to: path)
        plateau.step(0.5)
        let after = (plateau.stateDictionary(), training.optimizer.learningRates)
        for _ in 0..<3 { plateau.step(0.5) }
        try Checkpoint.read(path).restore(training.net, optimizer: training.optimizer, scheduler: plateau)
        plateau.step(0.5)
        #expect(plateau.stateDictionary() == after.0 && training.optimizer.learningRates == after.1)
        #expect(after.1 == [0.05])
    }

    @Test func whatDoesNotFitChangesNothing() throws {
        let training = try Training()
        try training.train(2)
        try training.net.conv.weight.freeze(at: [0], to: 2)
        let saved = training.checkpoint()
        try training.train(1)
        let before = training.bytes
        func refused(_ expected: String, _ change: (inout Checkpoint) -> Void) {
            var odd = saved
            change(&odd)
            let error = #expect(throws: (any Error).self) { try training.restore(odd) }
            #expect("\(error!)".contains(expected), "\(error!)")
            #expect(training.bytes == before)
            #expect(training.net.conv.weight.freezes.count == 1)
        }
        refused("missing fc.bias") { $0.model["fc.bias"] = nil }
        refused("fc.bias.momentum_buffer has shape [3]") {
            $0.optimizer!.tensors["fc.bias.momentum_buffer"] = Tensor([1, 2, 3])
        }
        refused("state of the optimizer") { $0.optimizer = nil }
        refused("scheduler") { $0.schedule = ["stepCount": 1] }
        refused("generator of random numbers") { $0.generator = nil }
        refused("'gone', which is no parameter") { $0.freezes["gone"] = [] }
        refused("has the offset 999") {
            $0.freezes["conv.weight"] = [
                FreezeRecord(name: nil, route: .mask, isEnabled: true, offsets: [999], values: [1])
            ]
        }
        try training.restore(saved)
        #expect(training.bytes != before)
    }

    @Test func malformedFilesAreErrors() throws {
        let training = try Training()
        try training.train(1)
        try training.net.conv.weight.freeze(at: [0], to: 2)
        let good = training.checkpoint().safetensors()
        #expect(throws: Never.self) { try Checkpoint(good) }
        func refused(_ expected: String, _ change: (inout Safetensors) -> Void) {
            var odd = good
            change(&odd)
            let error = #expect(throws: CheckpointError.self) { try Checkpoint(odd) }
            #expect(error?.message.contains(expected) == true, "\(error!)")
        }
        refused("no checkpoint") { $0.metadata["permafrost.checkpoint"] = nil }
        refused("version 2") { $0.metadata["permafrost.checkpoint"] = "2" }
        refused("'stray'") { $0.metadata["stray"] = "" }
        refused("'stray'") { $0.tensors["stray"] = StoredTensor(1) }
        refused("'other.x'") { $0.tensors["other.x"] = StoredTensor(1) }
        refused("expected a number") { $0.metadata["generator.seed"] = "-1" }
        refused("expected a number") { $0.metadata["schedule.stepCount"] = "many" }
        refused("expected a number") { $0.tensors["freeze.x.values"] = StoredTensor(1) }
        refused("freeze.0 is incomplete") { $0.metadata["freeze.0.route"] = "hope" }
        refused("freeze.0 is incomplete") { $0.tensors["freeze.0.values"] = StoredTensor(Tensor([1, 2])) }
        refused("freeze.0 is incomplete") { $0.tensors["freeze.0.offsets"] = nil }
        refused("type C64") {
            $0.tensors["extra.x"] = StoredTensor(dataType: .complex64, shape: [], bytes: .init(repeating: 0, count: 8))
        }
    }
}

@Suite struct SavedAuditTests {
    let before: StateDictionary = {
        var state = StateDictionary()
        state["a"] = Tensor([[1, 2], [3, 4]])
        state["b"] = Tensor([0])
        return state
    }()

    @Test func comparesBitsOfWhatWasChosen() throws {
        var after = before
        after["a"] = Tensor([[1, 2], [3, 5]])
        after["b"] = Tensor([-0.0])
        let all = try Audit(comparing: before, with: after).report()
        #expect(all.checked == 5 && all.changed == 2)
        #expect(all.firstChanged?.parameter == "a" && all.firstChanged?.index == [1, 1])
        func report(_ texts: String...) throws -> AuditReport {
            try Audit(comparing: before, with: after, at: texts.map { try FreezeSpecification(parsing: $0) }).report()
        }
        #expect(try report("a[0]", "a[:,0]").changed == 0)
        #expect(try report("a[0]", "a[:,0]").checked == 3)
        #expect(try report("a[1,1]=4", "b").changed == 2)
        let record = FreezeRecord(name: nil, route: .mask, isEnabled: true, offsets: [2, 3], values: [3, 4])
        var off = record
        off.isEnabled = false
        let held = try Audit(comparing: before, with: after, at: ["a": [record], "b": [off]]).report()
        #expect(held.checked == 2 && held.changed == 1)
        // A value that an element is said to have must be there before.
        let error = #expect(throws: FreezeError.self) { try report("a[1,1]=5") }
        #expect(error?.message == "a[1,1] was 4.0 before, not 5.0")
    }

    @Test func refusesWhatDoesNotFit() throws {
        var after = before
        after["a"] = Tensor([1, 2])
        #expect(throws: FreezeError.self) { try Audit(comparing: before, with: after) }
        after["a"] = nil
        #expect(throws: FreezeError.self) { try Audit(comparing: before, with: after) }
    }
}
