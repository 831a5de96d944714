import Foundation

/// The times of convolutions' passes.
struct ConvolutionReport: Report, Codable {
    struct Row: Codable {
        let suite, layer: String
        let batch, threads: Int
        let pass: Pass
        let ours_ms: Double
        /// The peer's better layout.
        let peer_ms: Double?
        let peer_layout: Layout?
        /// The peer's time over ours: the median over the rounds, and its quartiles.
        let ratio, ratio_lower, ratio_upper: Double?
        let gigaflops, percent_of_peak: Double
        let algorithm: String
        /// Of the result against the reference, over the reference's largest value.
        let max_error: Double
        let peer_max_error: Double?
    }

    static let columns = [
        "suite", "layer", "batch", "threads", "pass", "ours_ms", "peer_ms", "peer_layout", "ratio", "ratio_lower",
        "ratio_upper", "gigaflops", "percent_of_peak", "algorithm", "max_error", "peer_max_error",
    ]

    let isa: String
    let numerics: NumericsName
    let threads: Int
    let peak_gigaflops, stream_gigabytes_per_second: Double
    let peer: Peer.Greeting?
    var rows: [Row]
    /// By pass: over the suites, of each suite's geometric mean of ratios.
    let geomean: [String: Double]
    /// By suite, then by pass.
    let suites: [String: [String: Double]]
    /// Layers of one kind, over all suites: by kind, then by pass.
    let classes: [String: [String: Double]]

    init(
        isa: String, numerics: NumericsName, threads: Int, peak: Double, bandwidth: Double, peer: Peer.Greeting?,
        rows: [Row]
    ) {
        (self.isa, self.numerics, self.threads, self.peer, self.rows) = (isa, numerics, threads, peer, rows)
        (peak_gigaflops, stream_gigabytes_per_second) = (peak / 1e9, bandwidth / 1e9)
        suites = Dictionary(grouping: rows, by: \.suite).mapValues(meansByPass)
        geomean = Dictionary(
            uniqueKeysWithValues: Pass.allCases.compactMap { [suites] pass in
                let means = suites.values.compactMap { $0[pass.rawValue] }
                return means.isEmpty ? nil : (pass.rawValue, geometricMean(means))
            })
        var kinds: [String: [Row]] = [:]
        for row in rows {
            guard let layer = try? Layer(row.layer, batch: row.batch) else { continue }
            for kind in layer.kinds { kinds[kind, default: []].append(row) }
        }
        classes = kinds.mapValues(meansByPass)
    }

    var text: String {
        var table = TextTable(
            ["layer", "batch", "pass", "ms"] + (peer.map { ["\($0.name) ms", "ratio", "quartiles"] } ?? [])
                + ["GFLOP/s", "% of peak", "algorithm", "max error"] + (peer == nil ? [] : ["its error"]), left: 1)
        for row in rows { table.add(cells(row)) }
        var parts = [
            "\(isa), \(threads) threads, numerics \(numerics.rawValue), peak \(fixed(peak_gigaflops, 0)) GFLOP/s, "
                + "stream \(fixed(stream_gigabytes_per_second, 0)) GB/s", "\(table)",
        ]
        if let means { parts.append("Geometric means of the ratios\n\n\(means)") }
        return parts.joined(separator: "\n\n")
    }

    private func cells(_ row: Row) -> [String] {
        var cells = [row.layer, "\(row.batch)", row.pass.rawValue, fixed(row.ours_ms, 3)]
        if let time = row.peer_ms, let ratio = row.ratio, let lower = row.ratio_lower, let upper = row.ratio_upper {
            cells += [fixed(time, 3), fixed(ratio, 2), "\(fixed(lower, 2))-\(fixed(upper, 2))"]
        }
        cells += [
            fixed(row.gigaflops, 0), fixed(row.percent_of_peak, 0), row.algorithm,
            String(format: "%.1e", row.max_error),
        ]
        return cells + (row.peer_max_error.map { [String(format: "%.1e", $0)] } ?? [])
    }

    /// Suites, kinds of layers, and all together; nil without a peer.
    private var means: TextTable? {
        guard !geomean.isEmpty else { return nil }
        var table = TextTable(["over"] + Pass.allCases.map(\.rawValue), left: 1)
        func add(_ name: String, _ means: [String: Double]) {
            table.add([name] + Pass.allCases.map { means[$0.rawValue].map { fixed($0, 2) } ?? "-" })
        }
        for suite in Suite.all.map(\.name) { suites[suite].map { add(suite, $0) } }
        for kind in classes.keys.sorted() { add(kind, classes[kind]!) }
        add("all suites", geomean)
        return table
    }

