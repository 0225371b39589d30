// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// Sums of a group's counters over a sliding window.
///
/// The sums go on when pods come and leave, since only steps of single pods are added to them: a rate that were the sum
/// of the present pods' own rates would jump whenever the fleet changes, and scale it again.
struct CounterWindow: Sendable {
    /// Long enough that some hundred requests are in it at one per second and pod, short enough to follow a ramp.
    static let length = Seconds(60)
    /// Rates over less say nothing.
    static let shortest = Seconds(20)
    private static let step = Seconds(1)

    private var total = PodCounters()
    /// At most one mark each `step`: `length / step + 2`.
    private var marks: [(at: Instant, total: PodCounters)] = []

    mutating func add(_ step: PodCounters) { total += step }

    /// Time went on. - Returns: the growth over the window that ends now; nil while it is too short.
    mutating func advance(to now: Instant) -> (span: Seconds, growth: PodCounters)? {
        if marks.last.map({ now - $0.at >= Self.step }) ?? true { marks.append((now, total)) }
        // The last mark before the window's beginning stays: the window is never shorter than its length.
        while marks.count > 2, now - marks[1].at >= Self.length { marks.removeFirst() }
        guard let first = marks.first, now - first.at >= Self.shortest else { return nil }
        return total.growth(since: first.total).map { (now - first.at, $0) }
    }
}
