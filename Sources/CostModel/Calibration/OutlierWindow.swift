// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Which of the recent observations were outliers, to tell a pod whose predictions have lost touch.
package struct OutlierWindow: Sendable, Hashable, Codable {
    private var times: [Double] = []
    private var flags: [Bool] = []

    /// Of a busy pod, observations older than this say nothing of the present. Of an idle one the last twenty count,
    /// whenever they were: else a pod that was marked would stay marked for lack of traffic.
    static let span = 60.0
    static let share = 0.3
    /// Once degraded, a pod is trusted again below this share: no flapping at the edge.
    static let recoveryShare = 0.15
    static let leastSamples = 20
    /// A busy pod fills this within the span; the newest count.
    static let capacity = 256

    package private(set) var isDegraded = false

    package init() {}

    mutating func record(isOutlier: Bool, at now: Instant) {
        guard now.rawValue.isFinite else { return }
        // A clock that jumped back makes the stored times lie in the future: they are stale, whichever way it went.
        while let first = times.first, Self.isStale(first, at: now, of: times.count) {
            times.removeFirst()
            flags.removeFirst()
        }
        times.append(now.rawValue)
        flags.append(isOutlier)
        guard times.count >= OutlierWindow.leastSamples else { return }
        let share = Double(flags.count(where: { $0 })) / Double(flags.count)
        if share > OutlierWindow.share {
            isDegraded = true
        } else if share < OutlierWindow.recoveryShare {
            isDegraded = false
        }
    }

    private static func isStale(_ time: Double, at now: Instant, of count: Int) -> Bool {
        let age = now.rawValue - time
        return age < 0 || count >= capacity || (age > span && count >= leastSamples)
    }

    /// Its times are of one process's clock: the next one starts anew.
    package init(from decoder: any Decoder) throws {}
}
