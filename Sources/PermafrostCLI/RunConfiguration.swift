import ArgumentParser
import Foundation
import Permafrost

enum DatasetName: String, CaseIterable, Codable, ExpressibleByArgument {
    case digits
    case fashionMNIST = "fashion-mnist"
}

enum OptimizerName: String, CaseIterable, Codable, ExpressibleByArgument {
    case sgd, adam, adamw
}

enum ScheduleName: String, CaseIterable, Codable, ExpressibleByArgument {
    case cosine, constant
}

/// All that decides a run's result: with the same configuration, instruction set and data the weights come out the same
/// to the bit. Saved in the run's folder.
struct RunConfiguration: Codable, Equatable {
    var dataset: DatasetName
    /// The folder that the data came from; nil when they are part of the program.
    var data: String?
    var model: ModelName
    var epochs: Int
    /// Training ends after so many steps, if that is sooner than the epochs do.
    var steps: Int?
    var batchSize: Int
    var optimizer: OptimizerName
    var learningRate: Double
    var schedule: ScheduleName
    var momentum: Double
    var nesterov: Bool
    var weightDecay: Double
    var beta1: Double
    var beta2: Double
    var epsilon: Double
    /// As on the command line.
    var freeze: [String]
    var route: String
    var seed: UInt64
    var numerics: String
    var version = PermafrostCommand.version

    func makeOptimizer(for parameters: [Parameter]) throws -> Optimizer {
        switch optimizer {
        case .sgd:
            try SGD(
                parameters: parameters, learningRate: learningRate, momentum: momentum, weightDecay: weightDecay,
                nesterov: nesterov)
        case .adam:
            try Adam(
                parameters: parameters, learningRate: learningRate, betas: (beta1, beta2), epsilon: epsilon,
                weightDecay: weightDecay)
        case .adamw:
            try AdamW(
                parameters: parameters, learningRate: learningRate, betas: (beta1, beta2), epsilon: epsilon,
                weightDecay: weightDecay)
        }
    }
}

extension DatasetName {
    /// channels x height x width
    var imageShape: Shape {
        switch self {
        case .digits: [1, 8, 8]
        case .fashionMNIST: [1, 28, 28]
        }
    }

    var classCount: Int { 10 }

    /// - Throws: `Failure` for a folder with a data set that has none.
    func check(data: String?) throws {
        if self == .digits && data != nil {
            throw Failure("--data is for --dataset fashion-mnist: the digits are part of the program")
        }
    }

    /// - Parameters:
    ///   - folder: with the data set's files; where the system has them when nil.
    ///   - seed: of the digits' split.
    func load(from folder: String?, seed: UInt64) throws -> DatasetSplit {
        switch self {
        case .digits: Digits.split(seed: seed)
        case .fashionMNIST: try FashionMNIST.load(directory: folder ?? FashionMNIST.defaultDirectory)
        }
    }

    func loadTest(from folder: String?, seed: UInt64) throws -> Dataset {
        switch self {
        case .digits: Digits.split(seed: seed).test
        case .fashionMNIST: try FashionMNIST.loadTest(directory: folder ?? FashionMNIST.defaultDirectory)
        }
    }
}
