import Testing

@testable import Permafrost

/// A layer with names at every place that reflection reads.
private final class Block: Module {
    let conv1: Conv2d
    let bn1: BatchNorm2d
    let shortcut: Conv2d?

    init(_ input: Int, _ output: Int, shortcut: Bool) {
        conv1 = Conv2d(input, output, 3, padding: 1, bias: false)
        bn1 = BatchNorm2d(output)
        self.shortcut = shortcut ? Conv2d(input, output, 1, bias: false) : nil
        super.init()
    }

    override func forward(_ x: Tensor) throws -> Tensor {
        let y = try bn1(conv1(x))
        return try (y + (shortcut.map { try $0(x) } ?? x)).relu()
    }
}

private final class Net: Module {
    // Declared between modules, yet first in PyTorch's order: a module's own parameters come before its children's.
    let stem = Conv2d(1, 2, 3, padding: 1)
    let temperature = Parameter(Tensor(2))
    let layer1: [Block] = [Block(2, 4, shortcut: true), Block(4, 4, shortcut: false)]
    let heads: [String: Module] = ["coarse": Linear(4, 2), "fine": Linear(4, 3, bias: false)]
    let steps = 7
    let names = ["a", "b"]
    let scale: Float = 1

    override func forward(_ x: Tensor) throws -> Tensor {
        var x = try stem(x)
        for block in layer1 { x = try block(x) }
        return try heads["fine"]!(x.mean(axes: [2, 3])) / temperature.tensor
    }
}

