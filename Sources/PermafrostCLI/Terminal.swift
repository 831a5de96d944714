import Foundation

/// What standard error is connected to.
struct Terminal {
    /// Whether lines can be rewritten.
    let isInteractive: Bool
    let hasColor: Bool
    let hasUnicode: Bool

    static let standardError: Terminal = {
        let environment = ProcessInfo.processInfo.environment
        let isInteractive = isatty(STDERR_FILENO) == 1 && environment["TERM"] != "dumb"
        // The first of these that isn't empty decides, as for the C library.
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].lazy.compactMap { environment[$0] }.first { !$0.isEmpty } ?? ""
        return Terminal(
            isInteractive: isInteractive,
            // https://no-color.org: present and not empty.
            hasColor: isInteractive && (environment["NO_COLOR"] ?? "").isEmpty,
            hasUnicode: locale.uppercased().contains("UTF-8") || locale.uppercased().contains("UTF8"))
    }()

    /// In characters; asked for anew, since windows change.
    var width: Int {
        var size = winsize()
        if ioctl(STDERR_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 { return Int(size.ws_col) }
        return ProcessInfo.processInfo.environment["COLUMNS"].flatMap(Int.init) ?? 80
    }
}
