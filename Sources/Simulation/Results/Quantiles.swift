// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Quantiles of a sample by linear interpolation between order statistics (Hyndman and Fan, type 7).
package struct Quantiles: Sendable, Hashable {
    package let sorted: [Double]
    package let mean: Double

    package init(_ values: [Double]) {
        sorted = values.sorted()
        mean = values.isEmpty ? 0 : values.reduce(0, +) / Double(values.count)
    }

    package subscript(_ share: Double) -> Double {
        guard let last = sorted.last else { return 0 }
        let place = min(max(share, 0), 1) * Double(sorted.count - 1)
        let index = Int(place)
        guard index + 1 < sorted.count else { return last }
        return sorted[index] + (place - Double(index)) * (sorted[index + 1] - sorted[index])
    }
}