@Suite struct ModuleTreeTests {
    @Test func keysAndOrderAreThoseOfPyTorchsStateDict() {
        let net = Net()
        #expect(
            net.namedState().map(\.name) == [
                "temperature", "stem.weight", "stem.bias",
                "layer1.0.conv1.weight",
                "layer1.0.bn1.weight", "layer1.0.bn1.bias", "layer1.0.bn1.running_mean", "layer1.0.bn1.running_var",
                "layer1.0.bn1.num_batches_tracked",
                "layer1.0.shortcut.weight",
                "layer1.1.conv1.weight",
                "layer1.1.bn1.weight", "layer1.1.bn1.bias", "layer1.1.bn1.running_mean", "layer1.1.bn1.running_var",
                "layer1.1.bn1.num_batches_tracked",
                "heads.coarse.weight", "heads.coarse.bias", "heads.fine.weight",
            ])
        #expect(
            net.namedParameters().map(\.name)
                == net.namedState().map(\.name).filter { !$0.contains("running") && !$0.contains("tracked") })
        #expect(net.namedBuffers().map(\.name) == net.namedState().map(\.name).filter { $0.contains("_") })
        #expect(
            net.namedModules().map(\.name) == [
                "", "stem", "layer1.0", "layer1.0.conv1", "layer1.0.bn1", "layer1.0.shortcut", "layer1.1",
                "layer1.1.conv1", "layer1.1.bn1", "heads.coarse", "heads.fine",
            ])
        #expect(net.stem.weight.name == "stem.weight")
    }

    @Test func aModuleAssignedLaterIsTheOneThatTrains() {
        final class Transfer: Module {
            let features = Linear(4, 4)
            var head = Linear(4, 10)
        }
        let net = Transfer()
        #expect(net.parameters().count == 4)
        net.head = Linear(4, 2, bias: false)
        #expect(net.parameters().last === net.head.weight)
        #expect(net.namedParameters().map(\.name) == ["features.weight", "features.bias", "head.weight"])
    }

    @Test func aSharedModuleIsListedOnceButHasAKeyAtEachPlace() {
        final class Tied: Module {
            let first: Linear
            let second: Linear
            override init() {
                first = Linear(2, 2, bias: false)
                second = first
                super.init()
            }
        }
        let net = Tied()
        #expect(net.parameters().count == 1)
        #expect(net.namedState().map(\.name) == ["first.weight", "second.weight"])
    }

    @Test func propertiesOfASubclassOfALayerBelongToItToo() {
        final class Gated: Conv2d {
            let gate = Parameter(Tensor(1))
            init() { super.init(inputChannels: 1, outputChannels: 1, kernelSize: 1) }
        }
        final class Tail: Sequential {
            let extra = Linear(1, 1, bias: false)
        }
        #expect(Gated().namedParameters().map(\.name) == ["weight", "bias", "gate"])
        #expect(Tail([ReLU(), Linear(1, 1, bias: false)]).namedParameters().map(\.name) == ["1.weight", "extra.weight"])
    }

    @Test func keysCanBeChosen() {
        final class Renamed: Module {
            let inner = Linear(1, 1)
            override func stateEntries() -> [StateEntry] { [.module("in_proj", inner)] }
        }
        final class Centred: Module {
            let runningCentre = Buffer(.zeros([2]), key: "running_centre")
            let count = Buffer(0, storage: .int64)
        }
        #expect(Renamed().namedParameters().map(\.name) == ["in_proj.weight", "in_proj.bias"])
        #expect(Centred().namedState().map(\.name) == ["running_centre", "count"])
    }

    @Test func sequentialTakesNamesAndAppends() throws {
        let net = Sequential(["conv": Conv2d(1, 2, 3), "relu": ReLU()])
        net.append(Flatten())
        #expect(net.namedParameters().map(\.name) == ["conv.weight", "conv.bias"])
        #expect(net.children.map(\.name) == ["conv", "relu", "2"])
        #expect(try net(.ones([1, 1, 4, 4])).shape == [1, 8])
    }

    @Test func trainAndEvalReachTheWholeTree() {
        let net = Net()
        net.eval()
        #expect(net.modules().allSatisfy { !$0.training })
        net.layer1[0].train()
        #expect(net.layer1[0].bn1.training && !net.layer1[1].bn1.training && !net.training)
    }

    @Test func zeroGradDropsOrFills() throws {
        let net = Linear(2, 2)
        try net(.ones([1, 2])).sum().backward()
        net.zeroGrad(setToNil: false)
        #expect(net.weight.grad?.scalars == [0, 0, 0, 0])
        net.zeroGrad()
        #expect(net.weight.grad == nil && net.bias?.grad == nil)
    }

    @Test func printsLikePyTorch() {
        final class Small: Module {
            let conv1 = Conv2d(1, 16, 3, padding: 1, bias: false)
            let body = Sequential(ReLU(), AvgPool2d(2))
            let fc = Linear(256, 10)
        }
        #expect(
            "\(Small())" == """
                Small(
                  (conv1): Conv2d(1, 16, kernelSize: (3, 3), stride: (1, 1), padding: (1, 1), bias: false)
                  (body): Sequential(
                    (0): ReLU()
                    (1): AvgPool2d(kernelSize: (2, 2), stride: (2, 2), padding: (0, 0))
                  )
                  (fc): Linear(256, 10)
                )
                """)
    }
}

