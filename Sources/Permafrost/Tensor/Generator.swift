import CKernels
import Synchronization

/// A source of random tensors: Philox 4x32-10 (Salmon et al., 2011), counter-based.
///
/// Every draw takes the next stream number, and an element depends on seed, stream and its position alone: not on
/// threads, nor on the size of other draws. A generator whose state is restored continues with the same numbers.
public final class Generator: Sendable {
    public struct State: Hashable, Codable, Sendable {
        public var seed: UInt64
        /// The stream that the next draw takes.
        public var stream: UInt64

        public init(seed: UInt64, stream: UInt64 = 0) {
            self.seed = seed
            self.stream = stream
        }
    }

    private let protected: Mutex<State>

    public init(seed: UInt64) {
        protected = Mutex(State(seed: seed))
    }

    public var state: State {
        get { protected.withLock { $0 } }
        set { protected.withLock { $0 = newValue } }
    }

    /// The generator that initialisation, dropout and shuffling use unless they are given another. Its seed is 0 at
    /// first.
    public static let `default` = Generator(seed: 0)

    /// Takes one stream: the state to draw with now.
    func next() -> State {
        protected.withLock { state in
            defer { state.stream &+= 1 }
            return state
        }
    }

    /// A random integer in 0 ..< `bound`, without bias (Lemire's rejection).
    public func integer(below bound: UInt32) -> UInt32 {
        precondition(bound > 0, "the bound of a random integer must be positive")
        while true {
            let draw = next()
            var bits: UInt32 = 0
            checkKernel(
                withKernelContext { pf_random_bits($0, draw.seed, draw.stream, 0, 1, &bits) }, "Generator.integer")
            let (high, low) = bits.multipliedFullWidth(by: bound)
            if low >= (0 &- bound) % bound { return high }
        }
    }

    /// A random order of 0 ..< `count` (Fisher and Yates); one stream.
    public func permutation(_ count: Int) -> [Int] {
        var order = Array(0..<count)
        guard count > 1 else { return order }
        let draw = next()
        // Two words an index: the bias of a 64-bit word reduced modulo count is below 2^-32 for any count that fits
        // memory.
        var bits = [UInt32](repeating: 0, count: 2 * count)
        checkKernel(
            withKernelContext { pf_random_bits($0, draw.seed, draw.stream, 0, Int64(2 * count), &bits) },
            "Generator.permutation")
        for i in (1..<count).reversed() {
            let word = UInt64(bits[2 * i]) << 32 | UInt64(bits[2 * i + 1])
            order.swapAt(i, Int(word.multipliedFullWidth(by: UInt64(i + 1)).high))
        }
        return order
    }
}

/// Seeds `Generator.default`.
public func manualSeed(_ seed: UInt64) {
    Generator.default.state = Generator.State(seed: seed)
}

extension Tensor {
    /// Uniform in [0, 1).
    public static func rand(
        _ shape: Shape, generator: Generator = .default, requiresGrad: Bool = false
    ) -> Tensor {
        uniform(shape, in: 0..<1, generator: generator, requiresGrad: requiresGrad)
    }

    /// Uniform in the range.
    public static func uniform(
        _ shape: Shape, in range: Range<Float>, generator: Generator = .default, requiresGrad: Bool = false
    ) -> Tensor {
        let draw = generator.next()
        var tensor = Tensor.uninitialized(shape)
        checkKernel(
            withKernelContext {
                pf_random_uniform(
                    $0, draw.seed, draw.stream, 0, Int64(tensor.count), range.lowerBound, range.upperBound,
                    tensor.storage.pointer)
            }, "Tensor.uniform")
        tensor.requiresGrad = requiresGrad
        return tensor
    }

    /// Standard normal.
    public static func randn(
        _ shape: Shape, generator: Generator = .default, requiresGrad: Bool = false
    ) -> Tensor {
        let draw = generator.next()
        var tensor = Tensor.uninitialized(shape)
        checkKernel(
            withKernelContext {
                pf_random_normal(
                    $0, draw.seed, draw.stream, 0, Int64(tensor.count), 0, 1, tensor.storage.pointer)
            }, "Tensor.randn")
        tensor.requiresGrad = requiresGrad
        return tensor
    }
}
