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
/// What a group's pods can do, and should.
package struct GroupProfile: Sendable, Hashable {
    /// As the catalogue has it. What a replica of the picker learns of the pods' speed from its own requests must not count
    /// here: one that follows, or sees other requests, learns other numbers, and would ask for other replicas.
    package var profile: PodProfile
    package var rule: ServiceLevelRule

    package init(
        profile: PodProfile,
        rule: ServiceLevelRule = ServiceLevelRule()
    ) {
        self.profile = profile
        self.rule = rule
    }
}
