// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
package import Router

/// What a group of pods has to do now, fleet-wide.
package struct GroupLoad: Sendable, Hashable {
    /// Growth of the counters, per second.
    package var perSecond = PodCounters()
    package var replicas = 0
    /// Means over the last seconds, of all pods together.
    package var waiting = 0.0
    package var running = 0.0
    /// Mean over the pods, 0…1.
    package var kvUse = 0.0
    /// Prompt work that the replica knows to be ahead at the pods, in seconds of one pod: a lower bound.
    package var ownBacklog = Seconds.zero
    /// Sequences that the replica has at the pods: a lower bound.
    package var ownSequences = 0.0
    /// Requests that wait in the picker and may come here.
    package var held = 0.0

    package init() {}
}

/// What the pods of a group can do, by the cost model.
package struct GroupProfile: Sendable, Hashable {
    package var profile: PodProfile
    /// Means of what observation has taught about the pods.
    package var prefillScale: Double
    package var decodeScale: Double
    package var rule: ServiceLevelRule

    package init(
        profile: PodProfile,
        prefillScale: Double = 1,
        decodeScale: Double = 1,
        rule: ServiceLevelRule = ServiceLevelRule()
    ) {
        self.profile = profile
        self.prefillScale = prefillScale
        self.decodeScale = decodeScale
        self.rule = rule
    }
}