    var html: String {
        var parts = [
            "<h1>Convolutions" + (peer.map { " against \($0.name) \($0.version)" } ?? "") + "</h1>",
            "<p>\(isa), \(threads) threads, numerics \(numerics.rawValue)</p>", passKey(),
        ]
        if peer != nil {
            if let means { parts.append("<h2>Geometric means</h2>\n\(means.html)") }
            for (suite, rows) in inOrder(of: \.suite) {
                parts.append("<h2>\(escaped(suite.isEmpty ? "Layers" : suite)): the peer's time over ours</h2>")
                parts.append(BarChart(groups: bars(rows)).svg)
            }
        }
        let points = rows.compactMap { row -> RooflineChart.Point? in
            guard let layer = try? Layer(row.layer, batch: row.batch) else { return nil }
            return .init(
                label: row.layer, intensity: layer.operations / layer.bytes, gigaflops: row.gigaflops, pass: row.pass)
        }
        parts.append(
            """
            <h2>Roofline</h2>
            <p>Peak \(fixed(peak_gigaflops, 0)) GFLOP/s, stream \(fixed(stream_gigabytes_per_second, 0)) GB/s. \
            Operations are those of direct convolution: an algorithm with fewer multiplications may lie above the \
            roof.</p>
            """)
        parts.append(RooflineChart(points: points, peak: peak_gigaflops, bandwidth: stream_gigabytes_per_second).svg)
        var table = TextTable(Self.columns, left: 2)
        for row in rows {
            table.add([
                row.suite, row.layer, "\(row.batch)", "\(row.threads)", row.pass.rawValue, fixed(row.ours_ms, 3),
                row.peer_ms.map { fixed($0, 3) } ?? "", row.peer_layout?.rawValue ?? "",
                row.ratio.map { fixed($0, 2) } ?? "", row.ratio_lower.map { fixed($0, 2) } ?? "",
                row.ratio_upper.map { fixed($0, 2) } ?? "", fixed(row.gigaflops, 0), fixed(row.percent_of_peak, 0),
                row.algorithm, String(format: "%.1e", row.max_error),
                row.peer_max_error.map { String(format: "%.1e", $0) } ?? "",
            ])
        }
        return parts.joined(separator: "\n") + "\n<h2>All figures</h2>\n" + table.html
    }

    /// Rows in groups of equal keys, in the order of first appearance.
    private func inOrder(of key: (Row) -> String) -> [(String, [Row])] {
        var order: [String] = [], groups: [String: [Row]] = [:]
        for row in rows {
            if groups[key(row)] == nil { order.append(key(row)) }
            groups[key(row), default: []].append(row)
        }
        return order.map { ($0, groups[$0]!) }
    }

    private func bars(_ rows: [Row]) -> [(label: String, bars: [BarChart.Bar])] {
        var order: [String] = [], groups: [String: [BarChart.Bar]] = [:]
        for row in rows {
            guard let ratio = row.ratio, let lower = row.ratio_lower, let upper = row.ratio_upper else { continue }
            let label = "\(row.batch) x \(row.layer)"
            if groups[label] == nil { order.append(label) }
            groups[label, default: []].append(.init(value: ratio, spread: lower...max(lower, upper), pass: row.pass))
        }
        return order.map { ($0, groups[$0]!) }
    }
}

extension Layer {
    /// What kinds of layers it belongs to whose means are of interest.
    var kinds: [String] {
        var kinds: [String] = []
        let isUnit = stride.height == 1 && stride.width == 1 && dilation.height == 1 && dilation.width == 1
        if isUnit, kernel.height == 3, kernel.width == 3, groups == 1, inputChannels >= 32, outputChannels >= 32 {
            kinds.append("3x3, 32 channels or more")
        }
        if groups == inputChannels, groups > 1 { kinds.append("depthwise \(kernel.height)x\(kernel.width)") }
        if groups == 32, inputChannels == 128, outputChannels == 128 { kinds.append("grouped 32 x 4") }
        if inputChannels <= 4 { kinds.append("up to 4 channels") }
        if kernel.height == 1, kernel.width == 1, groups == 1 { kinds.append("1x1") }
        return kinds
    }

    /// Of its three tensors, each once.
    var bytes: Double { 4 * Double(inputCount + weightCount + outputCount) }
}

func geometricMean(_ values: [Double]) -> Double {
    exp(values.reduce(0) { $0 + log($1) } / Double(values.count))
}

private func meansByPass(_ rows: [ConvolutionReport.Row]) -> [String: Double] {
    Dictionary(grouping: rows, by: \.pass.rawValue).compactMapValues { rows in
        let ratios = rows.compactMap(\.ratio)
        return ratios.isEmpty ? nil : geometricMean(ratios)
    }
}
