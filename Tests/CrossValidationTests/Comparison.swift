import Permafrost
import Testing

/// Requires that ours and PyTorch's result both lie within the bound of what the formula gives. PyTorch's being there
/// too shows that formula and golden speak of the same thing.
func expect(
    _ ours: Tensor?, and torch: Tensor?, within expected: [Bounded], _ what: String, of golden: GoldenCase,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    guard let ours, let torch else {
        Issue.record("\(golden): no \(what)", sourceLocation: sourceLocation)
        return
    }
    #expect(ours.shape == torch.shape, "\(golden): shape of \(what)", sourceLocation: sourceLocation)
    guard ours.count == expected.count, torch.count == expected.count else {
        Issue.record(
            """
            \(golden): \(what) has \(ours.count) elements here, \(torch.count) in PyTorch, \(expected.count) by formula
            """,
            sourceLocation: sourceLocation)
        return
    }
    for (name, result) in [("ours", ours), ("PyTorch's", torch)] {
        let outside = zip(result.scalars, expected).enumerated().first { !$0.element.1.admits($0.element.0) }
        if let (index, (computed, bounded)) = outside {
            Issue.record(
                """
                \(golden): \(name) \(what), element \(index): \(computed), \
                not within \(bounded.error) of \(bounded.value)
                """,
                sourceLocation: sourceLocation)
        }
    }
}

/// Requires equal shapes and equal numbers.
func expectEqual(
    _ ours: Tensor?, _ torch: Tensor?, _ what: String, of golden: GoldenCase,
    sourceLocation: SourceLocation = #_sourceLocation
) {
    #expect(ours?.shape == torch?.shape, "\(golden): shape of \(what)", sourceLocation: sourceLocation)
    #expect(ours?.scalars == torch?.scalars, "\(golden): \(what)", sourceLocation: sourceLocation)
}
