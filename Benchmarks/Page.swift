import Foundation

/// A page of its own: styles and charts are part of it, so that it can be sent as one file.
func page(_ body: String) -> String {
    """
    <!DOCTYPE html>
    <html lang="en">
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>permafrost-bench</title>
    <style>
    :root { color-scheme: light dark; --ink: #1b2a38; --dim: #6b7a88; --line: #d8dfe5; --paper: #ffffff;
      --forward: #2b7bba; --input_gradient: #3a9d8f; --weight_gradient: #c2713d; }
    @media (prefers-color-scheme: dark) { :root { --ink: #e3e9ee; --dim: #93a1ad; --line: #33414d; --paper: #141b21;
      --forward: #5aa5dd; --input_gradient: #5cc2b3; --weight_gradient: #e09560; } }
    body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2em auto;
      max-width: 64em; padding: 0 1em; }
    h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
    p, .key { color: var(--dim); }
    svg { display: block; max-width: 100%; height: auto; }
    svg text { font: 11px system-ui, sans-serif; fill: var(--ink); } svg .dim { fill: var(--dim); }
    svg .grid { stroke: var(--line); } svg .one { stroke: var(--ink); stroke-dasharray: 3 3; }
    svg .roof { stroke: var(--dim); fill: none; stroke-width: 1.5; }
    .forward { fill: var(--forward); } .input_gradient { fill: var(--input_gradient); }
    .weight_gradient { fill: var(--weight_gradient); }
    .key i { display: inline-block; width: .8em; height: .8em; margin: 0 .4em 0 1em; border-radius: 2px; }
    table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9em; }
    th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
    .left { text-align: left; }
    </style>
    \(body)
    </html>
    """
}

func escaped(_ text: String) -> String {
    text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
}

/// The colours of the passes.
func passKey() -> String {
    "<p class=\"key\">"
        + Pass.allCases.map { pass in
            "<i style=\"background: var(--\(pass.rawValue))\"></i>\(pass.rawValue.replacing("_", with: " "))"
        }.joined() + "</p>"
}

/// Horizontal bars in groups, on a scale that starts at 0; a dashed line marks 1.
struct BarChart {
    struct Bar {
        let value: Double
        /// The ends of a thin line over the bar.
        var spread: ClosedRange<Double>?
        /// The colour.
        let pass: Pass
    }

    let groups: [(label: String, bars: [Bar])]

    var svg: String {
        let thickness = 7.0, gap = 9.0, left = 200.0, width = 560.0, top = 18.0
        let largest = max(1, groups.flatMap(\.bars).map { max($0.value, $0.spread?.upperBound ?? 0) }.max() ?? 1)
        let scale = width / largest
        var y = top, marks: [String] = []
        for group in groups {
            let height = Double(group.bars.count) * thickness
            marks.append(
                "<text x=\"\(left - 8)\" y=\"\(fixed(y + height / 2 + 4, 1))\" text-anchor=\"end\">"
                    + "\(escaped(group.label))</text>")
            for bar in group.bars {
                let length = bar.value * scale
                marks.append(
                    "<rect class=\"\(bar.pass.rawValue)\" x=\"\(left)\" y=\"\(fixed(y, 1))\" "
                        + "width=\"\(fixed(length, 1))\" height=\"\(thickness - 1)\"><title>\(bar.pass.rawValue) "
                        + "\(fixed(bar.value, 2))</title></rect>")
                if let spread = bar.spread {
                    let middle = fixed(y + (thickness - 1) / 2, 1)
                    marks.append(
                        "<line class=\"grid\" x1=\"\(fixed(left + spread.lowerBound * scale, 1))\" y1=\"\(middle)\" "
                            + "x2=\"\(fixed(left + spread.upperBound * scale, 1))\" y2=\"\(middle)\"/>")
                }
                y += thickness
            }
            y += gap
        }
        let bottom = fixed(y - gap + 4, 1)
        let lines = stride(from: 0, through: largest, by: gridStep(largest)).map { value in
            let x = fixed(left + value * scale, 1)
            return "<line class=\"grid\" x1=\"\(x)\" y1=\"\(top - 4)\" x2=\"\(x)\" y2=\"\(bottom)\"/>"
                + "<text class=\"dim\" x=\"\(x)\" y=\"\(top - 7)\" text-anchor=\"middle\">\(fixed(value, 0))</text>"
        }
        let one = fixed(left + scale, 1)
        marks.append("<line class=\"one\" x1=\"\(one)\" y1=\"\(top - 4)\" x2=\"\(one)\" y2=\"\(bottom)\"/>")
        return "<svg viewBox=\"0 0 \(left + width + 20) \(fixed(y, 0))\" role=\"img\">\n"
            + (lines + marks).joined(separator: "\n") + "\n</svg>"
    }
}

