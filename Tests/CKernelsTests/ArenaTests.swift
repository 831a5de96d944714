import CKernels
import CReference
import Foundation
import Testing

extension KernelTests {
    /// The statistics are the process's, so each test that reads them has a process to itself.
    @Suite("Arena") struct Arena {
        @Test("A released block is handed out again, and the statistics say so")
        func reuse() async {
            await #expect(processExitsWith: .success) {
                let start = pf_memory_read_statistics()
                let block = try #require(pf_memory_allocate(1000))
                let held = pf_memory_read_statistics()
                #expect(held.system_allocations == start.system_allocations + 1)
                #expect(held.live_bytes >= start.live_bytes + 1000)
                #expect(held.peak_live_bytes >= held.live_bytes)
                pf_memory_release(block)
                let released = pf_memory_read_statistics()
                #expect(released.live_bytes == start.live_bytes)
                #expect(released.cached_bytes - start.cached_bytes == held.live_bytes - start.live_bytes)

                let again = pf_memory_allocate(1000)
                #expect(again == block)
                let reused = pf_memory_read_statistics()
                #expect(reused.reuses == start.reuses + 1)
                #expect(reused.system_allocations == held.system_allocations)
                #expect(reused.peak_live_bytes == held.peak_live_bytes)
                pf_memory_release(again)

                pf_memory_trim()
                #expect(pf_memory_read_statistics().cached_bytes == 0)
                pf_memory_release(pf_memory_allocate(1000))
                #expect(pf_memory_read_statistics().system_allocations == held.system_allocations + 1)
            }
        }

        @Test("Blocks of every size are aligned, disjoint and whole")
        func blocks() throws {
            let sizes = [
                0, 1, 3, 4, 63, 64, 65, 79, 80, 81, 127, 128, 1023, 4096, 4097, 70_000, 1 << 20, (4 << 20) + 1,
            ]
            var blocks: [UnsafeMutableRawPointer] = []
            for (index, size) in sizes.enumerated() {
                let block = try #require(pf_memory_allocate(size))
                #expect(UInt(bitPattern: block) % 64 == 0, "\(size) bytes")
                memset(block, Int32(index + 1), size)
                blocks.append(block)
            }
            for (index, size) in sizes.enumerated() {
                let bytes = UnsafeRawBufferPointer(start: blocks[index], count: size)
                #expect(bytes.allSatisfy { $0 == UInt8(index + 1) }, "\(size) bytes")
                pf_memory_release(blocks[index])
            }
            pf_memory_release(nil)
        }

        @Test("An impossible size gives NULL and changes nothing", arguments: [UInt.max, UInt.max - 63, UInt.max / 2])
        func impossible(bytes: UInt) async {
            await #expect(processExitsWith: .success) { [bytes = bytes as UInt] in
                let before = pf_memory_read_statistics()
                #expect(pf_memory_allocate(Int(bitPattern: bytes)) == nil)
                let after = pf_memory_read_statistics()
                #expect(after.live_bytes == before.live_bytes)
                #expect(after.system_allocations == before.system_allocations)
            }
        }

        @Test("Threads that allocate and release at once never share a block")
        func concurrency() async {
            await #expect(processExitsWith: .success) {
                let start = pf_memory_read_statistics()
                let clashes = await withTaskGroup(of: Int.self) { group in
                    for task in 0..<4 {
                        group.addTask {
                            var clashes = 0
                            for round in 0..<2000 {
                                let words = 1 + (round * 37 + task * 11) % 300
                                guard let memory = pf_memory_allocate(words * 4) else { return -1 }
                                let block = memory.bindMemory(to: Int32.self, capacity: words)
                                let tag = Int32(task * 10_000 + round)
                                for i in 0..<words { block[i] = tag }
                                for i in 0..<words where block[i] != tag { clashes += 1 }
                                pf_memory_release(memory)
                            }
                            return clashes
                        }
                    }
                    return await group.reduce(0, +)
                }
                #expect(clashes == 0)
                #expect(pf_memory_read_statistics().live_bytes == start.live_bytes)
            }
        }

        @Test("From the third step on no pass takes anything from the system")
        func steadyState() async {
            await #expect(processExitsWith: .success) {
                for isa in supportedInstructionSets {
                    for numerics in [pf_fast, pf_exact] {
                        let step = Step(context: pf_context(threads: 2, numerics: numerics, isa: isa))
                        step.run()
                        step.run()
                        let before = pf_memory_read_statistics()
                        for _ in 0..<3 { step.run() }
                        let after = pf_memory_read_statistics()
                        #expect(after.system_allocations == before.system_allocations, "\(name(of: isa)), \(numerics)")
                        #expect(after.live_bytes == before.live_bytes, "\(name(of: isa)), \(numerics)")
                    }
                }
            }
        }

        @Test("A pass takes no more than the workspace that it announces")
        func workspace() async {
            await #expect(processExitsWith: .success) {
                for index: Int64 in 0..<200 {
                    let problem = pf_convolution2d(ref_random_convolution(99, index))
                    let operands = ConvolutionOperands(problem)
                    for isa in supportedInstructionSets {
                        var context = pf_context(threads: 3, numerics: index % 2 == 0 ? pf_fast : pf_exact, isa: isa)
                        for pass in [
                            pf_pass_forward, pf_pass_input_gradient, pf_pass_weight_gradient, pf_pass_backward,
                        ] {
                            var announced = 0
                            let status = operands.call { problem, _ in
                                pf_convolution2d_workspace(&context, problem, pass, &announced)
                            }
                            #expect(status == pf_ok)
                            let taken = bytesTaken { _ = operands.call(pass, context: context) }
                            let what = "problem \(index), \(name(of: isa)), pass \(pass.rawValue)"
                            // A block's header and its size class add a quarter and 128 bytes at most.
                            let blocks = pass == pf_pass_backward ? 2 : 1
                            #expect(
                                taken <= announced + announced / 4 + blocks * 128,
                                "\(what): took \(taken) of \(announced) bytes"
                            )
                        }
                    }
                }
            }
        }

        /// Three passes of problems whose workspaces differ.
        struct Step {
            var context: pf_context
            let problems = [
                pf_convolution2d(batch: 4, channels: 16, height: 28, width: 28, outputs: 24, kernel: 3, padding: 1),
                pf_convolution2d(
                    batch: 2, channels: 24, height: 30, width: 31, outputs: 32, kernel: 5, stride: 2, padding: 2),
                pf_convolution2d(
                    batch: 2, channels: 32, height: 20, width: 20, outputs: 32, kernel: 3, padding: 1, groups: 32),
                pf_convolution2d(batch: 2, channels: 40, height: 20, width: 20, outputs: 17, kernel: 1),
            ]

            func run() {
                for problem in problems {
                    let operands = ConvolutionOperands(problem)
                    for status in operands.callAll(context: context) { #expect(status == pf_ok) }
                }
            }
        }
    }
}

/// How far `body` raised the arena's live bytes at most. Holds blocks until nothing but `body` can raise the peak.
private func bytesTaken(_ body: () -> Void) -> Int {
    let blockBytes = 1 << 18
    var blocks: [UnsafeMutableRawPointer?] = []
    var statistics = pf_memory_read_statistics()
    while statistics.live_bytes < statistics.peak_live_bytes {
        blocks.append(pf_memory_allocate(blockBytes))
        statistics = pf_memory_read_statistics()
    }
    body()
    let taken = pf_memory_read_statistics().peak_live_bytes - statistics.peak_live_bytes
    for block in blocks { pf_memory_release(block) }
    return Int(taken)
}
