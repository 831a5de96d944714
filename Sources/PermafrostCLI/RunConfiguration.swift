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

enum NumericsName: String, CaseIterable, Codable, ExpressibleByArgument {
    case fast, exact

    var numerics: Numerics { self == .fast ? .fast : .exact }
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
    var route: FreezeMethod
    var seed: UInt64
    var numerics: NumericsName
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

    /// What weights and checkpoints carry so that they can be used without their run: strings, as the format wants.
    var metadata: [String: String] {
        [
            // The mark by which Python's readers know whose conventions the names follow.
            "format": "pt", "permafrost.version": version, "permafrost.dataset": dataset.rawValue,
            "permafrost.model": model.rawValue, "permafrost.seed": String(seed),
            "permafrost.freeze": freeze.joined(separator: ";"), "permafrost.route": route.rawValue,
        ]
    }

    /// The first option whose value is another in `other`, and the value here.
    func difference(from other: RunConfiguration) -> (option: String, value: String)? {
        for (mine, its) in zip(Mirror(reflecting: self).children, Mirror(reflecting: other).children) {
            guard "\(mine.value)" != "\(its.value)", let label = mine.label else { continue }
            let option = label.reduce("") { $0 + ($1.isUppercase ? "-" : "") + $1.lowercased() }
            switch mine.value {
            case let list as [String]: return (option, list.isEmpty ? "none" : list.joined(separator: " "))
            case let name as any RawRepresentable<String>: return (option, name.rawValue)
            case Optional<Any>.none: return (option, "unlimited")
            default: return (option, "\(mine.value)")
            }
        }
        return nil
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
