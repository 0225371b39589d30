// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The cells of one histogram's series: how many observations fell at or below each bound, and their sum.
package struct HistogramCells: Sendable, Hashable {
    /// Ascending upper bounds; a last one of infinity is implied.
    package let bounds: [Double]
    /// One count per bound and one for the rest; not cumulative.
    package private(set) var counts: [UInt64]
    package private(set) var sum = 0.0

    package init(bounds: [Double]) {
        self.bounds = bounds
        counts = [UInt64](repeating: 0, count: bounds.count + 1)
    }

    /// Values that are no number are left out: one NaN would poison the sum for ever. All that is observed here is a
    /// span or a ratio: below zero it is zero.
    package mutating func observe(_ observed: Double) {
        guard observed.isFinite else { return }
        let value = max(observed, 0)
        var index = 0
        while index < bounds.count, value > bounds[index] { index += 1 }
        counts[index] &+= 1
        sum += value
    }

    package var total: UInt64 { counts.reduce(0, &+) }
}

/// Bounds of the histograms. Each spans what its quantity can be in practice, in steps of 2 to 2.5.
enum Buckets {
    static let decision = [
        5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 0.001, 0.0025, 0.005, 0.01, 0.1,
    ]
    static let ttft = [0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 3, 5, 8, 12, 20, 30, 60, 120, 300]
    static let tpot = [0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2]
    static let duration = [0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300, 600, 1800, 3600]
    /// Around 1, where a prediction is right.
    static let ratio = [0.1, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.2, 1.4, 2, 4, 10]
}
