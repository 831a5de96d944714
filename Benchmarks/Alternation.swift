/// Times several sides in turns: this library first, then a peer, perhaps in more than one way.
///
/// A side's process runs only in its turn (see `Peer.awake`), so that idle threads spin on nobody's cores. A turn is
/// several repetitions, of which the first is dropped (caches and clocks are the other's) and the median counts; who
/// begins changes from round to round.
struct Alternation {
    /// How many turns each side has.
    let rounds: Int
    /// The least seconds of a turn.
    let turn: Double

    struct Comparison {
        /// The median over the rounds, in seconds.
        let ours: Double
        /// The peer's fastest way: which it is, its median, and its time over ours round by round.
        let best: (index: Int, seconds: Double, ratio: Statistics)?
    }

    /// Each side gets a number of repetitions and returns the seconds of each.
    func run(_ sides: [(Int) throws -> [Double]]) throws -> Comparison {
        let repetitions = try sides.map { side in
            let once = try side(2).last!
            return max(1, min(1000, Int((turn / once).rounded(.up))))
        }
        var seconds = sides.map { _ in [Double]() }
        for round in 0..<rounds {
            for offset in sides.indices {
                let index = (round + offset) % sides.count
                seconds[index].append(Statistics(Array(try sides[index](repetitions[index] + 1).dropFirst())).median)
            }
        }
        let medians = seconds.map { Statistics($0).median }
        let best = sides.indices.dropFirst().min { medians[$0] < medians[$1] }
        return Comparison(
            ours: medians[0],
            best: best.map {
                ($0 - 1, medians[$0], Statistics(zip(seconds[$0], seconds[0]).map { $0 / $1 }))
            })
    }
}
