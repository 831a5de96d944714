import CKernels
import CThreadState
import Synchronization

/// Which algorithms operations may use.
public enum Numerics: Int32, Sendable, CaseIterable {
    /// Algorithms with fewer multiplications where they win, within a stated error bound.
    case fast = 0
    /// Direct algorithms: an unmasked element's bits depend on neither mask, route nor thread count.
    case exact = 1
}

/// An instruction set that the kernels are compiled for.
public enum InstructionSet: Int32, Sendable, CaseIterable {
    /// `PERMAFROST_ISA` from the environment, else the widest that this machine has.
    case auto = 0
    case baseline = 1
    case avx2 = 2
    case avx512 = 3
    case neon = 4

    /// Whether this build and machine can run it.
    public var isSupported: Bool { pf_isa_supported(pf_isa(rawValue: rawValue)) }

    /// Those that `withExecution(instructionSet:)` takes here.
    public static var supported: [InstructionSet] { allCases.filter { $0 != .auto && $0.isSupported } }
}

/// How operations run: threads, numerics, instruction set.
///
/// There is a default for the process, and `withExecution` overrides it for the calling thread while a closure runs.
public struct ExecutionContext: Hashable, Sendable {
    /// The most threads an operation uses; 0 for as many as the machine offers this process.
    public var threads: Int
    public var numerics: Numerics
    public var instructionSet: InstructionSet

    public init(threads: Int = 0, numerics: Numerics = .fast, instructionSet: InstructionSet = .auto) {
        self.threads = threads
        self.numerics = numerics
        self.instructionSet = instructionSet
    }

    /// Packed into a word so that operations read it without a lock.
    private static let packedDefault = Atomic<UInt64>(0)

    /// What operations use outside `withExecution`. Traps when set to a negative number of threads or an
    /// instruction set that this machine lacks.
    public static var `default`: ExecutionContext {
        get {
            let word = packedDefault.load(ordering: .relaxed)
            return ExecutionContext(
                threads: Int(word & 0xFFFF_FFFF), numerics: Numerics(rawValue: Int32(word >> 32 & 0xFF))!,
                instructionSet: InstructionSet(rawValue: Int32(word >> 40 & 0xFF))!)
        }
        set {
            newValue.validate()
            packedDefault.store(
                UInt64(newValue.threads) | UInt64(newValue.numerics.rawValue) << 32
                    | UInt64(newValue.instructionSet.rawValue) << 40, ordering: .relaxed)
        }
    }

    /// What an operation called here would use.
    public static var current: ExecutionContext {
        let state = permafrost_thread_state_current()!
        guard state.pointee.execution_overridden else { return `default` }
        return ExecutionContext(
            threads: Int(state.pointee.threads), numerics: Numerics(rawValue: state.pointee.numerics)!,
            instructionSet: InstructionSet(rawValue: state.pointee.instruction_set)!)
    }

    private func validate() {
        precondition(threads >= 0 && threads <= Int32.max, "the number of threads can't be \(threads)")
        precondition(instructionSet.isSupported, "this machine has no \(instructionSet)")
    }

    fileprivate func withOverride<R>(_ body: () throws -> R) rethrows -> R {
        validate()
        let state = permafrost_thread_state_current()!
        let outer = state.pointee
        state.pointee.execution_overridden = true
        state.pointee.threads = Int32(threads)
        state.pointee.numerics = numerics.rawValue
        state.pointee.instruction_set = instructionSet.rawValue
        defer {
            state.pointee.execution_overridden = outer.execution_overridden
            state.pointee.threads = outer.threads
            state.pointee.numerics = outer.numerics
            state.pointee.instruction_set = outer.instruction_set
        }
        return try body()
    }
}

/// Runs `body` with what is given instead of the current setting, on this thread only.
public func withExecution<R>(
    threads: Int? = nil, numerics: Numerics? = nil, instructionSet: InstructionSet? = nil,
    _ body: () throws -> R
) rethrows -> R {
    var context = ExecutionContext.current
    if let threads { context.threads = threads }
    if let numerics { context.numerics = numerics }
    if let instructionSet { context.instructionSet = instructionSet }
    return try context.withOverride(body)
}

/// Calls a kernel with the current context.
@inline(__always)
func withKernelContext<R>(_ body: (UnsafePointer<pf_context>) throws -> R) rethrows -> R {
    let current = ExecutionContext.current
    var context = pf_context(
        threads: Int32(current.threads), numerics: pf_numerics(rawValue: current.numerics.rawValue),
        isa: pf_isa(rawValue: current.instructionSet.rawValue))
    return try body(&context)
}

/// A kernel refused its arguments or found no memory.
public struct KernelError: Error, CustomStringConvertible {
    public let status: Int32
    public let operation: String

    public var description: String {
        "\(operation): \(String(cString: pf_status_message(pf_status(rawValue: status))))"
    }
}

/// Throws when a kernel's status isn't `pf_ok`.
@inline(__always)
func requireKernel(_ status: pf_status, _ operation: @autoclosure () -> String) throws {
    if status != pf_ok { throw KernelError(status: status.rawValue, operation: operation()) }
}

/// Traps when a kernel's status isn't `pf_ok`: for arguments that were checked before.
@inline(__always)
func checkKernel(_ status: pf_status, _ operation: @autoclosure () -> String) {
    trapping { try requireKernel(status, operation()) }
}
