import Testing

@testable import Permafrost

@Suite struct FreezeSpecificationTests {
    private func parameters() -> [(name: String, parameter: Parameter)] {
        [("conv1.weight", Parameter(.zeros([2, 3, 3, 3]))), ("conv1.bias", Parameter(.zeros([2])))]
    }

    private func frozen(_ text: String) throws -> (indices: [[Int]], values: [Float]) {
        let parameters = parameters()
        let specification = try FreezeSpecification(parsing: text)
        try specification.apply(to: parameters)
        let mask = try #require(try specification.find(in: parameters).gradientMask)
        return (mask.frozenIndices, mask.frozenValues)
    }

    private func message(_ text: String) -> String {
        do {
            try FreezeSpecification(parsing: text).apply(to: parameters())
        } catch {
            return "\(error)"
        }
        return "nothing was thrown"
    }

    @Test func oneElementAndItsValue() throws {
        #expect(try frozen("conv1.weight[0,1,2,1]=1") == ([[0, 1, 2, 1]], [1]))
        #expect(try frozen(" conv1.weight [ -1, 0, 0, -2 ] = -2.5e-1 ") == ([[1, 0, 0, 1]], [-0.25]))
        #expect(try frozen("conv1.bias[1]") == ([[1]], [0]))
    }

    @Test func slicesAreNumPys() throws {
        let centres = try frozen("conv1.weight[:,:,1,1]=-1")
        #expect(centres.indices == (0..<2).flatMap { o in (0..<3).map { [o, $0, 1, 1] } })
        #expect(centres.values == Array(repeating: -1, count: 6))
        #expect(try frozen("conv1.weight[0,0,::2,0]=1").indices == [[0, 0, 0, 0], [0, 0, 2, 0]])
        #expect(try frozen("conv1.weight[0,0,0,::-2]=1").indices == [[0, 0, 0, 0], [0, 0, 0, 2]])
        #expect(try frozen("conv1.weight[0,0,0,-2:]=1").indices == [[0, 0, 0, 1], [0, 0, 0, 2]])
        #expect(try frozen("conv1.weight[0,0,0,1:100]=1").indices == [[0, 0, 0, 1], [0, 0, 0, 2]])
        #expect(try frozen("conv1.weight[0,0,0,-100:1]=1").indices == [[0, 0, 0, 0]])
        #expect(try frozen("conv1.weight[...,0]=1").indices.count == 18)
        #expect(try frozen("conv1.weight[1,...,0,0]=1").indices == [[1, 0, 0, 0], [1, 1, 0, 0], [1, 2, 0, 0]])
        #expect(try frozen("conv1.weight[0]=1").indices.count == 27)
        #expect(try frozen("conv1.bias=3") == ([[0], [1]], [3, 3]))
    }

    @Test func errorsNameWhatIsWrong() {
        let unknown = message("conv9.weight[0]=1")
        #expect(unknown.contains("there is no parameter 'conv9.weight'; there are conv1.weight, conv1.bias"))
        let outside = message("conv1.weight[0,3,0,0]=1")
        #expect(outside.contains("'conv1.weight[0,3,0,0]=1'"))
        #expect(outside.contains("index 3 is out of range for axis 1 of size 3"))
        #expect(message("conv1.weight[-3,0,0,0]=1").contains("axis 0 of size 2"))
        #expect(message("conv1.weight[0,0,0,0,0]=1").contains("5 indices"))
        #expect(message("conv1.weight[0,0,...,0,0,0]=1").contains("5 indices"))
        #expect(message("conv1.weight[...,0,...]=1").contains("only once"))
        #expect(message("conv1.weight[2:1]=1").contains("matches no element"))
        #expect(message("conv1.weight[5:]=1").contains("matches no element"))
        #expect(message("conv1.weight[::0]=1").contains("'::0' is neither"))
        #expect(message("conv1.weight[1:2:3:4]=1").contains("is neither"))
        #expect(message("conv1.weight[a]=1").contains("'a' is neither"))
        #expect(message("conv1.weight[]=1").contains("'' is neither"))
        #expect(message("conv1.weight[0,]=1").contains("'' is neither"))
        #expect(message("conv1.weight[99999999999999999999]=1").contains("is neither"))
        for value in ["nan", "inf", "-infinity", "1e39", "one", "0,5", ""] {
            #expect(message("conv1.bias[0]=\(value)").contains("'\(value)' is no finite number"))
        }
        for text in ["", "=1", "[0]=1", "conv1.bias[0", "conv1.bias]0[=1", "conv1.bias[0]x=1", "conv1.bias]=1"] {
            #expect(message(text).contains("expected a parameter, indices in brackets and a value"), "\(text)")
        }
    }

    @Test(arguments: FreezeMethod.allCases)
    func twoValuesForOneElementLeaveNothingFrozen(method: FreezeMethod) throws {
        let net = FreezingNet.seeded()
        let specifications = try ["conv.weight[0]=1", "conv.weight[0,1,2,1]=2"].map(FreezeSpecification.init(parsing:))
        let error = #expect(throws: FreezeError.self) { try specifications.apply(to: net, method: method) }
        #expect(error?.message.contains("conv.weight[0,1,2,1] can't be frozen both at 1.0 and at 2.0") == true)
        #expect(net.conv.weight.freezes.isEmpty)
        #expect(net.conv.registeredHooks().isEmpty)
    }

    @Test(arguments: FreezeMethod.allCases)
    func everyMethodHoldsUnderPlainSGDAndIsUndoneByItsHandle(method: FreezeMethod) throws {
        let net = FreezingNet.seeded()
        let texts = ["conv.weight[0,1,2,1]=1", "fc.bias=0.5"]
        let handles = try texts.map(FreezeSpecification.init(parsing:)).apply(to: net, method: method)
        let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.05)
        try net.train(optimizer, steps: 0..<100)
        if method == .pin { try net.accumulate(batch: 0) }  // its hooks write before a forward pass
        #expect(net.conv.weight[element: 0, 1, 2, 1] == 1)
        #expect(net.fc.bias!.value.scalars == Array(repeating: 0.5, count: 5))
        for handle in handles { handle.remove() }
        try net.train(optimizer, steps: 100..<101)
        #expect(net.conv.weight[element: 0, 1, 2, 1] != 1)
        #expect(net.fc.bias!.value.scalars.allSatisfy { $0 != 0.5 })
    }
}
