import CDigits

/// The UCI optical digits (Alpaydin and Kaynak, 1998; CC BY 4.0): 1,797 images of 1x8x8 pixels, part of the library.
public enum Digits {
    /// The mean and the standard deviation of all pixels on a scale where the background is 0 and full ink is 1.
    public static let mean: Float = 0.30526
    public static let deviation: Float = 0.37605

    /// All images in the original order, normalised to mean 0 and deviation 1.
    public static func load() -> Dataset {
        do {
            let images = try IDXArray(
                MemorySource(
                    UnsafeRawBufferPointer(start: pf_digits_images, count: pf_digits_images_count),
                    path: "the embedded digits"),
                rank: 3)
            let labels = try IDXArray(
                MemorySource(
                    UnsafeRawBufferPointer(start: pf_digits_labels, count: pf_digits_labels_count),
                    path: "the embedded digits' labels"),
                rank: 1)
            return Dataset(
                bytes: images, labels: labels.bytes, classes: (0...9).map(String.init), scale: 16, mean: mean,
                deviation: deviation)
        } catch {
            fatalError("\(error)")
        }
    }

    /// 1,437 images to train with and 360 to test with, each digit in proportion; which ones depends on `seed` alone.
    public static func split(seed: UInt64 = 0) -> DatasetSplit {
        load().stratifiedSplit(testCount: 360, generator: Generator(seed: seed))
    }
}
