// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A span of time in seconds of model time: wall time, unless a time scale is set for tests and demos.
package struct Seconds: Sendable, Hashable, Comparable, AdditiveArithmetic, Codable {
    package var rawValue: Double

    @inlinable package init(_ rawValue: Double) { self.rawValue = rawValue }
    @inlinable package init(milliseconds: Double) { self.rawValue = milliseconds / 1000 }

    @inlinable package var milliseconds: Double { rawValue * 1000 }

    @inlinable package static var zero: Seconds { Seconds(0) }
    @inlinable package static func + (a: Seconds, b: Seconds) -> Seconds { Seconds(a.rawValue + b.rawValue) }
    @inlinable package static func - (a: Seconds, b: Seconds) -> Seconds { Seconds(a.rawValue - b.rawValue) }
    @inlinable package static func * (a: Seconds, k: Double) -> Seconds { Seconds(a.rawValue * k) }
    @inlinable package static func / (a: Seconds, k: Double) -> Seconds { Seconds(a.rawValue / k) }
    @inlinable package static func < (a: Seconds, b: Seconds) -> Bool { a.rawValue < b.rawValue }

    package init(from decoder: any Decoder) throws {
        rawValue = try decoder.singleValueContainer().decode(Double.self)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }
}
