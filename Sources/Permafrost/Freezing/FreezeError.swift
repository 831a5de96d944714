/// Why a freeze, a thaw or a selection written as text isn't possible; the parameter is as it was before.
public struct FreezeError: Error, Equatable, CustomStringConvertible {
    public let message: String

    public init(_ message: String) {
        self.message = message
    }

    public var description: String { message }
}

extension Shape {
    /// The indices of the element at a row-major offset.
    func indices(ofOffset offset: Int) -> [Int] {
        var rest = offset
        var result = [Int](repeating: 0, count: rank)
        for axis in (0..<rank).reversed() {
            result[axis] = rest % self[axis]
            rest /= self[axis]
        }
        return result
    }
}

/// `[0,1,2,1]`, as a selection is written on the command line.
func bracketed(_ indices: [Int]) -> String {
    "[" + indices.map(String.init).joined(separator: ",") + "]"
}
