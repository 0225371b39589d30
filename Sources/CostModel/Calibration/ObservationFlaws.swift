// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Why an observation must not teach anything.
package struct ObservationFlaws: OptionSet, Sendable, Hashable, Codable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The engine preempted the request: its time holds a recompute.
    package static let preempted = ObservationFlaws(rawValue: 1)
    /// The client left before the end.
    package static let cancelled = ObservationFlaws(rawValue: 2)
    /// Nobody knows how much of the prompt was cached, so the new tokens are a guess.
    package static let cacheUnknown = ObservationFlaws(rawValue: 4)
    /// It waited in the engine's queue, so its time to first token is not its prefill.
    package static let queued = ObservationFlaws(rawValue: 8)
}
