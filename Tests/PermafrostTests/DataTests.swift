import Testing

@testable import Permafrost

@Suite struct IDXTests {
    let folder = TemporaryFolder()
    let elements: [UInt8] = (0..<120).map { UInt8($0 * 7 % 31) }
    var file: [UInt8] { idx([5, 4, 6], elements) }

    @Test func readsPlainCompressedAndConcatenatedFiles() throws {
        let parts = gzipped(Array(file[..<50])) + gzipped(Array(file[50...]))
        for (name, bytes) in [("plain", file), ("one.gz", gzipped(file)), ("two.gz", parts)] {
            let array = try IDXArray(contentsOf: folder.write(bytes, to: name), rank: 3)
            #expect(array.extents == [5, 4, 6])
            #expect(array.bytes == elements)
        }
    }

    @Test func everyTruncationIsAnErrorThatNamesTheFile() throws {
        for whole in [file, gzipped(file)] {
            for length in 0..<whole.count {
                let path = folder.write(Array(whole[..<length]), to: "cut")
                let error = #expect(throws: DataError.self, "cut to \(length) bytes") {
                    try IDXArray(contentsOf: path, rank: 3)
                }
                #expect(error?.description.contains(path) == true)
            }
        }
    }

    /// gzip's CRC-32 finds every single flipped bit in the data; a flip in a field that doesn't matter (time, name of
    /// the system) leaves them as they were.
    @Test func noFlippedBitInACompressedFileChangesTheData() throws {
        let whole = gzipped(file)
        var found = 0
        for bit in 0..<whole.count * 8 {
            var damaged = whole
            damaged[bit / 8] ^= 1 << (bit % 8)
            do {
                let array = try IDXArray(contentsOf: folder.write(damaged, to: "damaged"), rank: 3)
                #expect(array.bytes == elements && array.extents == [5, 4, 6], "bit \(bit)")
            } catch {
                found += 1
            }
        }
        #expect(found > whole.count * 8 * 3 / 4)
    }

    @Test func saysWhatIsWrong() throws {
        func problem(_ bytes: [UInt8], rank: Int = 3) -> DataError.Problem? {
            let path = folder.write(bytes, to: "file")
            return #expect(throws: DataError.self) { try IDXArray(contentsOf: path, rank: rank) }?.problem
        }
        #expect(problem(file, rank: 1) == .wrongMagic(found: 0x0803, expectedRank: 1))
        #expect(problem([0x89] + file) == .wrongMagic(found: 0x8900_0008, expectedRank: 3))
        #expect(problem(Array(file.dropLast())) == .truncated(expectedBytes: 120, foundBytes: 119))
        #expect(problem(file + [0]) == .trailingBytes)
        #expect(problem(gzipped(file + [0])) == .trailingBytes)
        let huge = idx([0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF], [])
        #expect(problem(huge) == .impossibleSize([0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF]))
        #expect(problem(gzipped(huge)) == .impossibleSize([0xFFFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF]))
        // Just beyond what a file of this size can hold, and so refused before memory is taken for it.
        let large = gzipped(idx([60000, 28, 28], []))
        #expect(problem(large) == .impossibleSize([60000, 28, 28]))
        guard case .corrupt = problem(gzipped(file) + [1, 2, 3]) else {
            Issue.record("bytes behind a gzip file are not corruption")
            return
        }
    }

    @Test func unreadableFilesSayWhy() throws {
        for path in [folder.path("none"), folder.path] {
            let error = #expect(throws: DataError.self) { try IDXArray(contentsOf: path, rank: 3) }
            guard case .unreadable = error?.problem else {
                Issue.record("\(path): \(error!)")
                continue
            }
        }
    }
}

@Suite struct DatasetTests {
    /// Image i holds the value i, so that images can be told apart.
    func numbered(labels: [Int32], classes: Int = 10) -> Dataset {
        Dataset(
            images: .arange(labels.count).reshaped([labels.count, 1, 1, 1]), labels: labels,
            classes: (0..<classes).map(String.init))
    }

    @Test func digitsAreTheKnownOnes() {
        let digits = Digits.load()
        #expect(digits.images.shape == [1797, 1, 8, 8])
        #expect((0..<10).map { digit in digits.labels.count { $0 == digit } }
            == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
        let grey = digits.images.scalars.map { Int(($0 * Digits.deviation + Digits.mean) * 16 + 0.5) }
        #expect(grey.reduce(0, +) == 561_718)
        #expect(Array(grey[..<8]) == [0, 0, 5, 13, 9, 1, 0, 0])
        #expect(grey.allSatisfy { (0...16).contains($0) })
    }

    @Test func digitsAreNormalised() {
        let pixels = Digits.load().images.scalars.map(Double.init)
        let mean = pixels.reduce(0, +) / Double(pixels.count)
        let variance = pixels.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(pixels.count)
        // The constants have five digits.
        #expect(abs(mean) < 1e-5 / Double(Digits.deviation))
        #expect(abs(variance - 1) < 2e-5 / Double(Digits.deviation))
    }

