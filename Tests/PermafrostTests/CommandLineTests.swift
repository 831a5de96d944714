import Foundation
import Testing

@testable import Permafrost

/// What a run of the built program `permafrost` left.
struct Outcome {
    let status: Int32
    let output: String
    let errors: String

    var outputLines: [Substring] { output.split(separator: "\n") }

    /// The last line of standard output as a JSON object.
    var json: [String: Any] {
        let last = Data((outputLines.last ?? "").utf8)
        return (try? JSONSerialization.jsonObject(with: last)) as? [String: Any] ?? [:]
    }
}

/// The program that was built together with the tests lies in the same folder as they do.
private let program: URL = {
    let folders = [Bundle.main.bundleURL, Bundle.main.executableURL?.deletingLastPathComponent()].compactMap { $0 }
        + Bundle.allBundles.map { $0.bundleURL.deletingLastPathComponent() }
    let candidates = folders.map { $0.appendingPathComponent("permafrost") }
    guard let found = candidates.first(where: { FileManager.default.isExecutableFile(atPath: $0.path) }) else {
        fatalError("the program permafrost was not built beside the tests: \(candidates.map(\.path))")
    }
    return found
}()

/// Runs `permafrost` in `folder` and waits for its end.
func permafrost(
    _ arguments: String..., in folder: TemporaryFolder, environment: [String: String] = [:]
) throws -> Outcome {
    try permafrost(arguments, in: folder, environment: environment)
}

/// - Parameter errors: where standard error goes instead of into the outcome.
func permafrost(
    _ arguments: [String], in folder: TemporaryFolder, environment: [String: String] = [:],
    errors: FileHandle? = nil
) throws -> Outcome {
    let process = Process()
    process.executableURL = program
    process.arguments = arguments
    process.currentDirectoryURL = URL(fileURLWithPath: folder.path)
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    // Files, not pipes: whatever comes, nobody waits for anybody.
    let streams = TemporaryFolder()
    let paths = (streams.write([], to: "out"), streams.write([], to: "err"))
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle(forWritingAtPath: paths.0)
    process.standardError = errors ?? FileHandle(forWritingAtPath: paths.1)
    try process.run()
    process.waitUntilExit()
    return Outcome(
        status: process.terminationReason == .exit ? process.terminationStatus : -process.terminationStatus,
        output: String(decoding: contents(of: paths.0), as: UTF8.self),
        errors: String(decoding: contents(of: paths.1), as: UTF8.self))
}

@Suite(.serialized) struct CommandLineTests {
    let folder = TemporaryFolder()

