import Testing

@testable import Permafrost

@Suite struct AuditTests {
    @Test func countsWhatItCheckedAndFindsTheFirstThatMoved() throws {
        let parameter = Parameter(Tensor([0, 1, 2, 3, 4, 5], shape: [2, 3]))
        var audit = Audit()
        try audit.add(.at([.all, 1..<3]), of: parameter, named: "fc.weight")
        #expect(audit.report().changed == 0)
        #expect(audit.report().description == "4 elements checked, 0 changed")
        parameter[0, 0] = 9
        #expect(audit.report().changed == 0)
        parameter[1, 1..<3] = 9
        let report = audit.report()
        #expect(report.checked == 4 && report.changed == 2)
        let first = AuditEntry(
            parameter: "fc.weight", index: [1, 1], value: 4, bitsBefore: Float(4).bitPattern,
            bitsAfter: Float(9).bitPattern)
        #expect(report.firstChanged == first)
        #expect(report.entries.filter(\.isChanged).map(\.index) == [[1, 1], [1, 2]])
        #expect(report.description.contains("fc.weight[1,1]: 4.0 (0x40800000) became 9.0 (0x41100000)"))
    }

    @Test func comparesBitsAndNotValues() throws {
        let parameter = Parameter(Tensor([0, .nan]))
        var audit = Audit()
        try audit.add(.all, of: parameter, named: "a")
        parameter.value = Tensor([0, .nan])
        #expect(audit.report().changed == 0)
        parameter.value = Tensor([-0.0, .nan])
        #expect(audit.report().changed == 1)
    }

    @Test func findsEveryFrozenElementOfAModel() throws {
        let net = FreezingNet.seeded()
        try net.conv.weight.freeze(at: [0], to: 1)
        try net.fc.bias!.freeze(at: [2])
        let audit = Audit(ofFrozenIn: net.namedParameters())
        try net.train(AdamW(parameters: net.parameters()), steps: 0..<100)
        let report = audit.report()
        #expect(report.checked == 28 && report.changed == 0)
        #expect(report.entries.last?.parameter == "fc.bias")
        net.thaw()
        try net.train(AdamW(parameters: net.parameters()), steps: 0..<1)
        #expect(audit.report(entryLimit: 2).changed == 28)
        #expect(audit.report(entryLimit: 2).entries.count == 2)
    }

    @Test func comparesTensorsFromFiles() throws {
        var audit = Audit()
        try audit.add(.at([1]), of: .zeros([2, 2]), comparedWith: Tensor([[1, 0], [0, 1]]), named: "w")
        #expect(audit.report().firstChanged?.index == [1, 1])
        #expect(throws: FreezeError.self) {
            try audit.add(.all, of: .zeros([2, 2]), comparedWith: .zeros([4]), named: "w")
        }
    }
}