    @Test func digitsSplitDependsOnTheSeedAlone() {
        let (a, b, c) = (Digits.split(seed: 3), Digits.split(seed: 3), Digits.split(seed: 4))
        #expect(a.train.count == 1437 && a.test.count == 360)
        #expect(a.test.images.bitEquals(b.test.images) && a.train.images.bitEquals(b.train.images))
        #expect(!a.test.images.bitEquals(c.test.images))
    }

    @Test(arguments: [0, 1, 37, 99, 100]) func splitIsStratifiedAndLosesNothing(testCount: Int) {
        let labels = (0..<100).map { Int32($0 * $0 % 7 % 4) }
        let all = numbered(labels: labels, classes: 4)
        let split = all.stratifiedSplit(testCount: testCount, generator: Generator(seed: 11))
        let (train, test) = (split.train.images.scalars, split.test.images.scalars)
        #expect(test.count == testCount)
        #expect((train + test).sorted() == all.images.scalars)
        #expect(train == train.sorted() && test == test.sorted())
        for part in [split.train, split.test] {
            for (image, label) in zip(part.images.scalars, part.labels) { #expect(labels[Int(image)] == label) }
        }
        for label in Int32(0)..<4 {
            let exact = Double(labels.count { $0 == label } * testCount) / 100
            #expect(abs(Double(split.test.labels.count { $0 == label }) - exact) < 1)
        }
    }

    @Test func loaderGivesEveryImageOncePerPass() {
        let data = numbered(labels: (0..<23).map { Int32($0 % 3) })
        let loader = DataLoader(data, batchSize: 5, shuffle: true, generator: Generator(seed: 1))
        #expect(loader.batchCount == 5)
        var passes: [[Float]] = []
        for _ in 0..<2 {
            let batches = Array(loader)
            #expect(batches.map(\.count) == [5, 5, 5, 5, 3])
            passes.append(batches.flatMap(\.images.scalars))
            #expect(passes.last!.sorted() == data.images.scalars)
            #expect(batches.flatMap(\.labels) == passes.last!.map { Int32($0) % 3 })
        }
        #expect(passes[0] != passes[1])
        let inOrder = DataLoader(data, batchSize: 5, dropLast: true)
        #expect(inOrder.flatMap(\.images.scalars) == (0..<20).map(Float.init))
    }

    @Test func passContinuesInItsMiddleFromTheGeneratorsState() {
        let data = numbered(labels: [Int32](repeating: 0, count: 40))
        let generator = Generator(seed: 5)
        let loader = DataLoader(data, batchSize: 7, shuffle: true, generator: generator)
        _ = Array(loader)
        let state = generator.state
        let whole = Array(loader).map(\.images.scalars)
        generator.state = state
        var rest = loader.makeIterator()
        rest.position = 4
        #expect(IteratorSequence(rest).map(\.images.scalars) == Array(whole[4...]))
    }
}

@Suite struct FashionMNISTTests {
    let folder = TemporaryFolder()

    func write(
        _ part: String, extents: [Int] = [3, 28, 28], labels: [UInt8] = [1, 0, 9], compressed: Bool = true
    ) {
        let pixels = (0..<extents.reduce(1, *)).map { UInt8($0 % 256) }
        for (name, bytes) in [
            ("\(part)-images-idx3-ubyte", idx(extents, pixels)),
            ("\(part)-labels-idx1-ubyte", idx([labels.count], labels)),
        ] {
            folder.write(compressed ? gzipped(bytes) : bytes, to: compressed ? name + ".gz" : name)
        }
    }

    @Test func readsCompressedAndPlainFiles() throws {
        write("train")
        write("t10k", extents: [1, 28, 28], labels: [4], compressed: false)
        let split = try FashionMNIST.load(directory: folder.path)
        #expect(split.train.images.shape == [3, 1, 28, 28])
        #expect(split.train.labels == [1, 0, 9])
        #expect(split.test.count == 1 && split.test.labels == [4])
        // Byte 255 is ink 1, byte 0 is 0.
        #expect(split.test.images.scalars[255] == (1 - FashionMNIST.mean) / FashionMNIST.deviation)
        #expect(split.test.images.scalars[256] == (0 - FashionMNIST.mean) / FashionMNIST.deviation)
    }

    @Test func saysWhatDoesNotFit() throws {
        func error() -> DataError? {
            #expect(throws: DataError.self) { try FashionMNIST.load(directory: folder.path) }
        }
        #expect(error()?.path == folder.path("train-labels-idx1-ubyte.gz"))
        write("train", labels: [1, 0])
        #expect(error()?.problem == .countMismatch(labels: 2, images: 3))
        write("train", labels: [1, 10, 0])
        #expect(error()?.problem == .labelOutOfRange(label: 10, index: 1, classes: 10))
        write("train", extents: [3, 8, 8])
        #expect(error()?.problem == .wrongExtents(found: [3, 8, 8], expected: "images of 28 x 28"))
        write("train", extents: [0, 28, 28], labels: [])
        #expect(error()?.problem == .wrongExtents(found: [0, 28, 28], expected: "images of 28 x 28"))
    }
}
