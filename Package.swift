// swift-tools-version: 6.2
import Foundation
import PackageDescription

/// How to compile and link against an OpenMP runtime, or nil when the machine has none: the package then builds and
/// passes its tests on one thread. `PERMAFROST_OPENMP=0` in the environment forces that.
///
/// The toolchain's own driver would link `-lomp`, which is not on Debian's default path, so `-fopenmp` goes to the
/// compile step only and the library is named here.
struct OpenMP {
    var library: String
    var directory: String?

    static func find() -> OpenMP? {
        if ProcessInfo.processInfo.environment["PERMAFROST_OPENMP"] == "0" { return nil }
        let files = FileManager.default
        // Debian and Ubuntu, `libomp-dev`: on the linker's default path under the name of its SONAME.
        for triple in ["x86_64-linux-gnu", "aarch64-linux-gnu"]
        where files.fileExists(atPath: "/usr/lib/\(triple)/libomp5.so") {
            return OpenMP(library: "omp5", directory: nil)
        }
        if files.fileExists(atPath: "/usr/lib64/libomp.so") { return OpenMP(library: "omp", directory: nil) }
        let llvm = ((try? files.contentsOfDirectory(atPath: "/usr/lib")) ?? [])
            .filter { $0.hasPrefix("llvm-") || $0.hasPrefix("llvm") }.sorted { $0.compare($1, options: .numeric) == .orderedAscending }
        let directories = llvm.reversed().map { "/usr/lib/\($0)/lib" }
            + ["/opt/homebrew/opt/libomp/lib", "/usr/local/opt/libomp/lib"]
        for directory in directories {
            for name in ["libomp.so", "libomp.dylib"] where files.fileExists(atPath: "\(directory)/\(name)") {
                return OpenMP(library: "omp", directory: directory)
            }
        }
        return nil
    }

    var compile: [String] { ["-Xclang", "-fopenmp"] }
    var link: [LinkerSetting] {
        let search = directory.map { [LinkerSetting.unsafeFlags(["-L\($0)", "-Xlinker", "-rpath", "-Xlinker", $0])] } ?? []
        return search + [.linkedLibrary(library)]
    }
}

let openMP = OpenMP.find()

/// Later flags win, so the kernels are optimised in debug builds too: `swift test` runs what users run.
let optimised = CSetting.unsafeFlags(["-O3", "-fno-math-errno"])

let package = Package(
    name: "Permafrost",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "Permafrost", targets: ["Permafrost"]),
        .executable(name: "permafrost", targets: ["PermafrostCLI"]),
        .executable(name: "permafrost-bench", targets: ["PermafrostBench"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0")
    ],
    targets: [
        .target(
            name: "CKernels", path: "CKernels",
            cSettings: [optimised, .headerSearchPath(".")]
                + (openMP.map { [.unsafeFlags($0.compile), .define("PF_OPENMP")] } ?? []),
            linkerSettings: openMP?.link ?? []),
        .target(
            name: "CDigits", path: "Sources/CDigits",
            exclude: ["ATTRIBUTION.md", "make-idx.py", "images.idx3-ubyte", "labels.idx1-ubyte"]),
        .systemLibrary(
            name: "CZlib", path: "Sources/CZlib", pkgConfig: "zlib",
            providers: [.apt(["zlib1g-dev"]), .brew(["zlib"])]),
        .target(name: "CThreadState", path: "Sources/CThreadState"),
        .target(name: "Permafrost", dependencies: ["CKernels", "CThreadState", "CDigits", "CZlib"]),
        .executableTarget(
            name: "PermafrostCLI",
            dependencies: ["Permafrost", .product(name: "ArgumentParser", package: "swift-argument-parser")]),
        .executableTarget(
            name: "PermafrostBench",
            dependencies: [
                "Permafrost", "CKernels", "CReference",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            path: "Benchmarks", exclude: ["peers", "RESULTS.md"]),
        // The reference that kernels are held against: naive, double precision, shares no code with CKernels. Its
        // checker calls them through the public header.
        .target(name: "CReference", dependencies: ["CKernels"], path: "Tests/Reference", cSettings: [optimised]),
        .testTarget(name: "CKernelsTests", dependencies: ["CKernels", "CReference"]),
        .testTarget(name: "PermafrostTests", dependencies: ["Permafrost", "CKernels", "CZlib"]),
        .testTarget(
            name: "CrossValidationTests", dependencies: ["Permafrost", "CReference", "PermafrostBench"],
            exclude: ["Goldens", "peers"]),
    ],
    swiftLanguageModes: [.v6],
    cLanguageStandard: .gnu17
)