@Suite struct ModuleMisuseTests {
    @Test func aModuleInATupleTrapsWithThePropertysName() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            final class Hidden: Module {
                let pair = (Linear(1, 1), 3)
            }
            _ = Hidden().parameters()
        }
        let message = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(message.contains("property 'pair' of Hidden"))
    }

    @Test func aLazyModuleTrapsWithThePropertysName() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            final class Late: Module {
                lazy var head = Linear(1, 1)
            }
            _ = Late().parameters()
        }
        let message = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(message.contains("property 'head' of Late"))
    }

    @Test func aModuleThatContainsItselfTraps() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            final class Ring: Module {
                var next: Module?
            }
            let ring = Ring()
            ring.next = ring
            _ = ring.namedState()
        }
        let message = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(message.contains("the Ring at 'next' contains itself"))
    }

    @Test func errorsNameTheLayerByItsPath() throws {
        let net = Net()
        let error = #expect(throws: ModuleError.self) { try net(.ones([1, 3, 4, 4])) }
        #expect(
            "\(try #require(error))"
                == "Conv2d stem: expected an input of shape [batch, 1, height, width], got [1, 3, 4, 4]")
        #expect(error?.path == "stem")

        let nested = Sequential(Sequential(ReLU(), Linear(3, 2)))
        let inner = #expect(throws: ModuleError.self) { try nested(.ones([1, 4])) }
        #expect("\(try #require(inner))" == "Linear 0.1: expected an input of shape [..., 3], got [1, 4]")

        let alone = #expect(throws: ModuleError.self) { try BatchNorm2d(2)(.ones([2, 2])) }
        #expect(
            "\(try #require(alone))"
                == "BatchNorm2d: expected an input of shape [batch, 2, height, width], got [2, 2]")
    }

    @Test func whatAnOperationRefusesNamesTheLayerToo() throws {
        let net = Sequential(Conv2d(1, 1, 5))
        let error = #expect(throws: ModuleError.self) { try net(.ones([1, 1, 3, 3])) }
        #expect("\(try #require(error))".hasPrefix("Conv2d 0: conv2d: "))
        let single = #expect(throws: ModuleError.self) { try BatchNorm2d(2)(.ones([1, 2, 1, 1])) }
        #expect("\(try #require(single))".contains("more than one value a channel"))
    }

    @Test func aModuleWithoutForwardSaysSo() throws {
        final class Empty: Module {}
        let error = #expect(throws: ModuleError.self) { try Empty()(1) }
        #expect("\(try #require(error))" == "Empty: must override forward")
        let many = #expect(throws: ModuleError.self) { try Empty()([1]) }
        #expect("\(try #require(many))" == "Empty: must override forward")
    }

    @Test func theNumberOfInputsAndOutputsMustFit() throws {
        final class Split: Module {
            override func forward(_ inputs: [Tensor]) throws -> [Tensor] { [inputs[0], inputs[0]] }
        }
        #expect(throws: ModuleError.self) { try ReLU()([1, 2]) }
        #expect(throws: ModuleError.self) { try Split()(1) }
        #expect(try Split()([1]).count == 2)
        #expect(throws: ModuleError.self) { try CrossEntropyLoss()(Tensor.ones([1, 2])) }
    }

    @Test func usersErrorsPassUnchanged() {
        struct Stop: Error {}
        final class Failing: Module {
            override func forward(_ x: Tensor) throws -> Tensor { throw Stop() }
        }
        #expect(throws: Stop.self) { try Sequential(Failing())(1) }
    }
}

@Suite struct LayerTests {
    @Test func conv2dTakesBothFormsAndImagesWithoutABatch() throws {
        let conv = Conv2d(inputChannels: 3, outputChannels: 1, kernelSize: 3, stride: 2, padding: 1)
        #expect(conv.weight.shape == [1, 3, 3, 3] && conv.bias?.shape == [1])
        #expect(try conv(.ones([2, 3, 8, 6])).shape == [2, 1, 4, 3])
        let image = Tensor.arange(3 * 5 * 5).reshaped([3, 5, 5])
        let batch = try conv(image.reshaped([1, 3, 5, 5]))
        #expect(try conv(image).bitEquals(batch.reshaped([1, 3, 3])))
        #expect(Conv2d(4, 8, Pair(1, 3), groups: 2, bias: false).weight.shape == [8, 2, 1, 3])
    }

