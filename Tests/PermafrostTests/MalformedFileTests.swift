import Foundation
import Testing

@testable import Permafrost

#if canImport(Glibc)
    import Glibc
#endif

/// Damaged and hostile safetensors files: each is a typed error, and none costs more memory than its size allows.
@Suite struct MalformedFileTests {
    /// Files that were made or mutated to be wrong, without repetition; a few mutations leave a file that is right.
    private static let files: [[UInt8]] = {
        let good = SafetensorsTests.reference, header = Int(good[0]) | Int(good[1]) << 8
        let text = Array(good[8..<8 + header]), data = Array(good[(8 + header)...])
        func file(declaring length: UInt64? = nil, _ header: [UInt8], _ data: [UInt8]) -> [UInt8] {
            withUnsafeBytes(of: (length ?? UInt64(header.count)).littleEndian) { Array($0) } + header + data
        }
        var files: Set<[UInt8]> = []
        for header in SafetensorsTests.malformedHeaders {
            files.insert(file(Array(header.utf8), Array(repeating: 0, count: 8)))
        }
        for length in good.indices { files.insert(Array(good[..<length])) }
        for length in [0, 1, 2, header - 1, header + 1, good.count - 8, good.count, 100_000_000, 100_000_001, 1 << 40] {
            files.insert(file(declaring: UInt64(length), text, data))
        }
        for length in [UInt64(1) << 62, 1 << 63, .max, .max - 7] { files.insert(file(declaring: length, text, data)) }
        for extra in [1, 8, 4096] { files.insert(good + [UInt8](repeating: 0, count: extra)) }
        for bit in 0..<8 * (8 + header) {
            var flipped = good
            flipped[bit / 8] ^= 1 << (bit % 8)
            files.insert(flipped)
        }
        // Every number replaced by others: shapes and offsets that claim what isn't there.
        let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
        for start in text.indices where digits.contains(text[start]) && !digits.contains(text[start - 1]) {
            let end = text[start...].firstIndex { !digits.contains($0) } ?? text.endIndex
            for number in [
                "", "0", "1", "9", "4096", "99999999", "4294967296", "4611686018427387904", "9223372036854775807",
                "9223372036854775808", "1e30", "-1", "0.5", "\"0\"", "null", "0,0", "[0]",
            ] {
                files.insert(file(text[..<start] + Array(number.utf8) + text[end...], data))
            }
        }
        // Bytes of the header removed, doubled and exchanged at random, with the length put right.
        let random = Generator(seed: 5)
        func below(_ bound: Int) -> Int { Int(random.integer(below: UInt32(bound))) }
        for _ in 0..<2000 {
            var text = text
            for _ in 0...below(3) {
                let position = below(text.count)
                switch below(3) {
                case 0: text.remove(at: position)
                case 1: text.insert(text[below(text.count)], at: position)
                default: text[position] = UInt8(below(256))
                }
            }
            files.insert(file(text, data))
        }
        files.remove(good)
        return files.sorted { $0.lexicographicallyPrecedes($1) }
    }()

    @Test func eachIsATypedErrorAndIsNeverReadIntoMoreRoomThanItHas() throws {
        var malformed = 0, whole = 0
        for bytes in Self.files {
            var room = 0, position = 0
            do throws(SafetensorsError) {
                let file = try Safetensors(path: "damaged", fileBytes: bytes.count) { target in
                    room += target.count
                    let count = min(target.count, bytes.count - position)
                    target.copyBytes(from: bytes[position..<position + count])
                    position += count
                    return count
                }
                // A name or a shape of the same size, white space, metadata: right still, down to the last byte.
                #expect(position == bytes.count)
                #expect(try Safetensors(bytes: file.serialized()) == file)
                whole += 1
            } catch {
                malformed += 1
                #expect(error.path == "damaged" && error.description.contains("is no valid safetensors file"))
            }
            #expect(room <= bytes.count)
        }
        #expect(malformed >= 200 && malformed + whole == Self.files.count)
        #expect(malformed > 10 * whole, "mutations that say something: \(malformed) malformed, \(whole) not")
    }

    @Test func filesOnTheDiskAreNamed() throws {
        let folder = TemporaryFolder()
        for bytes in Self.files where (try? Safetensors(bytes: bytes)) == nil && bytes.count % 4 == 0 {
            let path = folder.write(bytes, to: "damaged.safetensors")
            let error = #expect(throws: SafetensorsError.self) { try Safetensors.read(path) }
            #expect(error?.path == path && error?.description.split(separator: "\n").count == 1)
            #expect(throws: SafetensorsError.self) { try Checkpoint.read(path) }
        }
    }

    @Test func whatIsNoFileIsRefusedAtOnce() throws {
        let folder = TemporaryFolder()
        #expect(mkfifo(folder.path("pipe"), 0o600) == 0)
        for path in [folder.path("pipe"), folder.path, "/dev/zero", folder.path("missing")] {
            let error = #expect(throws: SafetensorsError.self) { try Safetensors.read(path) }
            guard case .unreadable = error?.problem else {
                Issue.record("\(error!)")
                continue
            }
        }
    }

    #if os(Linux)
        /// All of them, and headers that are as large when parsed as headers get, in a process of its own that is given
        /// little more memory than it has.
        @Test func memoryIsBoundedByTheFilesSize() async {
            await #expect(processExitsWith: .success) {
                let headers = Self.largeHeaders.map { SafetensorsTests.file($0) }
                let files = Self.files
                for bytes in files { _ = try? Safetensors(bytes: bytes) }  // What is made once is made.
                let pages = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")
                let limit = UInt64(pages[0])! * UInt64(sysconf(Int32(_SC_PAGESIZE))) + 32 << 20
                var bounds = rlimit(rlim_cur: rlim_t(limit), rlim_max: rlim_t(limit))
                try #require(setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &bounds) == 0)
                try #require(malloc(64 << 20) == nil, "the limit holds")
                for bytes in files { _ = try? Safetensors(bytes: bytes) }
                for bytes in headers {
                    try #require(bytes.count <= 1 << 20)
                    _ = try? Safetensors(bytes: bytes)
                }
            }
        }

        /// Headers of a mebibyte that parse into as much as they can: 32 bytes of memory a byte bound them.
        private static let largeHeaders: [String] = {
            let size = 1_000_000
            let shape = "{\"x\":{\"shape\":[" + String(repeating: "0,", count: size / 2) + "0]"
            let metadata = "{\"__metadata__\":{" + (0..<size / 14).map { "\"\($0)\":\"\"," }.joined() + "\"a\":\"\"}"
            let entry = "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}"
            let tensors = "{" + (0..<size / 64).map { "\"\($0)\":\(entry)," }.joined() + "\"a\":\(entry)"
            let name = "{\"" + String(repeating: "\\u0041", count: size / 6)
            return [shape, metadata, tensors, name]
        }()
    #endif
}
