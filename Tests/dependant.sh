#!/usr/bin/env bash
# Shows that another package can depend on a version of this one: clones HEAD, tags the clone, and builds and runs a
# small program that depends on the tag, trains with one frozen weight and checks it.
#
#   Tests/dependant.sh [-c release]        # options go to swift build
set -euo pipefail

repository=$(cd "$(dirname "$0")/.." && git rev-parse --show-toplevel)
version=1.0.0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

git clone --quiet "$repository" "$work/Permafrost"
git -C "$work/Permafrost" -c user.name=dependant -c user.email=dependant@localhost tag -f "$version" > /dev/null

mkdir -p "$work/Dependant/Sources/Dependant"
cat > "$work/Dependant/Package.swift" << MANIFEST
// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "Dependant",
    platforms: [.macOS(.v15)],
    dependencies: [.package(url: "file://$work/Permafrost", from: "$version")],
    targets: [
        .executableTarget(name: "Dependant", dependencies: [.product(name: "Permafrost", package: "Permafrost")])
    ]
)
MANIFEST

cat > "$work/Dependant/Sources/Dependant/main.swift" << 'PROGRAM'
import Permafrost

final class Net: Module {
    let conv1 = Conv2d(1, 4, 3)
    let head = Linear(4 * 6 * 6, 10)

    override func forward(_ input: Tensor) throws -> Tensor {
        try head(conv1(input).relu().flattened(startAxis: 1))
    }
}

manualSeed(1)
let batch = Digits.load().batch(at: 0..<64)
let net = Net()
try net.conv1.weight.freeze(at: [0, 0, 1, 1], to: 1)
let optimizer = try SGD(parameters: net.parameters(), learningRate: 0.1, momentum: 0.9, weightDecay: 1e-4)
let before = net.conv1.weight.value

var losses: [Float] = []
for _ in 0..<20 {
    let loss = try crossEntropy(net(batch.images), batch.labels)
    optimizer.zeroGrad()
    try loss.backward()
    try optimizer.step()
    losses.append(loss.item())
}

let frozen = net.conv1.weight[element: 0, 0, 1, 1]
let moved = zip(before.scalars, net.conv1.weight.value.scalars).count { $0 != $1 }
print("loss \(losses[0]) -> \(losses[19]), frozen element \(frozen), \(moved) of \(before.count) weights moved")
guard frozen == 1, moved == before.count - 1, losses[19] < losses[0] / 2 else {
    fatalError("expected the frozen element to be 1, the others to move and the loss to halve")
}
PROGRAM

cd "$work/Dependant"
swift build "$@"
swift run --skip-build "$@" Dependant
