// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// An amount of money in United States dollars.
package struct Dollars: Sendable, Hashable, Comparable, AdditiveArithmetic, Codable {
    package var rawValue: Double

    @inlinable package init(_ rawValue: Double) { self.rawValue = rawValue }

    @inlinable package static var zero: Dollars { Dollars(0) }
    @inlinable package static func + (a: Dollars, b: Dollars) -> Dollars { Dollars(a.rawValue + b.rawValue) }
    @inlinable package static func - (a: Dollars, b: Dollars) -> Dollars { Dollars(a.rawValue - b.rawValue) }
    @inlinable package static func * (a: Dollars, k: Double) -> Dollars { Dollars(a.rawValue * k) }
    @inlinable package static func < (a: Dollars, b: Dollars) -> Bool { a.rawValue < b.rawValue }

    package init(from decoder: any Decoder) throws {
        rawValue = try decoder.singleValueContainer().decode(Double.self)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }
}
