/// A height and a width: `2` for both, or `Pair(2, 1)`.
public struct Pair: Hashable, Sendable, ExpressibleByIntegerLiteral, CustomStringConvertible {
    public var height: Int
    public var width: Int

    public init(_ both: Int) {
        self.init(both, both)
    }

    public init(_ height: Int, _ width: Int) {
        self.height = height
        self.width = width
    }

    public init(integerLiteral both: Int) {
        self.init(both)
    }

    public var description: String { "(\(height), \(width))" }
}

/// Zeros around an image, each side its own: `1` for all, `Padding(1, 2)` for top and bottom, left and right.
public struct Padding: Hashable, Sendable, ExpressibleByIntegerLiteral, CustomStringConvertible {
    public var top: Int
    public var bottom: Int
    public var left: Int
    public var right: Int

    public init(top: Int, bottom: Int, left: Int, right: Int) {
        self.top = top
        self.bottom = bottom
        self.left = left
        self.right = right
    }

    public init(_ all: Int) {
        self.init(all, all)
    }

    public init(_ height: Int, _ width: Int) {
        self.init(top: height, bottom: height, left: width, right: width)
    }

    public init(integerLiteral all: Int) {
        self.init(all)
    }

    public var description: String {
        top == bottom && left == right
            ? "(\(top), \(left))" : "(top: \(top), bottom: \(bottom), left: \(left), right: \(right))"
    }
}
