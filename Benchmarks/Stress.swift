import Foundation
import Permafrost

/// Trains random networks under random optimizers while elements are frozen, thawed and frozen again at random times,
/// copied, and resumed from checkpoints, and compares the bits of every element that ought to be frozen after every
/// step.
///
/// What ought to be frozen is kept here, apart from the library's own account of it.
struct Stress {
    struct Counts: Encodable {
        var elementSteps = 0
        var changedBits = 0
        var nonzeroGradients = 0, nonzeroStates = 0
        var networks = 0, steps = 0, freezes = 0, conflicts = 0, thaws = 0, copies = 0, resumes = 0

        enum CodingKeys: String, CodingKey {
            case elementSteps = "element_steps"
            case changedBits = "changed_bits"
            case nonzeroGradients = "nonzero_gradients"
            case nonzeroStates = "nonzero_states"
            case networks, steps, freezes, conflicts, thaws, copies, resumes
        }
    }

    private(set) var counts = Counts()
    /// The first element that was found with other bits, and when.
    private(set) var firstFailure: String?
    private let seed: UInt64
    private let random: Generator
    /// Where trainings leave the checkpoint that they go on from.
    private var checkpoint = ""

    init(seed: UInt64) {
        self.seed = seed
        random = Generator(seed: seed)
    }

    /// Trains networks until so many element-steps have been compared. Checkpoints come and go in a temporary folder.
    mutating func run(elementSteps: Int) throws {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("permafrost-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        checkpoint = folder.appendingPathComponent("checkpoint.safetensors").path
        // What networks initialise themselves with.
        manualSeed(seed)
        while counts.elementSteps < elementSteps {
            counts.networks += 1
            try trainOne()
        }
    }

    // MARK: - One network

    /// A freeze as it was asked for: the parameter's position, and the bits that its elements must have.
    private struct Held {
        let handle: FreezeHandle
        let parameter: Int
        var bits: [Int: UInt32]
    }

    private mutating func trainOne() throws {
        let shape = NetworkShape(random)
        var net = StressNetwork(shape)
        let rule = Rule(random)
        var optimizer = try rule.optimizer(of: net.parameters())
        let input = Tensor.randn([2 + below(3), shape.channels, shape.size, shape.size], generator: random)
        let target = Tensor.randn([input.shape[0], shape.classes], generator: random)
        var held: [Held] = []
        for _ in 0..<(60 + below(60)) {
            if held.isEmpty || below(8) == 0 { try freeze(net, &held) }
            if below(24) == 0 { try thaw(net, &held) }
            switch below(80) {
            case 0: (net, optimizer) = try copied(net, optimizer, shape, rule, &held)
            case 1: (net, optimizer) = try resumed(net, optimizer, shape, rule, &held)
            default: break
            }
            try step(net, optimizer, input, target)
            counts.steps += 1
            compare(net.parameters(), optimizer, held)
        }
    }

    private func below(_ bound: Int) -> Int { Int(random.integer(below: UInt32(bound))) }

    private func step(_ net: StressNetwork, _ optimizer: Optimizer, _ input: Tensor, _ target: Tensor) throws {
        optimizer.zeroGrad(setToNil: below(2) == 0)
        try mseLoss(net(input), target).backward()
        switch below(6) {
        case 0: _ = try clipGradNorm(net.parameters(), maxNorm: 0.5)
        case 1:
            // What a user's code might do to a gradient or a value.
            let parameter = net.parameters()[below(net.parameters().count)]
            if let gradient = parameter.grad { parameter.grad = gradient + 1 }
        case 2:
            let parameter = net.parameters()[below(net.parameters().count)]
            parameter.value = parameter.value * 0.5
        default: break
        }
        try optimizer.step()
    }

    /// Freezes a random selection of a random parameter, at a value or where it is, by a random route.
    private mutating func freeze(_ net: StressNetwork, _ held: inout [Held]) throws {
        let position = below(net.parameters().count)
        let parameter = net.parameters()[position]
        let route: FreezeRoute = below(2) == 0 ? .mask : .callback
        let offsets: [Int]
        switch below(4) {
        case 0: offsets = Array(0..<parameter.count)
        case 1: offsets = (0..<parameter.count).filter { _ in below(2) == 0 }
        case 2:
            let first = below(parameter.count)
            offsets = Array(first..<min(parameter.count, first + 1 + below(64)))
        default: offsets = [below(parameter.count)]
        }
        guard !offsets.isEmpty else { return }
        let chosen = Set(offsets)
        let selection = ElementSelection.ones(
            in: Tensor((0..<parameter.count).map { chosen.contains($0) ? 1 : 0 }, shape: parameter.shape))
        let value: Float? = below(2) == 0 ? Float(below(9)) - 4 : nil
        do {
            let handle = try parameter.freeze(selection, to: value, route: route)
            counts.freezes += 1
            let present = parameter.value.scalars
            let bits = Dictionary(
                uniqueKeysWithValues: offsets.map { ($0, (value ?? present[$0]).bitPattern) })
            held.append(Held(handle: handle, parameter: position, bits: bits))
        } catch is FreezeError {
            // Another freeze holds one of them at another value. Nothing may have happened: the next comparison shows.
            counts.conflicts += 1
        }
    }

    private mutating func thaw(_ net: StressNetwork, _ held: inout [Held]) throws {
        guard !held.isEmpty else { return }
        let position = below(held.count)
        if below(2) == 0 {
            held.remove(at: position).handle.remove()
        } else {
            let parameter = held[position].parameter
            try net.parameters()[parameter].thaw(.all)
            held.removeAll { $0.parameter == parameter }
        }
        counts.thaws += 1
    }

    /// Training goes on with a copy of the network and a new optimizer that took over the old one's state.
    private mutating func copied(
        _ net: StressNetwork, _ optimizer: Optimizer, _ shape: NetworkShape, _ rule: Rule, _ held: inout [Held]
    ) throws -> (StressNetwork, Optimizer) {
        let copy = try net.copied(by: { StressNetwork(shape) })
        let next = try rule.optimizer(of: copy.parameters())
        try next.load(stateDictionary: optimizer.stateDictionary())
        takeHandles(of: copy, &held)
        counts.copies += 1
        return (copy, next)
    }

    /// Training goes on with a network and an optimizer made anew, from a checkpoint that was written to a file and
    /// read back.
    private mutating func resumed(
        _ net: StressNetwork, _ optimizer: Optimizer, _ shape: NetworkShape, _ rule: Rule, _ held: inout [Held]
    ) throws -> (StressNetwork, Optimizer) {
        try Checkpoint(of: net, optimizer: optimizer).write(to: checkpoint)
        let new = StressNetwork(shape), next = try rule.optimizer(of: new.parameters())
        try Checkpoint.read(checkpoint).restore(new, optimizer: next)
        takeHandles(of: new, &held)
        counts.resumes += 1
        return (new, next)
    }

    /// The freezes of a network that took over another's state, in place of the other's.
    private func takeHandles(of net: StressNetwork, _ held: inout [Held]) {
        var handles = net.parameters().map { $0.freezes[...] }
        held = held.map { old in
            Held(handle: handles[old.parameter].removeFirst(), parameter: old.parameter, bits: old.bits)
        }
    }

    private mutating func compare(_ parameters: [Parameter], _ optimizer: Optimizer, _ held: [Held]) {
        for freeze in held {
            let parameter = parameters[freeze.parameter]
            parameter.value.withUnsafeBufferPointer { values in
                for (offset, bits) in freeze.bits {
                    let difference = values[offset].bitPattern ^ bits
                    counts.changedBits += difference.nonzeroBitCount
                    if difference != 0 && firstFailure == nil {
                        firstFailure =
                            "seed \(seed), network \(counts.networks), step \(counts.steps): element \(offset) of "
                            + "\(parameter.name ?? "a parameter") is \(values[offset]), not \(Float(bitPattern: bits))"
                    }
                }
            }
            func nonzero(_ tensor: Tensor?) -> Int {
                tensor?.withUnsafeBufferPointer { elements in
                    freeze.bits.keys.count { elements[$0].bitPattern != 0 }
                } ?? 0
            }
            counts.nonzeroGradients += nonzero(parameter.grad)
            for buffer in optimizer.state(of: parameter)?.buffers ?? [] { counts.nonzeroStates += nonzero(buffer) }
            counts.elementSteps += freeze.bits.count
        }
    }
}

// MARK: - Random networks

/// The sizes of a network: an optional normalisation, a grouped or plain second convolution.
private struct NetworkShape {
    let channels, width, size, classes, kernel, groups: Int
    let normalises: Bool