    @Test func trainLeavesARunThatEvalMeasuresAlike() throws {
        let run = try permafrost("train", "--steps", "60", "--out", "run", "--json", in: folder)
        #expect(run.status == 0, "\(run.errors)")
        let json = run.json
        #expect(json["dataset"] as? String == "digits")
        #expect(json["model"] as? String == "cnn")
        #expect(json["steps"] as? Int == 60)
        #expect(json["changed_elements"] as? Int == 0)
        #expect(json["images_per_second"] as? Double ?? 0 > 0)
        #expect(json["training_seconds"] as? Double ?? 0 > 0)
        let accuracy = try #require(json["test_accuracy"] as? Double)
        #expect(accuracy > 0.5 && accuracy <= 1)
        let frozen = try #require((json["frozen"] as? [[String: Any]])?.first)
        #expect(frozen["parameter"] as? String == "conv1.weight")
        #expect(frozen["index"] as? [Int] == [0, 0, 1, 1])
        #expect(frozen["value"] as? Double == 1)
        #expect(frozen["bits_before"] as? String == "0x3f800000")
        #expect(frozen["bits_after"] as? String == "0x3f800000")

        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path("run")).sorted()
            == ["checkpoint.safetensors", "config.json", "metrics.jsonl", "result.json", "weights.safetensors"])
        let weights = try Safetensors.read(folder.path("run/weights.safetensors"))
        #expect(weights.dataDigest == json["weights_sha256"] as? String)
        #expect(weights.tensors["conv1.weight"]!.tensor()![0, 0, 1, 1].item() == 1)
        #expect(weights.tensors.keys.sorted()
            == ["conv1", "conv2", "fc1", "fc2"].flatMap { ["\($0).bias", "\($0).weight"] })
        #expect(String(decoding: contents(of: folder.path("run/result.json")), as: UTF8.self)
            == run.outputLines.last! + "\n")
        let metrics = String(decoding: contents(of: folder.path("run/metrics.jsonl")), as: UTF8.self)
            .split(separator: "\n").map { try? JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any] }
        #expect(metrics.map { $0?["step"] as? Int } == [45, 60])
        #expect(metrics.last??["test_accuracy"] as? Double == accuracy)

        for source in ["run", "run/weights.safetensors"] {
            let eval = try permafrost("eval", source, "--json", in: folder)
            #expect(eval.status == 0, "\(eval.errors)")
            #expect(eval.json["test_accuracy"] as? Double == accuracy)
            #expect(eval.json["weights_sha256"] as? String == json["weights_sha256"] as? String)
        }
    }

    @Test func weightsDependOnTheSeedAndNotOnThreads() throws {
        func digest(_ seed: String, _ threads: String) throws -> String? {
            let run = try permafrost(
                "train", "--steps", "12", "--out", "run", "--overwrite", "--json", "--seed", seed, "--threads", threads,
                in: folder)
            #expect(run.status == 0, "\(run.errors)")
            return run.json["weights_sha256"] as? String
        }
        let first = try #require(try digest("7", "1"))
        for threads in ["1", "2", "3"] { #expect(try digest("7", threads) == first, "\(threads) threads") }
        #expect(try digest("8", "1") != first)
    }

    /// Mask and callback hold under everything; the recipe where a zero gradient does; pin while a forward pass
    /// follows.
    @Test(arguments: [
        ("mask", ["--optimizer", "adamw"], 0, 0, 0), ("callback", ["--optimizer", "adamw"], 0, 0, 0),
        ("mask", ["--weight-decay", "0.1"], 0, 0, 0), ("recipe", [], 0, 0, 0),
        ("recipe", ["--weight-decay", "0.1"], 2, 1, 10), ("recipe", ["--optimizer", "adamw"], 2, 1, 10),
        ("pin", [], 0, 0, 10),
    ])
    func auditSaysWhatARouteHolds(
        route: String, options: [String], status: Int32, changed: Int, movedSteps: Int
    ) throws {
        let arguments = ["train", "--steps", "10", "--route", route, "--json", "--out", "run"] + options
        let run = try permafrost(arguments, in: folder)
        #expect(run.status == status, "\(run.errors)")
        #expect(run.json["changed_elements"] as? Int == changed)
        #expect(run.json["moved_steps"] as? Int == movedSteps)
        #expect(run.json["route"] as? String == route)
        let frozen = try #require((run.json["frozen"] as? [[String: Any]])?.first)
        let weight = try Safetensors.read(folder.path("run/weights.safetensors")).tensors["conv1.weight"]!.tensor()!
        let bits = String(weight[0, 0, 1, 1].item().bitPattern, radix: 16)
        #expect(frozen["bits_after"] as? String == "0x" + bits)
        #expect((frozen["bits_after"] as? String != "0x3f800000") == (changed == 1))
    }

    @Test func severalFreezesAndSlicesAreAllAudited() throws {
        let run = try permafrost(
            "train", "--steps", "3", "--json", "--freeze", "conv2.weight[:,0,1,1]=-1", "--freeze", "fc2.bias",
            "--freeze", "conv2.weight[0,0,...]", in: folder)
        #expect(run.status == 0, "\(run.errors)")
        #expect((run.json["frozen"] as? [Any])?.count == 32 + 10 + 8)
        let none = try permafrost("train", "--steps", "1", "--json", "--freeze", "none", in: folder)
        #expect(none.status == 0 && (none.json["frozen"] as? [Any])?.isEmpty == true)
    }

    @Test func eachRunGetsAFolderAndNoneIsReplacedUnasked() throws {
        for _ in 0..<2 { #expect(try permafrost("train", "--steps", "1", in: folder).status == 0) }
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path("runs")).sorted()
            == ["digits-cnn-1", "digits-cnn-2"])
        let kept = contents(of: folder.path("runs/digits-cnn-1/weights.safetensors"))
        let again = try permafrost("train", "--steps", "2", "--out", "runs/digits-cnn-1", in: folder)
        #expect(again.status == 1)
        #expect(again.errors.hasPrefix("error: 'runs/digits-cnn-1' already holds a run"))
        #expect(contents(of: folder.path("runs/digits-cnn-1/weights.safetensors")) == kept)
        let replaced = try permafrost("train", "--steps", "2", "--out", "runs/digits-cnn-1", "--overwrite", in: folder)
        #expect(replaced.status == 0)
        #expect(contents(of: folder.path("runs/digits-cnn-1/weights.safetensors")) != kept)
    }

    /// Killed again and again, a run that is resumed ends with the same bits, and no checkpoint is unreadable on the
    /// way.
    @Test func killedRunsGoOnToTheSameBits() throws {
        let options = ["--epochs", "2", "--dataset", "digits", "--route", "mask", "--optimizer", "adamw", "--seed", "3"]
        let whole = try permafrost(["train", "--out", "whole", "--json"] + options, in: folder)
        let digest = try #require(whole.json["weights_sha256"] as? String)
        var kills = 0
        while true {
            let process = Process()
            process.executableURL = program
            process.arguments = ["train", "--out", "cut", "--resume", "--checkpoint-every", "3"] + options
            process.currentDirectoryURL = URL(fileURLWithPath: folder.path)
            process.standardOutput = FileHandle.nullDevice
            process.standardError = FileHandle.nullDevice
            try process.run()
            // At first in the middle of things, then with time enough to end.
            if kills < 8 { usleep(UInt32.random(in: 50_000...400_000)) } else { process.waitUntilExit() }
            guard process.isRunning else { break }
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
            kills += 1
            let checkpoint = folder.path("cut/checkpoint.safetensors")
            if FileManager.default.fileExists(atPath: checkpoint) { _ = try Checkpoint.read(checkpoint) }
        }
        let end = try permafrost("train", "--out", "cut", "--resume", "--json", in: folder)
        #expect(end.status == 0 && end.json["weights_sha256"] as? String == digest, "\(kills) kills: \(end.errors)")
        #expect(end.json["steps"] as? Int == 90)
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path("cut")).sorted()
            == ["checkpoint.safetensors", "config.json", "metrics.jsonl", "result.json", "weights.safetensors"])
        func metrics(_ run: String) throws -> [Double?] {
            let lines = try String(contentsOfFile: folder.path("\(run)/metrics.jsonl"), encoding: .utf8)
            return try lines.split(separator: "\n").map {
                (try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])?["train_loss"] as? Double
            }
        }
        #expect(try metrics("cut") == metrics("whole"))
    }

    @Test func resumeRefusesOtherOptionsAndDamagedCheckpoints() throws {
        let none = try permafrost("train", "--resume", in: folder)
        #expect(none.status == 1 && none.errors == "error: there is no run under runs to go on with\n")
        #expect(try permafrost("train", "--epochs", "2", "--steps", "50", in: folder).status == 0)
        let before = contents(of: folder.path("runs/digits-cnn-1/metrics.jsonl"))
        for (arguments, expected) in [
            (["--epochs", "3"], "was begun with epochs 2; leave --epochs out"),
            (["--batch-size", "8"], "was begun with batch-size 32"),
            (["--freeze", "none"], "was begun with freeze conv1.weight[0,0,1,1]=1"),
            (["--optimizer", "adam"], "was begun with optimizer sgd"),
            (["--overwrite", "--out", "x"], "--resume goes on with a run and --overwrite replaces it"),
        ] {
            let outcome = try permafrost(["train", "--resume"] + arguments, in: folder)
            #expect(outcome.status == 1 && outcome.errors.contains(expected), "\(arguments): \(outcome.errors)")
        }
        let path = folder.path("runs/digits-cnn-1/checkpoint.safetensors")
        let good = try Checkpoint.read(path), place = try #require(good.values["training"])
        for (right, wrong) in [
            ("\"step\":50", "\"step\":-50"), ("\"step\":50", "\"step\":49"), ("\"epoch\":2", "\"epoch\":-2"),
            ("\"epoch\":2", "\"epoch\":3"), ("\"batch\":0", "\"batch\":-1"), ("\"batch\":0", "\"batch\":99999"),
        ] {
            var odd = good
            odd.values["training"] = place.replacingOccurrences(of: right, with: wrong)
            #expect(odd.values["training"] != place, "\(right) isn't in \(place)")
            try odd.write(to: path)
            let outcome = try permafrost("train", "--resume", in: folder)
            #expect(outcome.status == 1 && outcome.errors.contains("it wasn't saved by a training like this one"))
        }
        try good.write(to: path)
        folder.write(Array(contents(of: path).dropLast(9)), to: "runs/digits-cnn-1/checkpoint.safetensors")
        let damaged = try permafrost("train", "--resume", in: folder)
        #expect(damaged.status == 1)
        #expect(damaged.errors.hasPrefix("error: can't go on from 'runs/digits-cnn-1/checkpoint.safetensors'"))
        #expect(contents(of: folder.path("runs/digits-cnn-1/metrics.jsonl")) == before)
    }

    @Test func exportVerifyAndInspectReadRunsCheckpointsAndWeights() throws {
        #expect(try permafrost("train", "--steps", "20", "--out", "a", in: folder).status == 0)
        #expect(try permafrost("train", "--steps", "30", "--out", "b", in: folder).status == 0)
        #expect(try permafrost("export", "a", "plain.safetensors", in: folder).status == 0)
        #expect(try permafrost("export", "a/checkpoint.safetensors", "other.safetensors", in: folder).status == 0)
        #expect(contents(of: folder.path("plain.safetensors")) == contents(of: folder.path("other.safetensors")))
        let plain = try Safetensors.read(folder.path("plain.safetensors"))
        #expect(plain.metadata == ["format": "pt"])
        #expect(plain.tensors == (try Safetensors.read(folder.path("a/weights.safetensors"))).tensors)
        #expect(try permafrost("export", "b", "plain.safetensors", in: folder).status == 1)
        #expect(try Safetensors.read(folder.path("plain.safetensors")) == plain)

        let frozen = try permafrost("verify", "a", "b", "--json", in: folder)
        #expect(frozen.status == 0)
        #expect(frozen.json["checked_elements"] as? Int == 1 && frozen.json["changed_elements"] as? Int == 0)
        let between = try permafrost("verify", "a/checkpoint.safetensors", "b/weights.safetensors", in: folder)
        #expect(between.status == 0 && between.output == "1 element checked, 0 changed\n")
        let chosen = try permafrost(
            "verify", "a", "b", "--freeze", "conv1.weight[0,0]", "--freeze", "fc2.bias", "--json", in: folder)
        #expect(chosen.status == 2)
        #expect(chosen.json["checked_elements"] as? Int == 19)
        #expect((chosen.json["first_changed"] as? [String: Any])?["parameter"] as? String == "conv1.weight")
        let all = try permafrost("verify", "plain.safetensors", "other.safetensors", "--json", in: folder)
        #expect(all.status == 0 && all.json["checked_elements"] as? Int == 38_282)
        #expect(try permafrost("verify", "a", "b", "--freeze", "fc9", in: folder).status == 1)

        for source in ["a", "a/weights.safetensors"] {
            let listing = try permafrost("inspect", source, in: folder)
            #expect(listing.status == 0, "\(listing.errors)")
            #expect(listing.output.contains("conv1.weight  F32   [16, 1, 3, 3]        144       1"))
            #expect(listing.output.contains(" 1* "), "the frozen element is marked")
            #expect(listing.output.filter { $0 == "*" }.count == 2)
            #expect(try permafrost("inspect", source, "--json", in: folder).json["frozen"] as? Int == 1)
        }
        #expect(try permafrost("inspect", "a", "--tensor", "fc2.bias", in: folder).outputLines.count == 2)
        #expect(try permafrost("inspect", "a", "--tensor", "fc9.bias", in: folder).status == 1)
        #expect(try permafrost("inspect", "a", "--tensor", "fc2.bias", "--json", in: folder).status == 1)

        // A checkpoint whose freezes are all off doesn't make an audit of nothing.
        var off = try Checkpoint.read(folder.path("a/checkpoint.safetensors"))
        off.freezes["conv1.weight"]![0].isEnabled = false
        off.values = [:]
        try off.write(to: folder.path("off.safetensors"))
        let unfrozen = try permafrost("verify", "off.safetensors", "plain.safetensors", in: folder)
        #expect(unfrozen.status == 0 && unfrozen.output == "38282 elements checked, 0 changed\n")
    }

    static let badInput: [([String], String)] = [
        (["--freeze", "conv9.weight[0]=1"], "there is no parameter 'conv9.weight'; there are conv1.weight, conv1.bias"),
        (["--freeze", "conv1.weight[0,3,1,1]=1"], "index 3 is out of range for axis 1 of size 1"),
        (["--freeze", "conv1.weight[0,0,1,1,1]=1"], "5 indices"),
        (["--freeze", "conv1.weight[5:5,0,0,0]=1"], "matches no element"),
        (["--freeze", "conv1.weight[0,0,1,1]=nan"], "'nan' is no finite number"),
        (["--freeze", "conv1.weight[0,0,1,1]=1e99"], "'1e99' is no finite number"),
        (["--freeze", "conv1.weight[0,0,1,1]=one"], "'one' is no finite number"),
        (["--freeze", "conv1.weight[0,x]=1"], "'x' is neither a whole number nor a slice"),
        (["--freeze", ""], "expected a parameter, indices in brackets and a value"),
        (
            ["--freeze", "conv1.weight[0,0,1,1]=1", "--freeze", "conv1.weight[0]=2"],
            "conv1.weight[0,0,1,1] can't be frozen both at 1.0 and at 2.0"
        ),
        (
            ["--route", "pin", "--freeze", "fc2.bias=1", "--freeze", "fc2.bias[3]=2"],
            "fc2.bias[3] can't be frozen both at 1.0 and at 2.0"
        ),
        (["--freeze", "none", "--freeze", "conv1.weight=0"], "--freeze none can't stand beside"),
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--epochs", "-3"], "--epochs must be at least 1, not -3"),
        (["--steps", "0"], "--steps must be at least 1"),
        (["--batch-size", "-1"], "--batch-size must be at least 1, not -1"),
        (["--threads", "0"], "--threads must be at least 1"),
        (["--threads", "99999999999"], "--threads must be at most"),
        (["--epochs", "many"], "'many' is invalid for '--epochs"),
        (["--seed", "-1"], "'-1' is invalid for '--seed"),
        (["--lr", "-1"], "learningRate must be not negative, not -1.0"),
        (["--lr", "nan"], "learningRate must be not negative, not nan"),
        (["--momentum", "-0.5"], "momentum must be not negative, not -0.5"),
        (["--optimizer", "adam", "--beta2", "1"], "beta2 must be at least 0 and less than 1"),
        (["--optimizer", "adam", "--momentum", "0.9"], "--momentum means nothing to --optimizer adam"),
        (["--beta1", "0.9"], "--beta1 means nothing to --optimizer sgd"),
        (["--optimizer", "lion"], "'lion' is invalid for '--optimizer"),
        (["--dataset", "cifar"], "'cifar' is invalid for '--dataset"),
        (["--model", "vgg"], "'vgg' is invalid for '--model"),
        (["--model", "lenet"], "lenet needs images of at least 12x12 pixels"),
        (["--route", "hope"], "'hope' is invalid for '--route"),
        (["--data", "."], "the digits are part of the program"),
        (["--overwrite"], "--overwrite needs the folder"),
        (["--fancy"], "Unknown option '--fancy'"),
        (["surplus"], "surplus"),
        (["--dataset", "fashion-mnist", "--data", "nowhere"], "can't read 'nowhere/train-labels-idx1-ubyte.gz'"),
        (["--out", "file/run"], "can't write to 'file/run': 'file' is not a folder"),
        (["--out", "file"], "can't write to 'file': 'file' is not a folder"),
        (["--out", "/proc/run"], "can't make the folder '/proc/run'"),
        (["--out", ""], "--out needs the name of a folder"),
    ]

    @Test(arguments: badInput.indices) func badInputIsOneClearLineAndLeavesNothing(number: Int) throws {
        let (arguments, expected) = Self.badInput[number]
        folder.write([], to: "file")
        let run = try permafrost(["train"] + arguments, in: folder)
        #expect(run.status > 0 && run.status != 2, "\(arguments)")
        #expect(run.output == "", "\(arguments)")
        #expect(run.errors.hasPrefix("error: ") && run.errors.contains(expected), "\(arguments): \(run.errors)")
        #expect(run.errors.filter { $0 == "\n" }.count == 1, "\(arguments): \(run.errors)")
        #expect(folder.names == ["file"], "\(arguments)")
    }

    @Test func damagedDataFilesAreNamed() throws {
        let images = gzipped(idx([2, 28, 28], [UInt8](repeating: 7, count: 1568)))
        let labels = gzipped(idx([2], [3, 4]))
        func run(_ name: String, _ bytes: [UInt8]) throws -> Outcome {
            for part in ["train", "t10k"] {
                folder.write(images, to: "\(part)-images-idx3-ubyte.gz")
                folder.write(labels, to: "\(part)-labels-idx1-ubyte.gz")
            }
            folder.write(bytes, to: name)
            return try permafrost("train", "--dataset", "fashion-mnist", "--data", ".", in: folder)
        }
        var flipped = images
        flipped[flipped.count - 6] ^= 1
        for (name, bytes, expected) in [
            ("train-images-idx3-ubyte.gz", Array(images.dropLast(12)), "is corrupt"),
            ("t10k-images-idx3-ubyte.gz", flipped, "is corrupt"),
            ("t10k-labels-idx1-ubyte.gz", gzipped(idx([2], [3])), "is truncated"),
            ("train-labels-idx1-ubyte.gz", [], "is truncated"),
        ] {
            let outcome = try run(name, bytes)
            #expect(outcome.status == 1)
            #expect(outcome.errors.hasPrefix("error: './\(name)' \(expected)"), "\(outcome.errors)")
            #expect(folder.names.count == 4)
        }
    }

    @Test func evalSaysWhatItCannotMeasure() throws {
        #expect(try permafrost("train", "--steps", "1", "--out", "run", in: folder).status == 0)
        var file = try Safetensors.read(folder.path("run/weights.safetensors"))
        file.tensors["fc2.bias"] = StoredTensor(Tensor.zeros([11]))
        file.tensors["extra"] = file.tensors.removeValue(forKey: "conv1.bias")
        try file.write(to: folder.path("odd.safetensors"))
        file.metadata = [:]
        try file.write(to: folder.path("bare.safetensors"))
        let whole = contents(of: folder.path("run/weights.safetensors"))
        folder.write(Array(whole.dropLast()), to: "cut.safetensors")
        try FileManager.default.createDirectory(atPath: folder.path("empty"), withIntermediateDirectories: false)
        for (arguments, expected) in [
            (["none"], "there is neither a run nor a file 'none'"),
            (["empty"], "'empty' holds no finished run"),
            (["cut.safetensors"], "'cut.safetensors' is no valid safetensors file"),
            (["bare.safetensors"], "'bare.safetensors' doesn't say its dataset: give --dataset"),
            (
                ["odd.safetensors"],
                "missing conv1.bias; unexpected extra; fc2.bias has shape [11], expected [10]"
            ),
            (["run", "--dataset", "fashion-mnist", "--data", "empty"], "fc1.weight has shape"),
            (["run", "--threads", "0"], "--threads must be at least 1"),
        ] {
            let outcome = try permafrost(["eval"] + arguments, in: folder)
            #expect(outcome.status == 1 && outcome.output == "", "\(arguments)")
            #expect(outcome.errors.contains(expected), "\(arguments): \(outcome.errors)")
            #expect(outcome.errors.filter { $0 == "\n" }.count == 1)
        }
    }

    @Test func doctorSaysWhatTheMachineHas() throws {
        let text = try permafrost("doctor", in: folder)
        #expect(text.status == 0)
        for word in ["instruction set", "threads", "OpenMP", "versions"] { #expect(text.output.contains(word)) }
        let json = try permafrost("doctor", "--json", in: folder, environment: ["PERMAFROST_ISA": "baseline"]).json
        #expect(json["instruction_set"] as? String == "baseline")
        #expect((json["supported_instruction_sets"] as? [String])?.contains("baseline") == true)
        #expect(json["threads"] as? Int ?? 0 >= 1)
    }

    @Test func pipesGetPlainLines() throws {
        let run = try permafrost("train", "--steps", "50", in: folder)
        #expect(!run.errors.contains("\r") && !run.errors.contains("\u{1b}"))
        #expect(run.errors.split(separator: "\n").filter { $0.hasPrefix("epoch ") }.count == 2)
    }

    @Test(arguments: [24, 60, 120]) func terminalsGetABarThatFits(width: Int) throws {
        let plain = try Self.onTerminal(width: width, in: folder, ["NO_COLOR": "1", "LC_ALL": "C.UTF-8"])
        let frames = plain.split(separator: "\r").filter { $0.contains("%") }
        #expect(!frames.isEmpty)
        for frame in frames where frame.hasPrefix("\u{1b}[2K") && !frame.contains("\n") {
            let text = frame.dropFirst(4)
            #expect(text.count < width && text.hasPrefix("epoch 1/15"), "\(text)")
            #expect(!text.contains("\u{1b}"))
            #expect(width < 60 || text.contains("━") || text.contains("─"))
            #expect(width < 120 || text.contains("images/s") && text.contains("left"))
        }
    }

    @Test func colourAndUnicodeFollowTheEnvironment() throws {
        let colourful = try Self.onTerminal(width: 100, in: folder, ["NO_COLOR": "", "LC_ALL": "C"])
        #expect(colourful.contains("\u{1b}[36m#") && !colourful.contains("━"))
        let dumb = try Self.onTerminal(width: 100, in: folder, ["TERM": "dumb"])
        #expect(!dumb.contains("\u{1b}"))
    }

    /// What a short training writes to a terminal.
    private static func onTerminal(
        width: Int, in folder: TemporaryFolder, _ environment: [String: String]
    ) throws -> String {
        var (primary, secondary): (Int32, Int32) = (0, 0)
        var size = winsize(ws_row: 25, ws_col: UInt16(width), ws_xpixel: 0, ws_ypixel: 0)
        try #require(openpty(&primary, &secondary, nil, nil, &size) == 0)
        let terminal = FileHandle(fileDescriptor: secondary, closeOnDealloc: false)
        var environment = environment
        if environment["TERM"] == nil { environment["TERM"] = "xterm" }
        // A whole epoch: however fast it is, its end is drawn.
        let run = try permafrost(
            ["train", "--steps", "45"], in: folder, environment: environment, errors: terminal)
        #expect(run.status == 0)
        close(secondary)
        // A terminal holds what was written until it is read; after the last byte it reports an error (Linux) or an
        // end.
        var text: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while case let count = read(primary, &buffer, buffer.count), count > 0 { text += buffer[..<count] }
        close(primary)
        return String(decoding: text, as: UTF8.self)
    }
}