    @Test func initialWeightsFillPyTorchsInterval() {
        let conv = Conv2d(16, 64, 3)
        let bound = 1 / Float(16 * 9).squareRoot()
        let weights = conv.weight.value.scalars
        #expect(weights.allSatisfy { -bound <= $0 && $0 < bound })
        // 9,216 uniform draws: all of them inside 0.99 of the bound has a probability of 0.99^9216 < 1e-40.
        #expect(weights.max()! > 0.99 * bound && weights.min()! < -0.99 * bound)
        // The mean's standard deviation is bound / sqrt(3 * 9216); six of them.
        #expect(abs(weights.reduce(0, +) / 9216) < 6 * bound / (3 * 9216 as Float).squareRoot())
        #expect(conv.bias!.value.scalars.allSatisfy { -bound <= $0 && $0 < bound })
        let linear = Linear(25, 400)
        #expect(linear.weight.value.scalars.allSatisfy { abs($0) <= 0.2 })
        #expect(linear.weight.value.scalars.max()! > 0.198)
    }

    @Test func linearWorksOnTheLastAxis() throws {
        let linear = Linear(2, 3)
        linear.weight.value = Tensor([[1, 2], [3, 4], [5, 6]])
        linear.bias!.value = Tensor([1, 0, -1])
        #expect(try linear(Tensor([1, 1])).scalars == [4, 7, 10])
        #expect(try linear(.ones([2, 4, 2])).shape == [2, 4, 3])
    }

    @Test func batchNormKeepsRunningStatisticsWithUnbiasedVariance() throws {
        let norm = BatchNorm2d(1)
        // Values 0, 2, 4, 6: mean 3, biased variance 5, unbiased 20 / 3.
        let x = Tensor([0, 2, 4, 6], shape: [1, 1, 2, 2])
        _ = try norm(x)
        #expect(norm.runningMean!.value.scalars == [Float(0.1 * 3)])
        let unbiased = Double(Float(5)) * 4 / 3
        #expect(norm.runningVariance!.value.scalars == [Float(0.1 * unbiased + 0.9)])
        #expect(norm.batchesTracked!.value.item() == 1)

        norm.eval()
        norm.runningMean!.value = Tensor([1])
        norm.runningVariance!.value = Tensor([4])
        let normalized = try norm(x).scalars
        for (value, expected) in zip(normalized, [-0.5, 0.5, 1.5, 2.5] as [Float]) {
            // epsilon changes 1 / sqrt(4) by a factor of 1 - epsilon / 8; rounding adds a few ulps.
            #expect(abs(value - expected) <= abs(expected) * (1e-5 / 8 + 4 * Float.ulpOfOne))
        }
        #expect(norm.batchesTracked!.value.item() == 1)
    }

    @Test func batchNormWithoutMomentumAveragesAllBatchesAlike() throws {
        let norm = BatchNorm2d(1, momentum: nil)
        for mean in [2, 4, 9] as [Float] {
            _ = try norm(Tensor([mean - 1, mean + 1], shape: [2, 1, 1, 1]))
        }
        #expect(abs(norm.runningMean!.value.item() - 5) < 4 * 5 * Float.ulpOfOne)
        #expect(norm.batchesTracked!.value.item() == 3)
    }

    @Test func batchNormWithoutStatisticsOrAffine() throws {
        let norm = BatchNorm2d(2, affine: false, trackRunningStats: false)
        #expect(norm.namedState().isEmpty)
        let x = Tensor.arange(16).reshaped([2, 2, 2, 2])
        let trained = try norm(x)
        #expect(try norm.eval()(x).bitEquals(trained))
    }

    @Test func dropoutActsInTrainingOnly() throws {
        let dropout = Dropout(0.25)
        let x = Tensor.ones([1000])
        let kept = try dropout(x).scalars
        #expect(Set(kept) == [0, 1 / 0.75])
        #expect(try dropout.eval()(x).bitEquals(x))
    }

    @Test func flattenJoinsTheChosenAxes() throws {
        let x = Tensor.ones([2, 3, 4, 5])
        #expect(try Flatten()(x).shape == [2, 60])
        #expect(try Flatten(startAxis: 1, endAxis: 2)(x).shape == [2, 12, 5])
        #expect(try Flatten(startAxis: 0)(x).shape == [120])
        #expect(throws: ModuleError.self) { try Flatten(startAxis: 2)(.ones([3, 3])) }
    }

