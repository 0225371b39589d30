// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What one metrics page of a pod said that counts for scaling.
package struct PodReading: Sendable, Hashable {
    package var counters: PodCounters
    /// nil where the page names none of them.
    package var gauges: PodGauges?
    /// Whether the page tells which prompt tokens came from another server. Without it a decode pod's prompts cannot be
    /// told from those that it was sent.
    package var tellsTransfers: Bool

    package init(counters: PodCounters, gauges: PodGauges? = nil, tellsTransfers: Bool) {
        self.counters = counters
        self.gauges = gauges
        self.tellsTransfers = tellsTransfers
    }
}
