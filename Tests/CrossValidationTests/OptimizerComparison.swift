import Permafrost
import Testing

/// A given sequence of gradients through each optimizer: the values every so many steps.
func compareOptimizers(_ goldens: Goldens) throws {
    for golden in try goldens.cases("optimizer") {
        let setting = try OptimizerSetting(golden)
        let parameter = Parameter(try golden.tensor("before"))
        let gradients = try golden.tensor("gradients"), after = try golden.tensor("after")
        let every = Int(try golden.number("every")), steps = gradients.shape[0]
        let optimizer = try setting.make([parameter])
        var formulas = parameter.value.scalars.map { OptimizerFormula(setting, value: $0) }
        for step in 0..<steps {
            let gradient = gradients[step]
            parameter.grad = gradient
            try optimizer.step()
            for (element, scalar) in gradient.scalars.enumerated() {
                formulas[element].step(gradient: Bounded(scalar))
            }
            if (step + 1) % every == 0 {
                expect(
                    parameter.value, and: after[step / every], within: formulas.map(\.value),
                    "value after \(step + 1) steps", of: golden)
            }
        }
    }
}

extension OptimizerSetting {
    fileprivate init(_ golden: GoldenCase) throws {
        let text = try golden.text("optimizer")
        self.init(name: try #require(Name(rawValue: text), "\(golden)"))
        for (option, setting) in golden.entry.settings where option != "optimizer" && option != "every" {
            switch setting {
            case .number(let number): options[option] = number
            case .flag(true): flags.insert(option)
            case .flag(false): break
            case .numbers(let betas) where option == "betas":
                (options["beta1"], options["beta2"]) = (betas[0], betas[1])
            default: Issue.record("\(golden): \(option) isn't a setting of an optimizer")
            }
        }
    }
}
