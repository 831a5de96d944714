import CKernels
import CZlib

/// What the kernels have found on this machine.
public enum Machine {
    /// Whether this build threads its loops. Without OpenMP every operation runs on the calling thread.
    public static var hasOpenMP: Bool { pf_openmp_available() }

    /// The most threads that an operation called here would use.
    public static var threads: Int {
        let wanted = ExecutionContext.current.threads
        return hasOpenMP && wanted > 0 ? wanted : Int(pf_available_threads())
    }

    /// The instruction set that an operation called here would use; never `auto`.
    public static var instructionSet: InstructionSet {
        InstructionSet(rawValue: withKernelContext { pf_isa_resolve($0) }.rawValue)!
    }

    /// The version of the zlib that reads compressed data sets.
    public static var zlibVersion: String { String(cString: CZlib.zlibVersion()) }
}

extension InstructionSet {
    /// As in the environment variable `PERMAFROST_ISA`: `avx2`, `avx512`, ...
    public var name: String { String(cString: pf_isa_name(pf_isa(rawValue: rawValue))) }
}
