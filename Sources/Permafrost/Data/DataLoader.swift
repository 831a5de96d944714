/// A data set cut into batches, in order or shuffled anew for each pass.
///
///     for batch in DataLoader(digits.train, batchSize: 32, shuffle: true) { ... }
///
/// Each pass takes one stream of the generator, on which alone its order depends: a generator whose state was saved
/// before a pass gives the same pass again.
public struct DataLoader: Sequence {
    public let dataset: Dataset
    public let batchSize: Int
    public let shuffle: Bool
    /// Whether a last batch with fewer images is left out.
    public let dropLast: Bool
    public let generator: Generator

    /// Traps when `batchSize` is not positive.
    public init(
        _ dataset: Dataset, batchSize: Int, shuffle: Bool = false, dropLast: Bool = false,
        generator: Generator = .default
    ) {
        precondition(batchSize > 0, "a batch needs at least one image, not \(batchSize)")
        self.dataset = dataset
        self.batchSize = batchSize
        self.shuffle = shuffle
        self.dropLast = dropLast
        self.generator = generator
    }

    /// The number of batches in a pass.
    public var batchCount: Int {
        dropLast ? dataset.count / batchSize : (dataset.count + batchSize - 1) / batchSize
    }

    /// Starts a pass.
    public func makeIterator() -> Iterator {
        let order = shuffle ? generator.permutation(dataset.count) : Array(0..<dataset.count)
        return Iterator(dataset: dataset, order: order, batchSize: batchSize, batchCount: batchCount)
    }

    public struct Iterator: IteratorProtocol {
        fileprivate let dataset: Dataset
        fileprivate let order: [Int]
        fileprivate let batchSize: Int
        fileprivate let batchCount: Int
        /// How many batches of the pass are behind; set it to continue a pass in its middle.
        public var position = 0

        public mutating func next() -> Batch? {
            guard position < batchCount else { return nil }
            let first = position * batchSize
            position += 1
            return dataset.batch(at: order[first..<Swift.min(first + batchSize, order.count)])
        }
    }
}
