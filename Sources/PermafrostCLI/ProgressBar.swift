import Foundation

/// One line on standard error that is rewritten while an epoch goes on. Where lines can't be rewritten it shows
/// nothing.
struct ProgressBar {
    private let terminal = Terminal.standardError
    private var lastDrawn: ContinuousClock.Instant?
    private var isVisible = false

    /// Draws the line, at most ten times a second.
    ///
    /// - Parameters:
    ///   - fraction: of the epoch, 0 to 1.
    ///   - details: parts of the line behind the bar; the last ones are left out where the terminal is narrow.
    mutating func update(label: String, fraction: Double, details: [String]) {
        guard terminal.isInteractive else { return }
        let now = ContinuousClock.now
        if let lastDrawn, now - lastDrawn < .milliseconds(100), fraction < 1 { return }
        lastDrawn = now
        isVisible = true
        writeToStandardError("\r\u{1b}[2K" + line(label: label, fraction: fraction, details: details))
    }

    /// Removes the line, to make room for others.
    mutating func clear() {
        if isVisible { writeToStandardError("\r\u{1b}[2K") }
        isVisible = false
        lastDrawn = nil
    }

    private func line(label: String, fraction: Double, details: [String]) -> String {
        // One column stays free: a cursor behind the last one wraps in some terminals.
        let width = terminal.width - 1
        let percent = String(format: "%3d %%", Int(fraction * 100))
        let smallestBar = 10
        var shown = details
        func length(_ bar: Int) -> Int {
            ([label, percent] + shown).reduce(0) { $0 + $1.count + 2 } + bar
        }
        while !shown.isEmpty && length(smallestBar) > width { shown.removeLast() }
        let barWidth = min(40, max(0, width - length(0)))
        let filled = Int(fraction * Double(barWidth))
        let (full, empty) = terminal.hasUnicode ? ("━", "─") : ("#", "-")
        var bar = String(repeating: full, count: filled)
        var rest = String(repeating: empty, count: barWidth - filled)
        if terminal.hasColor {
            bar = "\u{1b}[36m\(bar)\u{1b}[0m"
            rest = "\u{1b}[2m\(rest)\u{1b}[0m"
        }
        return String(([label, bar + rest, percent] + shown).joined(separator: "  "))
    }
}

/// 0:07, 12:40, 1:02:03.
func formatted(seconds: Double) -> String {
    let whole = Int(seconds.rounded(.up))
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60)
    return hours > 0
        ? String(format: "%d:%02d:%02d", hours, minutes, rest) : String(format: "%d:%02d", minutes, rest)
}

/// 12,345: with separators, independent of the locale.
func grouped(_ number: Int) -> String {
    let digits = String(abs(number))
    var result = ""
    for (position, digit) in digits.enumerated() {
        if position > 0 && (digits.count - position) % 3 == 0 { result.append(",") }
        result.append(digit)
    }
    return (number < 0 ? "-" : "") + result
}

/// 97.8 %
func percent(_ fraction: Double, digits: Int = 1) -> String {
    String(format: "%.\(digits)f %%", 100 * fraction)
}
