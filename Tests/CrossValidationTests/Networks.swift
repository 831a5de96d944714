import Permafrost

/// A network of the tests that `peers/networks.py` has too, with the same names for the same parameters.
enum NetworkKind: String, CaseIterable {
    case lenet, resnet18, depthwise

    var imageShape: [Int] {
        switch self {
        case .lenet: [1, 28, 28]
        case .resnet18: [3, 64, 64]
        case .depthwise: [3, 32, 32]
        }
    }

    /// - Parameter epsilon: of the batch normalisations.
    func make(epsilon: Float = 1e-5) -> Module {
        switch self {
        case .lenet: LeNet()
        case .resnet18: ResNet18(epsilon: epsilon)
        case .depthwise: DepthwiseNet(epsilon: epsilon)
        }
    }
}

/// LeNet-5 as it is built today.
private final class LeNet: Module {
    let conv1 = Conv2d(1, 6, 5, padding: 2)
    let conv2 = Conv2d(6, 16, 5)
    let fc1 = Linear(400, 120)
    let fc2 = Linear(120, 84)
    let fc3 = Linear(84, 10)

    override func forward(_ images: Tensor) throws -> Tensor {
        var x = try maxPool2d(conv1(images).relu(), kernelSize: 2)
        x = try maxPool2d(conv2(x).relu(), kernelSize: 2)
        return try fc3(fc2(fc1(x.flattened(startAxis: 1)).relu()).relu())
    }
}

/// Two 3x3 convolutions beside a shortcut.
private final class BasicBlock: Module {
    let conv1: Conv2d
    let bn1: BatchNorm2d
    let conv2: Conv2d
    let bn2: BatchNorm2d
    let downsample: Sequential?

    init(_ inputs: Int, _ outputs: Int, stride: Pair, epsilon: Float) {
        conv1 = Conv2d(inputs, outputs, 3, stride: stride, padding: 1, bias: false)
        bn1 = BatchNorm2d(outputs, epsilon: epsilon)
        conv2 = Conv2d(outputs, outputs, 3, padding: 1, bias: false)
        bn2 = BatchNorm2d(outputs, epsilon: epsilon)
        downsample =
            inputs == outputs
            ? nil
            : Sequential(
                Conv2d(inputs, outputs, 1, stride: stride, bias: false), BatchNorm2d(outputs, epsilon: epsilon))
        super.init()
    }

    override func forward(_ x: Tensor) throws -> Tensor {
        let shortcut = try downsample?(x) ?? x
        return try (bn2(conv2(bn1(conv1(x)).relu())) + shortcut).relu()
    }
}

/// ResNet-18 (He et al., 2016) with ten classes and the widely used names.
private final class ResNet18: Module {
    let conv1 = Conv2d(3, 64, 7, stride: 2, padding: 3, bias: false)
    let bn1: BatchNorm2d
    let maxpool = MaxPool2d(3, stride: 2, padding: 1)
    let layer1: Sequential
    let layer2: Sequential
    let layer3: Sequential
    let layer4: Sequential
    let avgpool = AdaptiveAvgPool2d(1)
    let fc = Linear(512, 10)

    init(epsilon: Float) {
        func layer(_ inputs: Int, _ outputs: Int, stride: Pair = 2) -> Sequential {
            Sequential(
                BasicBlock(inputs, outputs, stride: stride, epsilon: epsilon),
                BasicBlock(outputs, outputs, stride: 1, epsilon: epsilon))
        }
        bn1 = BatchNorm2d(64, epsilon: epsilon)
        layer1 = layer(64, 64, stride: 1)
        layer2 = layer(64, 128)
        layer3 = layer(128, 256)
        layer4 = layer(256, 512)
        super.init()
    }

    override func forward(_ images: Tensor) throws -> Tensor {
        let x = try maxpool(bn1(conv1(images)).relu())
        return try fc(avgpool(layer4(layer3(layer2(layer1(x))))).flattened(startAxis: 1))
    }
}

private func convolution(
    _ inputs: Int, _ outputs: Int, kernel: Int, stride: Pair = 1, groups: Int = 1, epsilon: Float
) -> Sequential {
    let padding = Padding(kernel / 2)
    return Sequential(
        Conv2d(inputs, outputs, Pair(kernel), stride: stride, padding: padding, groups: groups, bias: false),
        BatchNorm2d(outputs, epsilon: epsilon), ReLU6())
}

/// 1x1 to more channels, 3x3 on each channel alone, 1x1 to fewer; a shortcut where the shapes agree.
private final class InvertedResidual: Module {
    let conv: Sequential
    private let hasShortcut: Bool

    init(_ inputs: Int, _ outputs: Int, stride: Pair = 1, expansion: Int, epsilon: Float) {
        let hidden = inputs * expansion
        conv = Sequential(
            convolution(inputs, hidden, kernel: 1, epsilon: epsilon),
            convolution(hidden, hidden, kernel: 3, stride: stride, groups: hidden, epsilon: epsilon),
            Conv2d(hidden, outputs, 1, bias: false), BatchNorm2d(outputs, epsilon: epsilon))
        hasShortcut = stride == 1 && inputs == outputs
        super.init()
    }

    override func forward(_ x: Tensor) throws -> Tensor {
        try hasShortcut ? x + conv(x) : conv(x)
    }
}

/// A small MobileNetV2 (Sandler et al., 2018).
private final class DepthwiseNet: Module {
    let features: Sequential
    let avgpool = AdaptiveAvgPool2d(1)
    let classifier = Sequential(Dropout(0.2), Linear(128, 10))

    init(epsilon: Float) {
        features = Sequential(
            convolution(3, 16, kernel: 3, stride: 2, epsilon: epsilon),
            InvertedResidual(16, 24, expansion: 2, epsilon: epsilon),
            InvertedResidual(24, 24, expansion: 4, epsilon: epsilon),
            InvertedResidual(24, 32, stride: 2, expansion: 4, epsilon: epsilon),
            InvertedResidual(32, 32, expansion: 4, epsilon: epsilon),
            convolution(32, 128, kernel: 1, epsilon: epsilon))
        super.init()
    }

    override func forward(_ images: Tensor) throws -> Tensor {
        try classifier(avgpool(features(images)).flattened(startAxis: 1))
    }
}
