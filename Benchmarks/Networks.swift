import Permafrost

/// The networks whose training steps are timed; `peers/train.py` has the same with the same names.
enum NetworkName: String, CaseIterable, Codable {
    case twoConv = "two-conv"
    case resNet20 = "resnet20"
    case resNet18 = "resnet18"
    case mobileNetV2 = "mobilenetv2"

    var imageShape: [Int] { self == .twoConv ? [1, 28, 28] : [3, 32, 32] }

    /// The batches of the published comparison.
    var batches: [Int] {
        switch self {
        case .twoConv: [16, 128]
        case .resNet20: [128]
        case .resNet18: [32]
        case .mobileNetV2: [64]
        }
    }

    func make() -> Module {
        switch self {
        case .twoConv: TwoConv()
        case .resNet20: ResNet(widths: [16, 32, 64], depth: 3)
        case .resNet18: ResNet(widths: [64, 128, 256, 512], depth: 2)
        case .mobileNetV2: MobileNetV2()
        }
    }
}

private final class TwoConv: Module {
    let conv1 = Conv2d(1, 32, 3, padding: 1)
    let conv2 = Conv2d(32, 64, 3, padding: 1)
    let fc1 = Linear(64 * 7 * 7, 128)
    let fc2 = Linear(128, 10)

    override func forward(_ images: Tensor) throws -> Tensor {
        var x = try maxPool2d(conv1(images).relu(), kernelSize: 2)
        x = try maxPool2d(conv2(x).relu(), kernelSize: 2)
        return try fc2(fc1(x.flattened(startAxis: 1)).relu())
    }
}

/// A residual network for small images (He et al., 2016), of basic blocks.
private final class ResNet: Module {
    let conv1: Conv2d
    let bn1: BatchNorm2d
    let layers: Sequential
    let fc: Linear

    init(widths: [Int], depth: Int) {
        conv1 = Conv2d(3, widths[0], 3, padding: 1, bias: false)
        bn1 = BatchNorm2d(widths[0])
        var inputs = widths[0]
        layers = Sequential(
            widths.enumerated().map { stage, width in
                Sequential(
                    (0..<depth).map { position in
                        defer { inputs = width }
                        return BasicBlock(inputs, width, stride: position == 0 && stage > 0 ? 2 : 1)
                    })
            })
        fc = Linear(widths.last!, 10)
        super.init()
    }

    override func forward(_ images: Tensor) throws -> Tensor {
        try fc(layers(bn1(conv1(images)).relu()).mean(axes: [2, 3]))
    }
}

private final class BasicBlock: Module {
    let conv1: Conv2d
    let bn1: BatchNorm2d
    let conv2: Conv2d
    let bn2: BatchNorm2d
    let downsample: Sequential?

    init(_ inputs: Int, _ outputs: Int, stride: Int) {
        conv1 = Conv2d(inputs, outputs, 3, stride: Pair(stride), padding: 1, bias: false)
        bn1 = BatchNorm2d(outputs)
        conv2 = Conv2d(outputs, outputs, 3, padding: 1, bias: false)
        bn2 = BatchNorm2d(outputs)
        downsample =
            stride != 1 || inputs != outputs
            ? Sequential(Conv2d(inputs, outputs, 1, stride: Pair(stride), bias: false), BatchNorm2d(outputs)) : nil
        super.init()
    }

    override func forward(_ input: Tensor) throws -> Tensor {
        let x = try bn2(conv2(bn1(conv1(input)).relu()))
        return try (x + (downsample?(input) ?? input)).relu()
    }
}

/// MobileNetV2 (Sandler et al., 2018) for small images: the stem and the first stages keep the size.
private final class MobileNetV2: Module {
    let stem = Sequential(Conv2d(3, 32, 3, padding: 1, bias: false), BatchNorm2d(32), ReLU6())
    let blocks: Sequential
    let head = Sequential(Conv2d(320, 1280, 1, bias: false), BatchNorm2d(1280), ReLU6())
    let fc = Linear(1280, 10)

    override init() {
        let stages = [
            (1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
        ]
        var inputs = 32
        blocks = Sequential(
            stages.flatMap { expansion, outputs, count, stride in
                (0..<count).map { position in
                    defer { inputs = outputs }
                    return InvertedResidual(
                        inputs, outputs, stride: position == 0 ? stride : 1, expansion: expansion)
                }
            })
        super.init()
    }

    override func forward(_ images: Tensor) throws -> Tensor {
        try fc(head(blocks(stem(images))).mean(axes: [2, 3]))
    }
}

private final class InvertedResidual: Module {
    let expand: Sequential?
    let filter: Sequential
    let project: Sequential
    private let hasShortcut: Bool

    init(_ inputs: Int, _ outputs: Int, stride: Int, expansion: Int) {
        let hidden = inputs * expansion
        expand =
            expansion != 1
            ? Sequential(Conv2d(inputs, hidden, 1, bias: false), BatchNorm2d(hidden), ReLU6()) : nil
        filter = Sequential(
            Conv2d(hidden, hidden, 3, stride: Pair(stride), padding: 1, groups: hidden, bias: false),
            BatchNorm2d(hidden), ReLU6())
        project = Sequential(Conv2d(hidden, outputs, 1, bias: false), BatchNorm2d(outputs))
        hasShortcut = stride == 1 && inputs == outputs
        super.init()
    }

    override func forward(_ input: Tensor) throws -> Tensor {
        let x = try project(filter(expand?(input) ?? input))
        return hasShortcut ? input + x : x
    }
}
