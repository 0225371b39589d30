// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// Where the need goes: a straight line through its last minutes.
struct NeedTrend: Sendable {
    static let length = Seconds(180)
    private static let step = Seconds(5)
    /// A line through less is a line through noise.
    private static let shortest = Seconds(60)
    /// Growth below this share of the mean per `length` counts as none; what is above counts as far as it is above, so
    /// that two replicas with almost the same line say almost the same.
    private static let noise = 0.1
    /// No more than doubles the need, as the line has it now: one reading would be doubled with its noise.
    private static let greatestGrowth = 1.0

    /// At most `length / step + 1`.
    private var points: [(at: Double, need: Double)] = []

    mutating func add(_ need: Double, at now: Instant) {
        // At whole steps of the clock: replicas take their points at the same moments.
        func step(_ time: Double) -> Double { (time / Self.step.rawValue).rounded(.down) }
        if let last = points.last, step(now.rawValue) <= step(last.at) { return }
        points.append((now.rawValue, need))
        points.removeAll { now.rawValue - $0.at > Self.length.rawValue }
    }

    /// How much more will be needed after `lead`. Never negative: pods leave by the need itself.
    func growth(over lead: Seconds) -> Double {
        guard let first = points.first, let last = points.last, last.at - first.at >= Self.shortest.rawValue else {
            return 0
        }
        let count = Double(points.count)
        let meanAt = points.reduce(0) { $0 + $1.at } / count
        let mean = points.reduce(0) { $0 + $1.need } / count
        var product = 0.0
        var square = 0.0
        for point in points {
            product += (point.at - meanAt) * (point.need - mean)
            square += (point.at - meanAt) * (point.at - meanAt)
        }
        guard square > 0 else { return 0 }
        let steepness = product / square
        let slope = max(steepness - Self.noise * mean / Self.length.rawValue, 0)
        let need = max(mean + steepness * (last.at - meanAt), 0)
        return min(slope * lead.rawValue, Self.greatestGrowth * need)
    }
}
