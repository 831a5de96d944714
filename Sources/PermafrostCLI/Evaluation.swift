import Permafrost

/// How well a network names images that it hasn't learned from.
struct Evaluation {
    let correct: Int
    let count: Int
    /// Mean cross-entropy.
    let loss: Double

    var accuracy: Double { Double(correct) / Double(count) }

    init(_ model: Module, on dataset: Dataset) throws {
        model.eval()
        defer { model.train() }
        (correct, loss) = try noGrad {
            var correct = 0
            var loss = 0.0
            for batch in DataLoader(dataset, batchSize: 250) {
                let logits = try model(batch.images)
                loss += Double(try crossEntropy(logits, batch.labels, reduction: .sum).item())
                correct += countCorrect(logits, batch.labels)
            }
            return (correct, loss / Double(dataset.count))
        }
        count = dataset.count
    }
}

/// How many rows of logits have their largest element at the label.
func countCorrect(_ logits: Tensor, _ labels: [Int32]) -> Int {
    zip(logits.argmax(), labels).count { $0 == $1 }
}
