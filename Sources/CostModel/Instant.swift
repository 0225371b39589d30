// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A moment, in seconds of model time since an origin that the process chose at start. Monotonic.
package struct Instant: Sendable, Hashable, Comparable, Codable {
    package var rawValue: Double

    @inlinable package init(_ rawValue: Double) { self.rawValue = rawValue }

    package static var origin: Instant { Instant(0) }
    @inlinable package static func + (a: Instant, d: Seconds) -> Instant { Instant(a.rawValue + d.rawValue) }
    @inlinable package static func - (a: Instant, d: Seconds) -> Instant { Instant(a.rawValue - d.rawValue) }
    @inlinable package static func - (a: Instant, b: Instant) -> Seconds { Seconds(a.rawValue - b.rawValue) }
    @inlinable package static func < (a: Instant, b: Instant) -> Bool { a.rawValue < b.rawValue }

    package init(from decoder: any Decoder) throws {
        rawValue = try decoder.singleValueContainer().decode(Double.self)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }
}
