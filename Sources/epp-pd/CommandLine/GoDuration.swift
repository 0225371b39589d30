// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser

/// A duration as Go's flag package writes it: `50ms`, `1m30s`, `2h`, `0`. The reference picker's flags use this form.
///
/// Grammar (pkg.go.dev/time#ParseDuration): decimal numbers, each with a unit of `ns us µs ms s m h`; a bare `0` is
/// allowed. Negative durations are refused: none of our flags has a meaning for one.
struct GoDuration: Sendable, Hashable, ExpressibleByArgument, CustomStringConvertible {
    var seconds: Double

    init(seconds: Double) { self.seconds = seconds }

    init?(argument: String) {
        guard let seconds = Self.parse(argument) else { return nil }
        self.seconds = seconds
    }

    var description: String {
        if seconds < 1 { return "\(Self.number(seconds * 1000))ms" }
        if seconds >= 60, seconds.truncatingRemainder(dividingBy: 60) == 0 { return "\(Self.number(seconds / 60))m" }
        return "\(Self.number(seconds))s"
    }

    var defaultValueDescription: String { description }

    /// Longer than any deadline has a use for, and small enough to add to a clock without a second thought.
    private static let longest = 366.0 * 24 * 3600

    private static let units: [(name: String, seconds: Double)] = [
        ("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1), ("m", 60), ("h", 3600),
    ]

    private static func parse(_ text: String) -> Double? {
        if text == "0" { return 0 }
        var rest = text[...]
        var total = 0.0
        guard !rest.isEmpty else { return nil }
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && ($0.isNumber || $0 == ".") }
            guard let value = Double(digits) else { return nil }
            rest = rest[digits.endIndex...]
            let letters = rest.prefix { $0.isLetter }
            guard let unit = units.first(where: { $0.name == letters }) else { return nil }
            rest = rest[letters.endIndex...]
            total += value * unit.seconds
        }
        return total <= longest ? total : nil
    }

    private static func number(_ value: Double) -> String {
        value == value.rounded() ? String(Int(value)) : String(value)
    }
}
