/// Order statistics of a list of measurements that isn't empty.
struct Statistics {
    private let sorted: [Double]

    init(_ values: [Double]) { sorted = values.sorted() }

    var median: Double { quantile(0.5) }
    var lowerQuartile: Double { quantile(0.25) }
    var upperQuartile: Double { quantile(0.75) }

    /// The order statistics between which the median of the distribution lies with 95 % probability, whatever the
    /// distribution: the number of values below it is binomial with p = 1/2, here by its normal approximation.
    var medianInterval: ClosedRange<Double> {
        let count = Double(sorted.count), reach = 1.96 * count.squareRoot() / 2
        let lower = Int((count / 2 - reach).rounded(.down)) - 1, upper = Int((count / 2 + reach).rounded(.up))
        return sorted[max(0, lower)]...sorted[min(sorted.count - 1, upper)]
    }

    /// Linear between neighbours.
    func quantile(_ share: Double) -> Double {
        let position = share * Double(sorted.count - 1)
        let below = Int(position), above = min(below + 1, sorted.count - 1)
        return sorted[below] + (position - Double(below)) * (sorted[above] - sorted[below])
    }
}
