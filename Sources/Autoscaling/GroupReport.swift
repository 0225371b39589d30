// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// What is published of a group. nil = not known.
package struct GroupReport: Sendable, Hashable, Codable {
    package var group: PodGroup
    /// Pods that can be used, and pods that it should have.
    package var replicas = 0
    package var desiredReplicas = 0
    /// The need behind the number: pods and parts of pods, with the trend.
    package var need = 0.0
    package var backlog = Seconds.zero
    /// Of the capacity that just meets the service levels.
    package var utilization: Double?
    package var kvUse: Double?
    package var promptTokensPerSecond = 0.0
    package var outputTokensPerSecond = 0.0
    package var requestsInFlight = 0
    package var attainment: Double?

    package init(group: PodGroup) { self.group = group }

    package var headroom: Double? { utilization.map { max(1 - $0, 0) } }
}

/// What the Inference Extension publishes of a pool.
package struct PoolReport: Sendable, Hashable, Codable {
    package struct Pod: Sendable, Hashable, Codable {
        package var name: String
        package var waiting: Int
    }

    package var pool: String
    package var readyPods = 0
    /// Means over the pods whose load is known. nil = of none.
    package var kvUse: Double?
    package var queueSize: Double?
    package var pods: [Pod] = []
}

/// All that scaling wants to know, sorted by group and by pool.
package struct ScalingReport: Sendable, Hashable, Codable {
    package var groups: [GroupReport] = []
    package var pools: [PoolReport] = []
    /// Requests that wait in the picker.
    package var held = 0

    package init() {}
}
