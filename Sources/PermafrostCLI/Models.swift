import ArgumentParser
import Permafrost

enum ModelName: String, CaseIterable, Codable, ExpressibleByArgument {
    case cnn, lenet, resnet20

    /// A new network for images of channels x height x width, its weights drawn from the default generator.
    func make(imageShape: Shape, classCount: Int) throws -> Module {
        let size = min(imageShape[1], imageShape[2])
        let smallest = self == .lenet ? 12 : 4
        guard size >= smallest else {
            throw Failure(
                "the model \(rawValue) needs images of at least \(smallest)x\(smallest) pixels, "
                    + "and these have \(imageShape[1])x\(imageShape[2])")
        }
        return switch self {
        case .cnn: SmallCNN(imageShape: imageShape, classCount: classCount)
        case .lenet: LeNet(imageShape: imageShape, classCount: classCount)
        case .resnet20: ResNet20(channels: imageShape[0], classCount: classCount)
        }
    }
}

/// Two 3x3 convolutions and two fully connected layers, with dropout between these. Images of 16x16 or more are halved
/// after each convolution, smaller ones after the second, and have half the channels.
final class SmallCNN: Module {
    let conv1: Conv2d
    let conv2: Conv2d
    let fc1: Linear
    let dropout = Dropout(0.25)
    let fc2: Linear
    private let halvesTwice: Bool

    init(imageShape: Shape, classCount: Int) {
        halvesTwice = min(imageShape[1], imageShape[2]) >= 16
        let width = halvesTwice ? 32 : 16
        let reduction = halvesTwice ? 4 : 2
        conv1 = Conv2d(imageShape[0], width, 3, padding: 1)
        conv2 = Conv2d(width, 2 * width, 3, padding: 1)
        fc1 = Linear(2 * width * (imageShape[1] / reduction) * (imageShape[2] / reduction), 4 * width)
        fc2 = Linear(4 * width, classCount)
        super.init()
    }

    override func forward(_ images: Tensor) throws -> Tensor {
        var x = try conv1(images).relu()
        if halvesTwice { x = try maxPool2d(x, kernelSize: 2) }
        x = try maxPool2d(conv2(x).relu(), kernelSize: 2)
        return try fc2(dropout(fc1(x.flattened(startAxis: 1)).relu()))
    }
}

/// LeNet-5 (LeCun et al., 1998) as it is built today: ReLU and max pooling, images padded by 2.
final class LeNet: Module {
    let conv1: Conv2d
    let conv2: Conv2d
    let fc1: Linear
    let fc2 = Linear(120, 84)
    let fc3: Linear

    init(imageShape: Shape, classCount: Int) {
        conv1 = Conv2d(imageShape[0], 6, 5, padding: 2)
        conv2 = Conv2d(6, 16, 5)
        fc1 = Linear(16 * ((imageShape[1] / 2 - 4) / 2) * ((imageShape[2] / 2 - 4) / 2), 120)
        fc3 = Linear(84, classCount)
        super.init()
    }

    override func forward(_ images: Tensor) throws -> Tensor {
        var x = try maxPool2d(conv1(images).relu(), kernelSize: 2)
        x = try maxPool2d(conv2(x).relu(), kernelSize: 2)
        return try fc3(fc2(fc1(x.flattened(startAxis: 1)).relu()).relu())
    }
}

/// The residual network with 20 layers for small images of He et al. (2016); where the size changes the shortcut is a
/// 1x1 convolution (their option B).
final class ResNet20: Module {
    let conv1: Conv2d
    let bn1 = BatchNorm2d(16)
    let layer1 = ResNet20.stage(16, 16, stride: 1)
    let layer2 = ResNet20.stage(16, 32, stride: 2)
    let layer3 = ResNet20.stage(32, 64, stride: 2)
    let fc: Linear

    init(channels: Int, classCount: Int) {
        conv1 = Conv2d(channels, 16, 3, padding: 1, bias: false)
        fc = Linear(64, classCount)
        super.init()
    }

    private static func stage(_ inputs: Int, _ outputs: Int, stride: Pair) -> Sequential {
        Sequential(
            ResidualBlock(inputs, outputs, stride: stride), ResidualBlock(outputs, outputs),
            ResidualBlock(outputs, outputs))
    }

    override func forward(_ images: Tensor) throws -> Tensor {
        let x = try bn1(conv1(images)).relu()
        return try fc(layer3(layer2(layer1(x))).mean(axes: [2, 3]))
    }
}

/// Two 3x3 convolutions beside a shortcut.
final class ResidualBlock: Module {
    let conv1: Conv2d
    let bn1: BatchNorm2d
    let conv2: Conv2d
    let bn2: BatchNorm2d
    let downsample: Sequential?

    init(_ inputs: Int, _ outputs: Int, stride: Pair = 1) {
        conv1 = Conv2d(inputs, outputs, 3, stride: stride, padding: 1, bias: false)
        bn1 = BatchNorm2d(outputs)
        conv2 = Conv2d(outputs, outputs, 3, padding: 1, bias: false)
        bn2 = BatchNorm2d(outputs)
        downsample = inputs == outputs
            ? nil : Sequential(Conv2d(inputs, outputs, 1, stride: stride, bias: false), BatchNorm2d(outputs))
        super.init()
    }

    override func forward(_ input: Tensor) throws -> Tensor {
        let shortcut = try downsample?(input) ?? input
        return try (bn2(conv2(bn1(conv1(input)).relu())) + shortcut).relu()
    }
}
