import ArgumentParser
import CKernels
import Foundation
import Permafrost

/// What is asked of the process that trains: this program's worker, or PyTorch's (`peers/train.py`).
struct TrainRequest: Codable {
    enum Operation: String, Codable { case load, train, memory }

    let op: Operation
    /// load: the network, its weights and batch as files in the folder, and how to run it.
    var network: NetworkName?
    var folder: String?
    var batch, threads: Int?
    var layout: Layout?
    /// train: how many steps.
    var repetitions: Int?
}

struct TrainAnswer: Codable {
    /// Of each step.
    var seconds, losses: [Double]?
    /// The peak resident size less the resident size when the network had been built.
    var bytes: Int?
    /// How many blocks the steps after the third took from the system; only this library's worker knows.
    var misses: Int?
}

/// Answers `TrainRequest`s on standard input with this library.
struct TrainWorkerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "train-worker", abstract: "The process that train measures.", shouldDisplay: false)

    func run() throws {
        var loaded: LoadedTraining?
        try serve { (request: TrainRequest) in
            switch request.op {
            case .load:
                loaded = nil
                loaded = try LoadedTraining(request)
                return TrainAnswer()
            case .train:
                guard let loaded else { throw Failure("no network was loaded") }
                return try loaded.train(steps: request.repetitions ?? 1)
            case .memory:
                guard let loaded else { throw Failure("no network was loaded") }
                return TrainAnswer(
                    bytes: peakResidentBytes() - loaded.residentBytes, misses: loaded.arenaMisses)
            }
        }
    }
}

private final class LoadedTraining {
    private let network: Module
    private let optimizer: Optimizer
    private let images: Tensor
    private let labels: [Int32]
    let residentBytes: Int
    private var steps = 0
    private var allocationsAtFirst: UInt64 = 0

    /// Blocks that came from the system after the third step.
    var arenaMisses: Int { Int(pf_memory_read_statistics().system_allocations - allocationsAtFirst) }

    init(_ request: TrainRequest) throws {
        guard let name = request.network, let folder = request.folder, let batch = request.batch else {
            throw Failure("load needs a network, a folder and a batch")
        }
        ExecutionContext.default.threads = request.threads ?? 0
        network = name.make()
        try network.load(stateDictionary: StateDictionary(Safetensors.read("\(folder)/weights.safetensors")))
        optimizer = try SGD(parameters: network.parameters(), learningRate: 0.01, momentum: 0.9)
        images = Tensor(try elements("\(folder)/images.f32", of: Float.self), shape: Shape([batch] + name.imageShape))
        labels = try elements("\(folder)/labels.i32", of: Int32.self)
        residentBytes = currentResidentBytes()
    }

    func train(steps: Int) throws -> TrainAnswer {
        let clock = ContinuousClock()
        var answer = TrainAnswer(seconds: [], losses: [])
        for _ in 0..<steps {
            let time = try clock.measure {
                optimizer.zeroGrad()
                let loss = try crossEntropy(network(images), labels)
                try loss.backward()
                try optimizer.step()
                answer.losses?.append(Double(loss.item()))
            }
            answer.seconds?.append(time.seconds)
            self.steps += 1
            if self.steps <= 3 { allocationsAtFirst = pf_memory_read_statistics().system_allocations }
        }
        return answer
    }
}

/// The elements of a file that holds nothing else.
private func elements<Element: BitwiseCopyable>(_ path: String, of type: Element.Type) throws -> [Element] {
    try Data(contentsOf: URL(filePath: path)).withUnsafeBytes { Array($0.bindMemory(to: type)) }
}

private func peakResidentBytes() -> Int {
    var usage = rusage()
    #if os(Linux)
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return Int(usage.ru_maxrss) * 1024
    #else
    getrusage(RUSAGE_SELF, &usage)
    return Int(usage.ru_maxrss)
    #endif
}

/// As of now where the system says so; otherwise the peak so far.
private func currentResidentBytes() -> Int {
    guard let fields = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " "),
        fields.count > 1, let pages = Int(fields[1])
    else { return peakResidentBytes() }
    return pages * Int(sysconf(Int32(_SC_PAGESIZE)))
}