    init(_ random: Generator) {
        func below(_ bound: Int) -> Int { Int(random.integer(below: UInt32(bound))) }
        channels = 1 + below(4)
        width = 4 * (1 + below(6))
        size = 6 + below(6)
        classes = 2 + below(8)
        kernel = [1, 3, 5][below(3)]
        groups = [1, 2, 4, width][below(4)]
        normalises = below(2) == 0
    }
}

private final class StressNetwork: Module {
    let conv1: Conv2d
    let bn: BatchNorm2d?
    let conv2: Conv2d
    let fc: Linear

    init(_ shape: NetworkShape) {
        conv1 = Conv2d(shape.channels, shape.width, Pair(shape.kernel), padding: Padding(shape.kernel / 2))
        bn = shape.normalises ? BatchNorm2d(shape.width) : nil
        conv2 = Conv2d(shape.width, shape.width, 3, padding: 1, groups: shape.groups)
        fc = Linear(shape.width, shape.classes)
        super.init()
    }

    override func forward(_ images: Tensor) throws -> Tensor {
        var x = try conv1(images)
        if let bn { x = try bn(x) }
        x = try conv2(x.relu()).relu()
        return try fc(adaptiveAvgPool2d(x, outputSize: 1).flattened(startAxis: 1))
    }
}

/// An optimizer and its settings.
private struct Rule {
    private let kind: Int
    private let rate, momentum, decay: Double
    private let variant: Bool

    init(_ random: Generator) {
        func below(_ bound: Int) -> Int { Int(random.integer(below: UInt32(bound))) }
        kind = below(5)
        rate = [0.001, 0.01, 0.05][below(3)]
        momentum = [0, 0.5, 0.9][below(3)]
        decay = [0, 0.01, 0.1][below(3)]
        variant = below(2) == 0
    }

    func optimizer(of parameters: [Parameter]) throws -> Optimizer {
        switch kind {
        case 0:
            try SGD(
                parameters: parameters, learningRate: rate, momentum: momentum, weightDecay: decay,
                nesterov: variant && momentum > 0)
        case 1: try Adam(parameters: parameters, learningRate: rate, weightDecay: decay, amsgrad: variant)
        case 2: try AdamW(parameters: parameters, learningRate: rate, weightDecay: decay, amsgrad: variant)
        case 3:
            try RMSprop(
                parameters: parameters, learningRate: rate / 10, weightDecay: decay, momentum: momentum,
                centered: variant)
        default: try Adagrad(parameters: parameters, learningRate: rate, weightDecay: decay)
        }
    }
}
