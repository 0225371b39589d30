// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What a model server holds: at one moment, or in the mean over several.
package struct PodGauges: Sendable, Hashable {
    /// Requests in its queue, and in its batch.
    package var waiting: Double
    package var running: Double
    /// Share of its KV blocks, 0…1.
    package var kvUse: Double

    package init(waiting: Double, running: Double, kvUse: Double) {
        self.waiting = waiting
        self.running = running
        self.kvUse = kvUse
    }

    /// The mean over the readings since the last look. Batches change within fractions of a second: two replicas that
    /// each catch one moment per look see different loads, the means of ten readings are almost the same.
    struct Means: Sendable {
        private var sum = PodGauges(waiting: 0, running: 0, kvUse: 0)
        private var count = 0.0

        mutating func add(_ seen: PodGauges) {
            guard seen.waiting.isFinite, seen.running.isFinite, seen.kvUse.isFinite else { return }
            sum.waiting += seen.waiting
            sum.running += seen.running
            sum.kvUse += seen.kvUse
            count += 1
        }

        /// - Returns: nil where nothing was read.
        mutating func take() -> PodGauges? {
            defer { self = Means() }
            guard count > 0 else { return nil }
            return PodGauges(waiting: sum.waiting / count, running: sum.running / count, kvUse: sum.kvUse / count)
        }
    }
}
