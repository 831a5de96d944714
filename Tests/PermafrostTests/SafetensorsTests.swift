import Foundation
import Testing

@testable import Permafrost

@Suite struct SafetensorsTests {
    let folder = TemporaryFolder()

    /// What Python's `safetensors.torch.save` 0.8 writes for the tensors of `sample`.
    static let reference: [UInt8] = [0x58, 1, 0, 0, 0, 0, 0, 0] + Array(
        #"{"__metadata__":{"format":"pt"},"b.num_batches_tracked":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"#
            .utf8)
        + Array(#""a.bias":{"dtype":"F32","shape":[0],"data_offsets":[8,8]},"conv1.weight":"#.utf8)
        + Array(#"{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]},"é\"x":{"dtype":"F16","shape":[1],"#.utf8)
        + Array(#""data_offsets":[32,34]},"u8":{"dtype":"U8","shape":[3],"data_offsets":[34,37]}} "#.utf8)
        + [7, 0, 0, 0, 0, 0, 0, 0]
        + [0, 0, 0x20, 0xc0, 0, 0, 0xc0, 0xbf, 0, 0, 0, 0xbf, 0, 0, 0, 0x3f, 0, 0, 0xc0, 0x3f, 0, 0, 0x20, 0x40]
        + [0, 0x3e, 1, 2, 3]

    static let sample = Safetensors(
        tensors: [
            "conv1.weight": StoredTensor(Tensor([[-2.5, -1.5, -0.5], [0.5, 1.5, 2.5]])),
            "b.num_batches_tracked": StoredTensor([7], shape: []),
            "a.bias": StoredTensor(Tensor([] as [Float])),
            "é\"x": StoredTensor(dataType: .float16, shape: [1], bytes: [0, 0x3e]),
            "u8": StoredTensor(dataType: .uint8, shape: [3], bytes: [1, 2, 3]),
        ], metadata: ["format": "pt"])

    @Test func writesWhatTheReferenceWritesAndReadsItBack() throws {
        #expect(Self.sample.serialized() == Self.reference)
        #expect(try Safetensors(bytes: Self.reference) == Self.sample)
        try Self.sample.write(to: folder.path("a.safetensors"))
        #expect(contents(of: folder.path("a.safetensors")) == Self.reference)
        #expect(try Safetensors.read(folder.path("a.safetensors")) == Self.sample)
        #expect(folder.names == ["a.safetensors"])
    }

    @Test func roundTripKeepsEveryBitAndName() throws {
        let patterns: [UInt32] = [0, 0x8000_0000, 1, 0x7fc0_1234, 0xff80_0000, 0x7f80_0001, 0x3f80_0000]
        let odd = Tensor(patterns.map(Float.init(bitPattern:)))
        var file = Safetensors(metadata: ["": "", "line\nbreak": "tab\tquote\" \\ \u{1}", "漢字": "🧊"])
        file.tensors["odd"] = StoredTensor(odd)
        file.tensors["🧊\u{0}/"] = StoredTensor(Tensor.zeros([2, 0, 3]))
        for type in DataType.allCases {
            file.tensors[type.rawValue] = StoredTensor(
                dataType: type, shape: [1, 3], bytes: (0..<UInt8(3 * type.size)).map { $0 })
        }
        let bytes = file.serialized()
        #expect(bytes.count % 8 == Self.dataBytes(of: file) % 8)
        let back = try Safetensors(bytes: bytes)
        #expect(back == file)
        #expect(back.tensors["odd"]!.tensor()!.bitEquals(odd))
    }

    static func dataBytes(of file: Safetensors) -> Int { file.tensors.values.reduce(0) { $0 + $1.bytes.count } }

    @Test func otherElementTypesConvert() {
        func floats(_ type: DataType, _ bytes: [UInt8]) -> [Float]? {
            StoredTensor(dataType: type, shape: [bytes.count / type.size], bytes: bytes).tensor()?.scalars
        }
        #expect(floats(.bfloat16, [0x80, 0x3f, 0x80, 0xff]) == [1, -.infinity])
        #expect(floats(.float64, Array("\0\0\0\0\0\0\u{4}@".utf8)) == [2.5])
        #expect(floats(.int64, [255, 255, 255, 255, 255, 255, 255, 255]) == [-1])
        #expect(floats(.uint8, [0, 255]) == [0, 255])
        #expect(floats(.int8, [255]) == [-1])
        #expect(floats(.bool, [0, 1]) == [0, 1])
        #expect(floats(.complex64, [0, 0, 0, 0, 0, 0, 0, 0]) == nil)
        // Zero, a subnormal, the largest number, infinity.
        #expect(floats(.float16, [0, 0x80, 1, 0, 0xff, 0x7b, 0, 0xfc]) == [-0, 0x1p-24, 65504, -.infinity])
        #expect(floats(.float16, [1, 0x7c])![0].isNaN)
    }

    @Test func everyTruncationIsAnError() throws {
        for length in 0..<Self.reference.count {
            let cut = Array(Self.reference[..<length])
            #expect(throws: SafetensorsError.self, "cut to \(length) bytes") { try Safetensors(bytes: cut) }
            guard length % 16 == 0 else { continue }
            let path = folder.write(cut, to: "cut.safetensors")
            let error = #expect(throws: SafetensorsError.self) { try Safetensors.read(path) }
            #expect(error?.description.contains(path) == true)
        }
        #expect(throws: SafetensorsError.self) { try Safetensors(bytes: Self.reference + [0]) }
    }

    /// Whatever bits flip, the outcome is an error or contents that account for every byte of the file.
    @Test func everyFlippedBitGivesAnErrorOrAWholeFile() throws {
        for bit in 0..<Self.reference.count * 8 {
            var damaged = Self.reference
            damaged[bit / 8] ^= 1 << (bit % 8)
            if let file = try? Safetensors(bytes: damaged) {
                let header = damaged[..<8].enumerated().reduce(0) { $0 | Int($1.element) << (8 * $1.offset) }
                #expect(8 + header + Self.dataBytes(of: file) == damaged.count, "bit \(bit)")
            }
        }
    }

    /// A file with this header and so many bytes of data.
    static func file(_ header: String, data: Int = 0) -> [UInt8] {
        let length = UInt64(header.utf8.count)
        return (0..<8).map { UInt8(truncatingIfNeeded: length >> (8 * $0)) } + Array(header.utf8)
            + [UInt8](repeating: 0, count: data)
    }

    @Test func saysWhatIsWrong() {
        func problem(_ bytes: [UInt8]) -> SafetensorsError.Problem? {
            #expect(throws: SafetensorsError.self) { try Safetensors(bytes: bytes) }?.problem
        }
        func entry(_ type: String, _ shape: String, _ offsets: String) -> String {
            #"{"dtype":"\#(type)","shape":[\#(shape)],"data_offsets":[\#(offsets)]}"#
        }
        let x = entry("F32", "2", "0,8")
        #expect(problem([1, 2, 3]) == .tooShort(bytes: 3))
        #expect(problem(Self.file("")) == .headerLength(declared: 0, fileBytes: 8))
        let huge = [UInt8](repeating: 255, count: 8) + Array("{}".utf8)
        #expect(problem(huge) == .headerLength(declared: .max, fileBytes: 10))
        #expect(problem([3, 0, 0, 0, 0, 0, 0, 0] + Array("{}".utf8)) == .headerLength(declared: 3, fileBytes: 10))
        #expect(problem(Self.file(" {}")) == .headerSyntax(offset: 0, expected: "'{'"))
        #expect(problem(Self.file("{}}")) == .headerSyntax(offset: 2, expected: "the end"))
        #expect(problem(Self.file("[]")) == .headerSyntax(offset: 0, expected: "'{'"))
        #expect(problem(Self.file("{\"x\":\(x),\"x\":\(x)}", data: 8)) == .duplicateName("x"))
        #expect(problem(Self.file(#"{"__metadata__":{"a":"1","a":"2"}}"#)) == .duplicateName("a"))
        #expect(problem(Self.file("{\"x\":\(entry("F31", "2", "0,8"))}", data: 8))
            == .unknownType(tensor: "x", type: "F31"))
        #expect(problem(Self.file("{\"x\":\(entry("F32", "4294967296,4294967296", "0,0"))}"))
            == .sizeOverflow(tensor: "x", shape: [1 << 32, 1 << 32]))
        #expect(problem(Self.file("{\"x\":\(entry("F32", "3", "0,8"))}", data: 8))
            == .sizeMismatch(tensor: "x", expectedBytes: 12, foundBytes: 8))
        #expect(problem(Self.file("{\"x\":\(entry("F32", "2", "8,0"))}", data: 8))
            == .sizeMismatch(tensor: "x", expectedBytes: 8, foundBytes: -8))
        #expect(problem(Self.file("{\"x\":\(entry("F32", "2", "8,16"))}", data: 16))
            == .misplaced(tensor: "x", expectedOffset: 0, foundOffset: 8))
        let overlap = "{\"x\":\(x),\"y\":\(entry("F32", "2", "4,12"))}"
        #expect(problem(Self.file(overlap, data: 12))
            == .misplaced(tensor: "y", expectedOffset: 8, foundOffset: 4))
        #expect(problem(Self.file("{\"x\":\(x)}", data: 9)) == .dataLength(expectedBytes: 8, foundBytes: 9))
        #expect(problem(Self.file("{\"x\":\(x)}", data: 7)) == .dataLength(expectedBytes: 8, foundBytes: 7))
        // One tensor that claims 2^62 bytes needs no memory before it is refused.
        let large = entry("U8", "4611686018427387904", "0,4611686018427387904")
        #expect(problem(Self.file("{\"x\":\(large)}", data: 4))
            == .dataLength(expectedBytes: 1 << 62, foundBytes: 4))
    }

    /// Headers that aren't what the format asks for, with eight bytes of data.
    static let malformedHeaders = [
        #"{"x":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#,
        #"{"x":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}"#,
        #"{"x":{"dtype":"F32","shape":[2e0],"data_offsets":[0,8]}}"#,
        #"{"x":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}}"#,
        #"{"x":{"dtype":"F32","shape":[],"data_offsets":[0,99999999999999999999]}}"#,
        #"{"x":{"dtype":"F32","shape":[2,],"data_offsets":[0,8]}}"#,
        #"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}}"#,
        #"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0]}}"#,
        #"{"x":{"dtype":"F32","shape":[2]}}"#,
        #"{"x":{"dtype":"F32","data_offsets":[0,8]}}"#,
        #"{"x":{"shape":[2],"data_offsets":[0,8]}}"#,
        #"{"x":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#,
        #"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"more":1}}"#,
        #"{"x":{"dtype":3,"shape":[2],"data_offsets":[0,8]}}"#,
        #"{"x":[]}"#, #"{"x":null}"#, #"{"x"}"#, #"{x:{}}"#, #"{"x":{},}"#, #"{,}"#, #"{ "#, #"{""#, #"{"\"#,
        #"{"__metadata__":{"a":1}}"#, #"{"__metadata__":[]}"#, #"{"__metadata__":{"a":{}}}"#,
        #"{"__metadata__":{"a":"\x"}}"#, #"{"__metadata__":{"a":"\u12"}}"#, #"{"__metadata__":{"a":"\u+123"}}"#,
        #"{"__metadata__":{"a":"\ud800"}}"#, #"{"__metadata__":{"a":"\ud800\u0041"}}"#,
        #"{"__metadata__":{"a":"\ud83e \uddca"}}"#, #"{"__metadata__":{"a":"\ud83e\ uddca"}}"#,
        #"{"__metadata__":{"a":"\udc00\ud800"}}"#, "{\"__metadata__\":{\"a\":\"\u{7}\"}}",
        "{\"__metadata__\":{\"a\":\"\n\"}}", #"{"__metadata__":{"a":"1" "b":"2"}}"#,
    ]

    @Test(arguments: malformedHeaders) func aMalformedHeaderIsASyntaxError(header: String) {
        let error = #expect(throws: SafetensorsError.self) { try Safetensors(bytes: Self.file(header, data: 8)) }
        guard case .headerSyntax = error?.problem else {
            Issue.record("\(error!)")
            return
        }
    }

    @Test func invalidUTF8IsASyntaxError() {
        for bytes: [UInt8] in [[0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82]] {
            let header = Array(#"{"__metadata__":{"a":""#.utf8) + bytes + Array("\"}}".utf8)
            #expect(throws: SafetensorsError.self) {
                try Safetensors(bytes: [UInt8(header.count), 0, 0, 0, 0, 0, 0, 0] + header)
            }
        }
    }

    @Test func escapesAndSpacesAreRead() throws {
        let header = #"{ "__metadata__" : { "\u0041\ud83e\uddca\/\b\f\n\r\t\\\"" : "x" } , "t" : "#
            + "\t{ \"shape\" : [ 1 , 2 ] ,\r\n \"data_offsets\":[0, 8],\"dtype\":\"F32\" } }  "
        let file = try Safetensors(bytes: Self.file(header, data: 8))
        #expect(file.metadata == ["A🧊/\u{8}\u{c}\n\r\t\\\"": "x"])
        #expect(file.tensors["t"]?.shape == [1, 2])
    }

    @Test func failedWriteLeavesTheOldFileAndNothingElse() throws {
        // A folder stands where the file should go: the rename fails after the temporary file was written.
        let inner = folder.path("target")
        try Self.sample.write(to: folder.path("kept"))
        try FileManager.default.createDirectory(atPath: inner, withIntermediateDirectories: false)
        folder.write([1], to: "target/child")
        for path in [inner, folder.path("missing/x"), folder.path("kept/x")] {
            let error = #expect(throws: SafetensorsError.self) { try Self.sample.write(to: path) }
            guard case .unwritable = error?.problem else {
                Issue.record("\(error!)")
                continue
            }
        }
        #expect(folder.names == ["kept", "target"])
        #expect(try Safetensors.read(folder.path("kept")) == Self.sample)
    }

    @Test func digestIsOverTheDataInTheOrderOfNames() {
        var hash = SHA256()
        for name in ["a.bias", "b.num_batches_tracked", "conv1.weight", "u8", "é\"x"] {
            hash.update(Self.sample.tensors[name]!.bytes)
        }
        #expect(Self.sample.dataDigest == hash.hexadecimalDigest())
    }

    /// The examples of FIPS 180-4, and a message in pieces.
    @Test func sha256() {
        func digest(_ pieces: String...) -> String {
            var hash = SHA256()
            for piece in pieces { hash.update(piece.utf8) }
            return hash.hexadecimalDigest()
        }
        #expect(digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        #expect(digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        let long = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"
        let expected = "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        for cut in 0...long.count {
            #expect(digest(String(long.prefix(cut)), String(long.dropFirst(cut))) == expected)
        }
        #expect(digest(String(repeating: "a", count: 100_000))
            == "6d1cf22d7cc09b085dfc25ee1a1f3ae0265804c607bc2074ad253bcc82fd81ee")
    }
}
