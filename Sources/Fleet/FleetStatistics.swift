// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What the control plane counts since its start, for telemetry.
package struct FleetStatistics: Sendable, Hashable {
    package var endpoints = 0
    package var unreachable = 0
    package var loadUnknown = 0
    package var scrapes = 0
    /// By `FetchFailure.reason`, in the order of `FetchFailure.reasons`.
    package var scrapeFailures: [Int] = Array(repeating: 0, count: FetchFailure.reasons.count)
    package var modelLists = 0
    package var modelListFailures = 0
    package var snapshots = 0
    package var reloads = 0
    package var failedReloads = 0
    /// The fleet file as it is now has errors: the fleet is that of its last good state.
    package var fileIsBad = false

    package init() {}

    mutating func count(scrapeFailure failure: FetchFailure) {
        if let index = FetchFailure.reasons.firstIndex(of: failure.reason) { scrapeFailures[index] += 1 }
    }
}