/// The smallest of 1, 2, 5, 10, 20, 50, ... that fits at most ten times.
private func gridStep(_ largest: Double) -> Double {
    var power = 1.0
    while true {
        for digit in [1.0, 2, 5] where largest <= 10 * digit * power { return digit * power }
        power *= 10
    }
}

/// Rates over arithmetic intensity, both on logarithmic scales, under the roof that peak and bandwidth make.
struct RooflineChart {
    struct Point {
        let label: String
        /// Operations a byte.
        let intensity: Double
        let gigaflops: Double
        let pass: Pass
    }

    let points: [Point]
    let peak, bandwidth: Double  // GFLOP/s, GB/s

    var svg: String {
        let left = 52.0, top = 14.0, width = 700.0, height = 360.0
        let intensities = points.map(\.intensity) + [peak / bandwidth]
        let rates = points.map(\.gigaflops) + [peak]
        let x0 = floor10(intensities.min()!), x1 = ceiling10(intensities.max()!)
        let y0 = floor10(rates.min()!), y1 = ceiling10(rates.max()!)
        func x(_ intensity: Double) -> String {
            fixed(left + width * logarithm(intensity / x0) / logarithm(x1 / x0), 1)
        }
        func y(_ rate: Double) -> String {
            fixed(top + height * (1 - logarithm(rate / y0) / logarithm(y1 / y0)), 1)
        }
        var marks: [String] = []
        var value = x0
        while value <= x1 * 1.01 {
            marks.append(
                "<line class=\"grid\" x1=\"\(x(value))\" y1=\"\(y(y0))\" x2=\"\(x(value))\" y2=\"\(y(y1))\"/>"
                    + "<text class=\"dim\" x=\"\(x(value))\" y=\"\(top + height + 16)\" text-anchor=\"middle\">"
                    + "\(value < 1 ? "\(value)" : fixed(value, 0))</text>")
            value *= 10
        }
        value = y0
        while value <= y1 * 1.01 {
            marks.append(
                "<line class=\"grid\" x1=\"\(x(x0))\" y1=\"\(y(value))\" x2=\"\(x(x1))\" y2=\"\(y(value))\"/>"
                    + "<text class=\"dim\" x=\"\(left - 6)\" y=\"\(y(value))\" dy=\"4\" text-anchor=\"end\">"
                    + "\(value < 1 ? "\(value)" : fixed(value, 0))</text>")
            value *= 10
        }
        let start = max(x0, y0 / bandwidth)
        marks.append(
            "<polyline class=\"roof\" points=\"\(x(start)),\(y(start * bandwidth)) \(x(peak / bandwidth)),\(y(peak)) "
                + "\(x(x1)),\(y(peak))\"/>")
        for point in points {
            marks.append(
                "<circle class=\"\(point.pass.rawValue)\" cx=\"\(x(point.intensity))\" cy=\"\(y(point.gigaflops))\" "
                    + "r=\"3.5\"><title>\(escaped(point.label)) \(point.pass.rawValue): \(fixed(point.gigaflops, 0)) "
                    + "GFLOP/s</title></circle>")
        }
        marks.append(
            "<text class=\"dim\" x=\"\(left + width)\" y=\"\(top + height + 32)\" text-anchor=\"end\">"
                + "operations a byte</text>"
                + "<text class=\"dim\" x=\"\(left + 4)\" y=\"\(top + 10)\">GFLOP/s</text>")
        return "<svg viewBox=\"0 0 \(left + width + 20) \(top + height + 40)\" role=\"img\">\n"
            + marks.joined(separator: "\n") + "\n</svg>"
    }

    private func logarithm(_ value: Double) -> Double { Foundation.log10(value) }
    private func floor10(_ value: Double) -> Double { Foundation.pow(10, Foundation.log10(value).rounded(.down)) }
    private func ceiling10(_ value: Double) -> Double { Foundation.pow(10, Foundation.log10(value).rounded(.up)) }
}
