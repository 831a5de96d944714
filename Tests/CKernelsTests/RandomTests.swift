import CKernels
import Foundation
import Testing

extension KernelTests {
    @Suite("Random numbers") struct RandomNumbers {
        /// Philox 4x32-10 as its paper states it.
        static func philox(counter: [UInt32], key: [UInt32]) -> [UInt32] {
            var c = counter
            var k = key
            for _ in 0..<10 {
                let first = 0xD251_1F53 * UInt64(c[0])
                let second = 0xCD9E_8D57 * UInt64(c[2])
                c = [
                    UInt32(second >> 32) ^ c[1] ^ k[0], UInt32(truncatingIfNeeded: second),
                    UInt32(first >> 32) ^ c[3] ^ k[1], UInt32(truncatingIfNeeded: first),
                ]
                k = [k[0] &+ 0x9E37_79B9, k[1] &+ 0xBB67_AE85]
            }
            return c
        }

        static func word(seed: UInt64, stream: UInt64, element: UInt64) -> UInt32 {
            func halves(_ value: UInt64) -> [UInt32] { [UInt32(truncatingIfNeeded: value), UInt32(value >> 32)] }
            return philox(counter: halves(element / 4) + halves(stream), key: halves(seed))[Int(element % 4)]
        }

        @Test("This file's Philox gives the known answers published with Random123")
        func knownAnswers() {
            #expect(
                Self.philox(counter: [0, 0, 0, 0], key: [0, 0])
                    == [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8])
            #expect(
                Self.philox(counter: [UInt32](repeating: .max, count: 4), key: [.max, .max])
                    == [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD])
            #expect(
                Self.philox(
                    counter: [0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344], key: [0xA409_3822, 0x299F_31D0])
                    == [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1])
        }

        static func words(
            _ context: UnsafePointer<pf_context>?, seed: UInt64, stream: UInt64, first: UInt64, count: Int
        ) -> [UInt32] {
            var result = [UInt32](repeating: 0, count: count)
            #expect(pf_random_bits(context, seed, stream, first, Int64(count), &result) == pf_ok)
            return result
        }

        @Test("Bits are Philox's, wherever a range begins and however it is cut")
        func bitsOfElements() {
            let seed: UInt64 = 0x1234_5678_90AB_CDEF
            let stream: UInt64 = 0xFEDC_BA98_7654_3210
            for isa in supportedInstructionSets {
                var context = pf_context(threads: 1, numerics: pf_fast, isa: isa)
                for first in [0, 1, 5, 31, 32, 63, 4 * ((1 << 32) - 3) + 1, UInt64.max - 200] as [UInt64] {
                    for count in [1, 4, 33, 130] {
                        let expected = (0..<UInt64(count)).map {
                            Self.word(seed: seed, stream: stream, element: first + $0)
                        }
                        let words = Self.words(&context, seed: seed, stream: stream, first: first, count: count)
                        #expect(words == expected, "\(name(of: isa)): \(count) from \(first)")
                    }
                }
            }
            #expect(
                Self.words(nil, seed: 0, stream: 0, first: 0, count: 4)
                    == Self.philox(counter: [0, 0, 0, 0], key: [0, 0]))
        }

        @Test("Distributions depend on seed, stream and element alone: not on threads, cuts or instruction set")
        func reproducibility() {
            let count = 100_003
            var reference: [[Float]] = []
            onEveryInstructionSet("random numbers") { context in
                var uniform = [Float](repeating: -77, count: count)
                var normal = uniform
                var dropped = uniform
                let ones = [Float](repeating: 1, count: count)
                #expect(pf_random_uniform(context, 1, 2, 7, Int64(count), -1, 3, &uniform) == pf_ok)
                #expect(pf_random_normal(context, 1, 2, 7, Int64(count), 0.5, 2, &normal) == pf_ok)
                #expect(pf_dropout(context, 1, 2, Int64(count), 0.3, ones, &dropped) == pf_ok)
                for (offset, length) in [(0, 1), (1, 1), (776, 100), (count - 3, 3)] {
                    var part = [Float](repeating: -77, count: length)
                    pf_random_uniform(context, 1, 2, UInt64(7 + offset), Int64(length), -1, 3, &part)
                    expectSameBits(part, Array(uniform[offset..<offset + length]), "uniform from \(offset)")
                    pf_random_normal(context, 1, 2, UInt64(7 + offset), Int64(length), 0.5, 2, &part)
                    expectSameBits(part, Array(normal[offset..<offset + length]), "normal from \(offset)")
                }
                return [uniform, normal, dropped]
            } check: { isa, results in
                if reference.isEmpty { reference = results }
                for (result, reference) in zip(results, reference) { expectSameBits(result, reference, name(of: isa)) }
            }
        }

        @Test("Uniform numbers are low + (high - low) * 24 bits, and stay below high")
        func uniform() {
            let count = 1000
            let words = Self.words(nil, seed: 3, stream: 4, first: 0, count: count)
            // The last range is one ulp wide: every number must round to its lower end.
            let ranges: [(Float, Float)] = [(0, 1), (-2, 5), (-3e38, 3e38), (1, Float(1).nextUp), (-1, 0), (7, 7)]
            for (low, high) in ranges {
                var result = [Float](repeating: .nan, count: count)
                #expect(pf_random_uniform(nil, 3, 4, 0, Int64(count), low, high, &result) == pf_ok)
                for (value, word) in zip(result, words) {
                    let exact = Double(low) + Double(word >> 8) * 0x1p-24 * (Double(high) - Double(low))
                    let expected = low == high ? low : min(Float(exact), high.nextDown)
                    guard value == expected else {
                        Issue.record("in \(low) ..< \(high): \(value), not \(expected)")
                        break
                    }
                }
            }
        }

        @Test("Normal numbers are Box and Muller's of the stream's words")
        func normal() {
            let count = 20_000
            let words = Self.words(nil, seed: 5, stream: 6, first: 0, count: count).map(Double.init)
            var result = [Float](repeating: .nan, count: count)
            #expect(pf_random_normal(nil, 5, 6, 0, Int64(count), 10, 3, &result) == pf_ok)
            let expected = (0..<count).map { i -> Double in
                let radius = (-2 * log((words[i & ~1] + 1) * 0x1p-32)).squareRoot()
                let angle = 2 * .pi * words[i | 1] * 0x1p-32
                return 10 + 3 * radius * (i % 2 == 0 ? cos(angle) : sin(angle))
            }
            // One rounding to float; the series in double end below 1e-10.
            expectWithin(result, expected, bound: { roundoff * abs(expected[$0]) + 1e-8 }, "normal")
            // No value is farther than the 32 bits of the radius reach, and the moments are those of 20,000 draws:
            // within five of their standard errors.
            let z = result.map { (Double($0) - 10) / 3 }
            #expect(z.allSatisfy { abs($0) <= (64 * log(2.0)).squareRoot() })
            let n = Double(count)
            #expect(abs(z.reduce(0, +) / n) < 5 / n.squareRoot())
            #expect(abs(z.reduce(0) { $0 + $1 * $1 } / n - 1) < 5 * (2 / n).squareRoot())
            var constant: [Float] = [0, 0]
            #expect(pf_random_normal(nil, 5, 6, 0, 2, 4, 0, &constant) == pf_ok)
            #expect(constant == [4, 4])
        }

        @Test(
            "Dropout keeps exactly the elements whose uniform number is at least the probability",
            arguments: [0, 0.3, 0.5, 1])
        func dropout(probability: Float) {
            var generator = SeededGenerator(seed: 1)
            let count = 5000
            var uniform = [Float](repeating: -77, count: count)
            pf_random_uniform(nil, 7, 8, 0, Int64(count), 0, 1, &uniform)
            var x = generator.fractions(count)
            for i in 0..<count where uniform[i] < probability { x[i] = i % 2 == 0 ? .nan : -.infinity }
            let expected = zip(x, uniform).map { $1 >= probability ? $0 / (1 - probability) : 0 }
            onEveryInstructionSet("dropout") { context in
                var result = x
                let status = result.withUnsafeMutableBufferPointer {
                    pf_dropout(context, 7, 8, Int64(count), probability, $0.baseAddress, $0.baseAddress)
                }
                #expect(status == pf_ok)
                return [result]
            } check: { _, results in
                expectSameBits(results[0], expected, "dropout")
            }
        }

        @Test("An element whose uniform number equals the probability is kept, at the next probability dropped")
        func boundary() {
            var uniform = [Float](repeating: -77, count: 100)
            pf_random_uniform(nil, 7, 8, 0, 100, 0, 1, &uniform)
            let ones = [Float](repeating: 1, count: 100)
            for isa in supportedInstructionSets {
                var context = pf_context(threads: 1, numerics: pf_fast, isa: isa)
                for index in [0, 17, 99] {
                    var kept = ones
                    var dropped = ones
                    pf_dropout(&context, 7, 8, 100, uniform[index], ones, &kept)
                    pf_dropout(&context, 7, 8, 100, uniform[index].nextUp, ones, &dropped)
                    #expect(kept[index] == 1 / (1 - uniform[index]), "\(name(of: isa))")
                    #expect(dropped[index] == 0, "\(name(of: isa))")
                }
            }
        }

        @Test("Bad arguments are refused")
        func refusals() {
            let x = [Float](repeating: 1, count: 64)
            expectRefused(pf_error_dimension, "negative count") { pf_random_uniform(nil, 1, 1, 0, -1, 0, 1, $0) }
            expectRefused(pf_error_overflow, "past the stream's end") {
                pf_random_uniform(nil, 1, 1, .max, 2, 0, 1, $0)
            }
            for (low, high) in [(1, 0), (.nan, 1), (0, .infinity)] as [(Float, Float)] {
                expectRefused(pf_error_value, "\(low) ..< \(high)") {
                    pf_random_uniform(nil, 1, 1, 0, 4, low, high, $0)
                }
            }
            for (mean, deviation) in [(0, -1), (.nan, 1), (0, .infinity)] as [(Float, Float)] {
                expectRefused(pf_error_value, "\(mean), \(deviation)") {
                    pf_random_normal(nil, 1, 1, 0, 4, mean, deviation, $0)
                }
            }
            for probability in [-0.1, 1.1, .nan] as [Float] {
                expectRefused(pf_error_value, "\(probability)") { pf_dropout(nil, 1, 1, 4, probability, x, $0) }
            }
            expectRefused(pf_error_null, "no input") { pf_dropout(nil, 1, 1, 4, 0.5, nil, $0) }
            #expect(pf_random_bits(nil, 1, 1, 0, 4, nil) == pf_error_null)
            #expect(pf_random_bits(nil, 1, 1, .max, 0, nil) == pf_ok)
        }
    }
}
