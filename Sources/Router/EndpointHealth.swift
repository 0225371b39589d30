// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// When an endpoint that fails leaves the candidates, and for how long.
package struct HealthSettings: Sendable, Hashable, Codable {
    /// Failures in a row.
    package var failures: Int
    package var firstPause: Seconds
    package var longestPause: Seconds
    /// Pauses are lengthened by up to this share, so that pods which failed together do not return together.
    package var jitter: Double

    package init(
        failures: Int = 3,
        firstPause: Seconds = Seconds(1),
        longestPause: Seconds = Seconds(60),
        jitter: Double = 0.2
    ) {
        self.failures = failures
        self.firstPause = firstPause
        self.longestPause = longestPause
        self.jitter = jitter
    }
}

/// What answers have shown about one endpoint. Separate counts for refused connections and failed prefills.
///
/// `healthy → (failures in a row) → paused → (pause over) → on trial → healthy`, or back to a pause twice as long at the
/// first failure on trial.
struct EndpointHealth: Sendable, Hashable {
    private struct Track: Sendable, Hashable {
        var inRow = 0
        var pauses = 0
        var until: Instant?

        mutating func succeed() { self = Track() }

        /// - Returns: true when it is paused anew.
        mutating func fail(_ settings: HealthSettings, at now: Instant, unit: Double) -> Bool {
            inRow += 1
            if let until, now < until { return false }
            let onTrial = pauses > 0
            guard onTrial || inRow >= settings.failures else { return false }
            let doubled = settings.firstPause.rawValue * Double(1 << min(pauses, 16))
            let pause = min(doubled, settings.longestPause.rawValue) * (1 + settings.jitter * unit)
            pauses += 1
            until = now + Seconds(pause)
            return true
        }

        func isPaused(at now: Instant) -> Bool { until.map { now < $0 } ?? false }
    }

    private var connections = Track()
    private var prefills = Track()
    /// Its last answer without a prefill pod was a 5xx of its own.
    private(set) var failsAlone = false

    mutating func answeredAlone(failed: Bool) { failsAlone = failed }

    /// Envoy could not reach it. `unit` in [0, 1) draws the jitter.
    mutating func refused(_ settings: HealthSettings, at now: Instant, unit: Double) -> Bool {
        connections.fail(settings, at: now, unit: unit)
    }

    mutating func failedPrefill(_ settings: HealthSettings, at now: Instant, unit: Double) -> Bool {
        prefills.fail(settings, at: now, unit: unit)
    }

    /// It answered, whatever it said. - Returns: true when that ends a pause or a trial.
    mutating func answered() -> Bool {
        let changes = connections.pauses > 0
        connections.succeed()
        return changes
    }

    mutating func prefilled() -> Bool {
        let changes = prefills.pauses > 0
        prefills.succeed()
        return changes
    }

    func cause(at now: Instant) -> Unavailability? {
        if connections.isPaused(at: now) { return .refusesConnections }
        if prefills.isPaused(at: now) { return .failsPrefills }
        return nil
    }

    /// When the present pause ends.
    func pauseEnd(after now: Instant) -> Instant? {
        [connections.until, prefills.until].compactMap { $0 }.filter { $0 > now }.min()
    }
}