    @Test func poolingLayersUseTheirSettings() throws {
        let x = Tensor.arange(16).reshaped([1, 1, 4, 4])
        #expect(try MaxPool2d(2)(x).scalars == [5, 7, 13, 15])
        #expect(try MaxPool2d(kernelSize: 2, stride: 1)(x).shape == [1, 1, 3, 3])
        #expect(try AvgPool2d(2)(x).scalars == [2.5, 4.5, 10.5, 12.5])
        #expect(try AdaptiveAvgPool2d(1)(x).scalars == [7.5])
        #expect(try AdaptiveAvgPool2d(2)(x.reshaped([1, 4, 4])).shape == [1, 2, 2])
        #expect(throws: ModuleError.self) { try MaxPool2d(2)(.ones([4, 4])) }
    }

    @Test func activationsAndLosses() throws {
        #expect(try ReLU()(Tensor([-1, 0, 7])).scalars == [0, 0, 7])
        #expect(try ReLU6()(Tensor([-1, 3, 7])).scalars == [0, 3, 6])
        #expect(try MSELoss()(Tensor([1, 2]), Tensor([3, 2])).item() == 2)
        #expect(try MSELoss(reduction: .sum)(Tensor([1, 2]), Tensor([3, 2])).item() == 4)
        let loss = try CrossEntropyLoss(reduction: .none)(.zeros([2, 4]), [0, 3]).scalars
        #expect(loss.allSatisfy { abs($0 - 1.3862944) < 4e-7 })
        let error = #expect(throws: ModuleError.self) { try MSELoss()(Tensor([1, 2]), Tensor([1])) }
        #expect("\(try #require(error))".hasPrefix("MSELoss: mseLoss: "))
    }
}

@Suite struct ModuleCopyTests {
    @Test func aCopyHasTheStateAndIsIndependent() throws {
        let net = Net()
        try net(.randn([2, 1, 4, 4])).sum().backward()
        try net.stem.weight.freeze(at: [0, 0, 1, 1], to: 1)
        net.layer1[0].conv1.weight.requiresGrad = false
        net.layer1[1].eval()
        net.stem.registerForwardPreHook { _, _ in nil }

        let copy = try net.copied(by: { Net() })
        for (a, b) in zip(net.namedState(), copy.namedState()) {
            #expect(a.name == b.name && a.value.bitEquals(b.value), "\(a.name)")
        }
        #expect(net.modules().map(\.training) == copy.modules().map(\.training))
        #expect(!copy.layer1[0].conv1.weight.requiresGrad)
        #expect(copy.stem.weight.grad == nil && copy.stem.hooks == nil)

        copy.stem.weight.value = .zeros([2, 1, 3, 3])
        #expect(copy.stem.weight[element: 0, 0, 1, 1] == 1)
        #expect(net.stem.weight[element: 0, 0, 0, 0] != 0)
        copy.stem.weight.thaw()
        #expect(try net.stem.weight.isFrozen(0, 0, 1, 1))
    }

    @Test func aCopyTakesNoRandomNumbers() async {
        // In a process of its own: tests share the default generator.
        await #expect(processExitsWith: .success) {
            let net = Linear(2, 2)
            let state = Generator.default.state
            let copy = try net.copied(by: { Linear(2, 2) })
            precondition(Generator.default.state == state && copy.weight.value.bitEquals(net.weight.value))
        }
    }

    @Test func aDifferentStructureIsRefused() throws {
        let other = #expect(throws: ModuleError.self) { try Linear(2, 2).copied(by: { Linear(2, 2, bias: false) }) }
        #expect("\(try #require(other))" == "Linear: the module made for a copy differs in its state: bias")
        let shape = #expect(throws: ModuleError.self) { try Linear(2, 2).copied(by: { Linear(2, 3) }) }
        #expect(
            "\(try #require(shape))" == "Linear: the module made for a copy has a weight of shape [3, 2], not [2, 2]")
    }
}
