/// When a scheduled freeze starts or ends: with the batch, or the epoch, of this number, counted from 0.
public enum TrainingMoment: Hashable, Sendable {
    case step(Int)
    case epoch(Int)

    func hasCome(step: Int, epoch: Int) -> Bool {
        switch self {
        case .step(let moment): step >= moment
        case .epoch(let moment): epoch >= moment
        }
    }
}

/// Freezes that start or end at a step or an epoch, for progressive unfreezing and the like.
///
///     let schedule = FreezeSchedule()
///     try schedule.freeze(net.conv1.weight, until: .epoch(2))
///     try schedule.freeze(net.conv2.weight, .at([0]), to: 0, from: .step(100))
///     // before each batch:
///     try schedule.begin(step: step, epoch: epoch)
///
/// What is on is read off the parameters' own named freezes, so that a resumed run goes on as it should with a schedule
/// made anew and parameters whose freezes were restored.
public final class FreezeSchedule {
    private struct Entry {
        let parameter: Parameter
        let selection: ElementSelection
        let value: Float?
        let route: FreezeRoute
        let name: String
        let start: TrainingMoment
        let end: TrainingMoment?
    }

    private var entries: [Entry] = []

    public init() {}

    /// Plans a freeze. Elements without a value are frozen where they are when it starts.
    ///
    /// - Parameters:
    ///   - start: the freeze holds from the update of this moment on.
    ///   - end: the first moment whose update may change the elements again; nil for never.
    ///   - name: of the freeze on its parameter; one that says its place in the schedule without one.
    /// - Throws: `FreezeError` when the selection doesn't fit, or the parameter has a plan of this name.
    public func freeze(
        _ parameter: Parameter, _ selection: ElementSelection = .all, to value: Float? = nil,
        route: FreezeRoute = .mask, name: String? = nil, from start: TrainingMoment = .step(0),
        until end: TrainingMoment? = nil
    ) throws {
        let name = name ?? "scheduled-\(entries.count)"
        guard !entries.contains(where: { $0.parameter === parameter && $0.name == name }) else {
            throw FreezeError("\(parameter.label) has a scheduled freeze '\(name)' already")
        }
        _ = try selection.offsets(in: parameter.value, of: parameter.label)
        entries.append(
            Entry(
                parameter: parameter, selection: selection, value: value, route: route, name: name, start: start,
                end: end))
    }

    /// Starts and ends what is due; call it before the forward pass of each batch.
    ///
    /// - Throws: `FreezeError` when a freeze that starts holds an element that another one holds at another value.
    public func begin(step: Int, epoch: Int) throws {
        let due = entries.map { entry in
            entry.start.hasCome(step: step, epoch: epoch) && !(entry.end?.hasCome(step: step, epoch: epoch) ?? false)
        }
        // Ends first: what starts may take over an element at another value.
        for (entry, isDue) in zip(entries, due) where !isDue {
            entry.parameter.remove(entry.parameter.freezes(named: entry.name))
        }
        for (entry, isDue) in zip(entries, due) where isDue && entry.parameter.freezes(named: entry.name).isEmpty {
            try entry.parameter.freeze(entry.selection, to: entry.value, route: entry.route, name: entry.name)
        }
    }
}
