/// Times several sides in turns: this library first, then a peer, perhaps in more than one way.
///
/// A side's process runs only in its turn (see `Peer.awake`), so that idle threads spin on nobody's cores. A turn is
/// several repetitions, of which the first is dropped (caches and clocks are the other's) and the median counts; who
/// begins changes from round to round.
///
/// A neighbour on a shared machine, or another program, slows a core for a second or two at a time. So a run in which
/// either side's turns differ is repeated, and the steadiest run counts, whoever is ahead in it.
struct Alternation {
    /// How many turns each side has.
    let rounds: Int
    /// The least seconds of a turn.
    let turn: Double

    /// A run is unsteady when the quartiles of a side's turns are further apart than by this factor.
    private static let steadySpread = 1.2
    private static let mostRuns = 3

    struct Comparison {
        /// The median over the rounds, in seconds.
        let ours: Double
        /// The peer's fastest way: which it is, its median, and its time over ours round by round.
        let best: (index: Int, seconds: Double, ratio: Statistics)?
        /// The upper quartile of a side's turns over the lower one: of ours or the best peer's, whichever is more.
        let spread: Double
    }

    /// Each side gets a number of repetitions and returns the seconds of each.
    func run(_ sides: [(Int) throws -> [Double]]) throws -> Comparison {
        var steadiest = try runOnce(sides)
        for _ in 1..<Self.mostRuns where steadiest.spread > Self.steadySpread {
            let again = try runOnce(sides)
            if again.spread < steadiest.spread { steadiest = again }
        }
        return steadiest
    }

    private func runOnce(_ sides: [(Int) throws -> [Double]]) throws -> Comparison {
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
        let turns = seconds.map { Statistics($0) }
        let best = sides.indices.dropFirst().min { turns[$0].median < turns[$1].median }
        return Comparison(
            ours: turns[0].median,
            best: best.map { peer in
                (peer - 1, turns[peer].median, Statistics(zip(seconds[peer], seconds[0]).map { $0 / $1 }))
            },
            spread: ([0] + (best.map { [$0] } ?? [])).map { turns[$0].upperQuartile / turns[$0].lowerQuartile }.max()!)
    }
}
