// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A cluster that changes while a run goes on: says which pods of the fleet take requests now. Those that do not are to the
/// pickers what unready pods of a cluster are; what they have, they end.
package protocol FleetControl: AnyObject {
    /// Asked with each scrape, and told of every pod, the unready ones too.
    ///
    /// - Returns: by place in the fleet, whether the pod is ready.
    func readiness(_ pods: [PodLook], at now: Double) -> [Bool]
}

/// What a scrape reads of a pod.
package struct PodLook: Sendable, Hashable {
    package var load: ServerLoad
    package var counters: ServerCounters
    /// Requests that it has not ended.
    package var jobs: Int
}
