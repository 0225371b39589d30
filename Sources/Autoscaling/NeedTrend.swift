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
    /// No more than doubles what is needed now.
    private static let greatestGrowth = 1.0

    /// At most `length / step + 1`.
    private var points: [(at: Double, need: Double)] = []

    mutating func add(_ need: Double, at now: Instant) {
        if let last = points.last, now.rawValue - last.at < Self.step.rawValue { return }
        points.append((now.rawValue, need))
        points.removeAll { now.rawValue - $0.at > Self.length.rawValue }
    }

    /// How much more will be needed after `lead`. Never negative: pods leave by the need itself.
    func growth(over lead: Seconds, now need: Double) -> Double {
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
        let slope = product / square - Self.noise * mean / Self.length.rawValue
        return min(max(slope, 0) * lead.rawValue, Self.greatestGrowth * need)
    }
}
