/// Labelled images in memory.
public struct Dataset {
    /// count x channels x height x width.
    public let images: Tensor
    /// One class of 0 ..< `classes.count` for each image.
    public let labels: [Int32]
    /// The name of each class.
    public let classes: [String]

    /// Traps when there isn't one label for each image, or one is out of range.
    public init(images: Tensor, labels: [Int32], classes: [String]) {
        precondition(images.rank == 4, "images must be count x channels x height x width, not \(images.shape)")
        precondition(images.shape[0] == labels.count, "\(labels.count) labels for \(images.shape[0]) images")
        precondition(labels.allSatisfy { classes.indices.contains(Int($0)) }, "a label is out of range")
        self.images = images
        self.labels = labels
        self.classes = classes
    }

    /// Images of one channel from bytes; byte value b becomes (b / `scale` - `mean`) / `deviation`.
    init(
        bytes: IDXArray, labels: [UInt8], classes: [String], scale: Float, mean: Float, deviation: Float
    ) {
        let values = (0..<256).map { (Float($0) / scale - mean) / deviation }
        var images = Tensor.uninitialized([bytes.extents[0], 1, bytes.extents[1], bytes.extents[2]])
        images.withUnsafeMutableBufferPointer { pixels in
            bytes.bytes.withUnsafeBufferPointer { bytes in
                values.withUnsafeBufferPointer { values in
                    for index in 0..<bytes.count { pixels[index] = values[Int(bytes[index])] }
                }
            }
        }
        self.init(images: images, labels: labels.map(Int32.init), classes: classes)
    }

    public var count: Int { labels.count }
    /// channels x height x width.
    public var imageShape: Shape { Shape(images.shape.dropFirst()) }

    /// The images and labels at `indices`, in that order.
    public func batch(at indices: some Collection<Int>) -> Batch {
        let size = imageShape.elementCount
        var gathered = Tensor.uninitialized(Shape([indices.count] + imageShape))
        gathered.withUnsafeMutableBufferPointer { target in
            images.withUnsafeBufferPointer { source in
                guard var to = target.baseAddress, let from = source.baseAddress else { return }
                for index in indices {
                    precondition(labels.indices.contains(index), "no image \(index) in a data set of \(count)")
                    to.update(from: from + index * size, count: size)
                    to += size
                }
            }
        }
        return Batch(images: gathered, labels: indices.map { labels[$0] })
    }

    /// The data set that consists of the images at `indices`, in that order.
    public func subset(_ indices: some Collection<Int>) -> Dataset {
        let batch = batch(at: indices)
        return Dataset(images: batch.images, labels: batch.labels, classes: classes)
    }

    /// Divides the images at random into two data sets, each class in proportion.
    ///
    /// Of a class with c images, floor(c * testCount / count) go to the test set; those still missing come one each
    /// from the classes with the largest remainders (the lower class first among equals). Both sets keep the
    /// original order.
    public func stratifiedSplit(testCount: Int, generator: Generator) -> DatasetSplit {
        precondition((0...count).contains(testCount), "can't take \(testCount) of \(count) images")
        guard count > 0 else { return DatasetSplit(train: self, test: self) }
        let members = classes.indices.map { label in labels.indices.filter { labels[$0] == label } }
        var quotas = members.map { $0.count * testCount / count }
        let remainders = members.map { $0.count * testCount % count }
        let byRemainder = classes.indices.sorted { (-remainders[$0], $0) < (-remainders[$1], $1) }
        for label in byRemainder.prefix(testCount - quotas.reduce(0, +)) { quotas[label] += 1 }
        var isTest = [Bool](repeating: false, count: count)
        for (members, quota) in zip(members, quotas) {
            for position in generator.permutation(members.count).prefix(quota) { isTest[members[position]] = true }
        }
        return DatasetSplit(
            train: subset(isTest.indices.filter { !isTest[$0] }), test: subset(isTest.indices.filter { isTest[$0] }))
    }
}

/// What a network learns from, and what it is measured with.
public struct DatasetSplit {
    public let train: Dataset
    public let test: Dataset

    public init(train: Dataset, test: Dataset) {
        self.train = train
        self.test = test
    }
}

/// Some images of a data set and their labels.
public struct Batch {
    /// count x channels x height x width.
    public let images: Tensor
    public let labels: [Int32]

    public var count: Int { labels.count }
}
