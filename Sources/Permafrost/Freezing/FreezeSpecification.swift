/// A freeze written as text: a parameter's name, NumPy's indices in brackets, and a value.
///
///     conv1.weight[0,1,2,1]=1      one element, held at 1
///     conv1.weight[:,:,1,1]=-1     the centre of each 3x3 kernel
///     conv1.weight[0:8:2,...]      some filters, where they are
///     conv1.bias=0                 a whole parameter
///
/// An index may be a number or a slice `start:stop:step`, negative ones count from the end, and `...` stands for all
/// axes that aren't named; a slice's bounds are clipped to the axis, as in NumPy. Spaces don't matter.
public struct FreezeSpecification: CustomStringConvertible {
    /// The text as it was given.
    public let description: String
    /// The parameter's name.
    public let parameter: String
    /// What the elements are held at; where they are when nil.
    public let value: Float?
    private let leading: [any AxisIndex]
    /// The indices after `...`, which count from the last axis; nil without `...`.
    private let trailing: [any AxisIndex]?

    /// - Throws: `FreezeError` that quotes the text and says what is wrong with it.
    public init(parsing text: String) throws {
        func failure(_ reason: String) -> FreezeError { FreezeError("'\(text)': \(reason)") }
        description = text
        let compact = text.filter { !$0.isWhitespace }
        let sides = compact.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
        let target = sides[0]
        if sides.count == 2 {
            guard let number = Float(sides[1]), number.isFinite else {
                throw failure("'\(sides[1])' is no finite number")
            }
            value = number
        } else {
            value = nil
        }
        guard let bracket = target.firstIndex(of: "[") else {
            guard !target.isEmpty, !target.contains("]") else { throw failure(Self.expectation) }
            parameter = String(target)
            leading = []
            trailing = nil
            return
        }
        parameter = String(target[..<bracket])
        guard !parameter.isEmpty, target.last == "]" else { throw failure(Self.expectation) }
        let inside = target[target.index(after: bracket)...].dropLast()
        var parts: [[any AxisIndex]] = [[]]
        for item in inside.split(separator: ",", omittingEmptySubsequences: false) {
            if item == "..." {
                guard parts.count == 1 else { throw failure("'...' can stand only once") }
                parts.append([])
            } else if let index = Self.index(item) {
                parts[parts.count - 1].append(index)
            } else {
                throw failure("'\(item)' is neither a whole number nor a slice start:stop:step (step not 0)")
            }
        }
        leading = parts[0]
        trailing = parts.count == 2 ? parts[1] : nil
    }

    private static let expectation =
        "expected a parameter, indices in brackets and a value, as in conv1.weight[0,1,2,1]=1"

    private static func index(_ text: Substring) -> (any AxisIndex)? {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        if parts.count == 1 { return Int(text) }
        guard parts.count <= 3 else { return nil }
        let numbers = parts.map { Int($0) }
        guard zip(parts, numbers).allSatisfy({ $0.isEmpty || $1 != nil }) else { return nil }
        let step = parts.count == 3 ? numbers[2] ?? 1 : 1
        return step == 0 ? nil : StridedIndices(from: numbers[0], to: numbers[1], by: step)
    }

    /// The parameter of this name.
    ///
    /// - Throws: `FreezeError` that lists the names there are.
    public func find(in parameters: [(name: String, parameter: Parameter)]) throws -> Parameter {
        guard let found = parameters.first(where: { $0.name == parameter }) else {
            throw FreezeError(
                "'\(description)': there is no parameter '\(parameter)'; there are "
                    + parameters.map(\.name).joined(separator: ", "))
        }
        return found.parameter
    }

    /// The elements in a parameter of a shape.
    ///
    /// - Throws: `FreezeError` when there are more indices than axes.
    public func selection(in shape: Shape) throws -> ElementSelection {
        guard let trailing else { return .at(leading) }
        let whole = shape.rank - leading.count - trailing.count
        guard whole >= 0 else {
            throw FreezeError(
                "'\(description)': \(leading.count + trailing.count) indices for a tensor of shape \(shape), which has "
                    + "\(shape.rank) axes")
        }
        return .at(leading + Array(repeating: AllIndices(), count: whole) + trailing)
    }

    /// Freezes the elements in one of `parameters`, such as a module's `namedParameters()`.
    ///
    /// - Throws: `FreezeError`: no such parameter (it lists those there are), an index out of range (it names the axis
    ///   and its size), a selection that matches nothing, an element that is frozen at another value.
    @discardableResult
    public func apply(
        to parameters: [(name: String, parameter: Parameter)], route: FreezeRoute = .mask, name: String? = nil
    ) throws -> FreezeHandle {
        let parameter = try find(in: parameters)
        do {
            return try parameter.freeze(selection(in: parameter.shape), to: value, route: route, name: name)
        } catch let error as FreezeError {
            throw error.message.hasPrefix("'") ? error : FreezeError("'\(description)': \(error.message)")
        }
    }
}
