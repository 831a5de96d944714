#if canImport(Darwin)
    import Darwin
#elseif canImport(Glibc)
    import Glibc
#elseif canImport(Musl)
    import Musl
#endif

/// Fashion-MNIST (Xiao, Rasul and Vollgraf, 2017): 60,000 + 10,000 images of 1x28x28 pixels, ten kinds of clothing.
public enum FashionMNIST {
    /// Where Debian's package `dataset-fashion-mnist` puts the four files.
    public static let defaultDirectory = "/usr/share/datasets/fashion-mnist"
    /// The mean and the standard deviation of the training pixels on a scale of 0 to 1.
    public static let mean: Float = 0.28604
    public static let deviation: Float = 0.35302
    public static let classes = [
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ]

    /// Reads `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the same with `t10k`, each with or without
    /// `.gz`, and normalises them to mean 0 and deviation 1.
    public static func load(directory: String = defaultDirectory) throws(DataError) -> DatasetSplit {
        DatasetSplit(train: try load("train", directory), test: try loadTest(directory: directory))
    }

    /// The test images alone.
    public static func loadTest(directory: String = defaultDirectory) throws(DataError) -> Dataset {
        try load("t10k", directory)
    }

    private static func load(_ part: String, _ directory: String) throws(DataError) -> Dataset {
        let imagePath = path(of: "\(part)-images-idx3-ubyte", in: directory)
        let labelPath = path(of: "\(part)-labels-idx1-ubyte", in: directory)
        // The small file first: a missing one is found at once.
        let labels = try IDXArray(contentsOf: labelPath, rank: 1)
        let images = try IDXArray(contentsOf: imagePath, rank: 3)
        guard images.extents[0] > 0, images.extents[1...] == [28, 28] else {
            throw DataError(
                path: imagePath, problem: .wrongExtents(found: images.extents, expected: "images of 28 x 28"))
        }
        guard labels.extents[0] == images.extents[0] else {
            throw DataError(
                path: labelPath, problem: .countMismatch(labels: labels.extents[0], images: images.extents[0]))
        }
        if let index = labels.bytes.firstIndex(where: { Int($0) >= classes.count }) {
            let label = Int(labels.bytes[index])
            throw DataError(
                path: labelPath, problem: .labelOutOfRange(label: label, index: index, classes: classes.count))
        }
        return Dataset(
            bytes: images, labels: labels.bytes, classes: classes, scale: 255, mean: mean, deviation: deviation)
    }

    /// The file as it is if there is one, else the name of the compressed one.
    private static func path(of name: String, in directory: String) -> String {
        let plain = directory.hasSuffix("/") ? directory + name : directory + "/" + name
        return access(plain, F_OK) == 0 ? plain : plain + ".gz"
    }
}
