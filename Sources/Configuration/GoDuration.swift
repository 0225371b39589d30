// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Durations as Go writes them: `50ms`, `1m30s`, `1.5h`, `0`. Flags of the reference picker take this form.
package enum GoDuration {
    package static let allowed = "a duration such as 50ms, 2s or 1m30s"

    /// Longer is an error: nothing here waits for more than a year, and the sum stays finite.
    private static let longest = 366.0 * 86_400

    /// - Returns: nil where the text is no duration, or its magnitude is beyond a year.
    package static func parse(_ text: some StringProtocol) -> Seconds? {
        var rest = Substring(text)
        var sign = 1.0
        if rest.hasPrefix("-") { sign = -1 }
        if rest.hasPrefix("-") || rest.hasPrefix("+") { rest.removeFirst() }
        if rest == "0" { return .zero }
        guard !rest.isEmpty else { return nil }
        var total = 0.0
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
            guard !digits.isEmpty, let number = Double(digits) else { return nil }
            rest.removeFirst(digits.count)
            let name = rest.prefix { !($0.isASCII && ($0.isNumber || $0 == ".")) }
            guard let unit = seconds(of: name) else { return nil }
            rest.removeFirst(name.count)
            total += number * unit
        }
        guard total <= longest else { return nil }
        return Seconds(sign * total)
    }

    private static func seconds(of unit: Substring) -> Double? {
        switch unit {
        case "ns": 1e-9
        case "us", "\u{00B5}s", "\u{03BC}s": 1e-6
        case "ms": 1e-3
        case "s": 1
        case "m": 60
        case "h": 3600
        default: nil
        }
    }
}
