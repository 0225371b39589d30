// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
package import Router

/// When to ask each endpoint for a page again. Pure: times are seconds of wall time that the caller brings.
///
/// A page that changed since the last one is asked for again after the shortest interval, an unchanged one each time
/// half as late again, up to the longest. So busy pods are looked at often and idle ones rarely, without knowing what
/// load is. Failures double the interval from `firstRetry` up to the longest. Each interval is drawn within ±10 %, so
/// that pods which started together do not stay together.
package struct PollSchedule: Sendable {
    package struct Settings: Sendable, Hashable {
        package var shortest: Seconds
        package var longest: Seconds
        package var firstRetry: Seconds

        package init(shortest: Seconds, longest: Seconds, firstRetry: Seconds) {
            self.shortest = shortest
            self.longest = longest
            self.firstRetry = firstRetry
        }
    }

    private struct Entry {
        var due: Double
        var interval: Double
        var isInFlight = false
        var failures = 0
    }

    private static let growth = 1.5
    private static let jitter = 0.1

    private let settings: Settings
    private var entries: [EndpointID: Entry] = [:]
    /// The keys of `entries`, sorted: schedules must not depend on the order of a dictionary.
    private var order: [EndpointID] = []
    /// No entry is due before.
    private var earliest = Double.infinity
    /// The shortest interval that the number of endpoints and the cost of a page allow.
    private var affordable = 0.0

    package init(_ settings: Settings) {
        self.settings = settings
    }

    /// Endpoints that are new are due at once; those that left are forgotten.
    package mutating func replace(_ endpoints: [EndpointID], at now: Double) {
        var next: [EndpointID: Entry] = [:]
        for id in endpoints { next[id] = entries[id] ?? Entry(due: now, interval: settings.shortest.rawValue) }
        entries = next
        order = endpoints.sorted()
        updateEarliest()
    }

    /// Asks for no more than `rate` pages per second in all, as far as the longest interval allows that.
    package mutating func limit(rate: Double) {
        guard rate > 0 else { return }
        affordable = min(Double(order.count) / rate, settings.longest.rawValue)
    }

    /// The endpoints to ask now, at most `limit` of them, longest overdue first. Each is in flight until it is told
    /// to have `finished`. At most `failingLimit` endpoints that failed last time are in flight: each may hold its
    /// place until the time-out, and the others must not wait for them.
    package mutating func take(at now: Double, limit: Int, failingLimit: Int) -> [EndpointID] {
        guard now >= earliest, limit > 0 else { return [] }
        var due: [(due: Double, id: EndpointID, failing: Bool)] = []
        var failing = 0
        for id in order {
            guard let entry = entries[id] else { continue }
            if entry.isInFlight {
                failing += entry.failures > 0 ? 1 : 0
            } else if entry.due <= now {
                due.append((entry.due, id, entry.failures > 0))
            }
        }
        due.sort { ($0.due, $0.id) < ($1.due, $1.id) }
        var taken: [EndpointID] = []
        for candidate in due where taken.count < limit && (!candidate.failing || failing < failingLimit) {
            failing += candidate.failing ? 1 : 0
            entries[candidate.id]?.isInFlight = true
            taken.append(candidate.id)
        }
        updateEarliest()
        return taken
    }

    package enum Outcome: Sendable, Hashable {
        case changed, unchanged, failed
    }

    package mutating func finished(
        _ id: EndpointID,
        _ outcome: Outcome,
        at now: Double,
        using random: inout some RandomNumberGenerator
    ) {
        guard var entry = entries[id] else { return }
        let longest = settings.longest.rawValue
        let shortest = max(settings.shortest.rawValue, affordable)
        switch outcome {
        case .changed:
            entry.failures = 0
            entry.interval = shortest
        case .unchanged:
            entry.interval = entry.failures > 0 ? shortest : min(max(entry.interval * Self.growth, shortest), longest)
            entry.failures = 0
        case .failed:
            // Beyond 16 doublings every interval is the longest.
            let doubled = settings.firstRetry.rawValue * Double(1 << min(entry.failures, 16))
            entry.interval = min(max(doubled, affordable), longest)
            entry.failures += 1
        }
        entry.isInFlight = false
        entry.due = now + entry.interval * Double.random(in: (1 - Self.jitter)...(1 + Self.jitter), using: &random)
        entries[id] = entry
        earliest = min(earliest, entry.due)
    }

    /// When `take` may next give something, infinity where all are in flight.
    package var nextDue: Double { earliest }

    private mutating func updateEarliest() {
        earliest = entries.values.reduce(Double.infinity) { $1.isInFlight ? $0 : min($0, $1.due) }
    }
}
