// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
package import Router

/// Follows every group of pods and says how many replicas each should have. Pure: readings, ticks and time come in.
package struct FleetScaler: Sendable {
    package struct Settings: Sendable, Hashable {
        /// From the decision to a pod that serves.
        package var podStartTime: Seconds
        package var scaleDownWindow: Seconds

        package init(podStartTime: Seconds = Seconds(60), scaleDownWindow: Seconds = Seconds(300)) {
            self.podStartTime = podStartTime
            self.scaleDownWindow = scaleDownWindow
        }
    }

    /// As many as have metrics of their own (`epp_pd_pool_*`).
    package static let maximumGroups = 128

    private struct Pod {
        var group: PodGroup
        var counters: PodCounters?
        var gauges = PodGauges.Means()
        var tellsTransfers = false
    }

    private let settings: Settings
    private let rule: @Sendable (PodGroup) -> ServiceLevelRule
    private var pods: [EndpointID: Pod] = [:]
    private var groups: [PodGroup: GroupTrack] = [:]

    /// - Parameters:
    ///   - settings: how far to look ahead, and how long to hold.
    ///   - rule: the service level of a group.
    package init(_ settings: Settings = Settings(), rule: @escaping @Sendable (PodGroup) -> ServiceLevelRule) {
        self.settings = settings
        self.rule = rule
    }

    /// A page of a pod that is in the fleet was read.
    package mutating func observed(_ id: EndpointID, _ reading: PodReading) {
        guard var pod = pods[id] else { return }
        if let before = pod.counters, let step = reading.counters.growth(since: before) {
            var step = step
            if pod.group.role == .decode, !reading.tellsTransfers { step.cachedTokens = step.promptTokens }
            groups[pod.group]?.window.add(step)
        }
        pod.counters = reading.counters
        if let gauges = reading.gauges { pod.gauges.add(gauges) }
        pod.tellsTransfers = reading.tellsTransfers
        pods[id] = pod
    }

    /// The pod's server is a new one: its counters begin anew.
    package mutating func restarted(_ id: EndpointID) { pods[id]?.counters = nil }

    /// Once per second or so.
    package mutating func tick(_ fleet: [EndpointStatus], own: OwnWork, at now: Instant) -> ScalingReport {
        let members = follow(fleet, at: now)
        var gauges: [EndpointID: PodGauges] = [:]
        for status in fleet { gauges[status.endpoint.id] = pods[status.endpoint.id]?.gauges.take() }
        let held = HeldShares(own.held, groups: groups.keys.sorted(), members: members)
        var report = ScalingReport()
        report.held = own.held
        for group in groups.keys.sorted() {
            guard var track = groups[group] else { continue }
            track.observe(members[group] ?? [], gauges, own: own, at: now)
            report.groups.append(
                track.report(group, rule(group), held: held.share(of: group), own.isWhole, settings, at: now)
            )
            groups[group] = track
        }
        report.pools = PoolReport.of(fleet)
        return report
    }

    /// Brings groups and pods in line with the fleet. Groups that lost their pods stay: they may come back.
    private mutating func follow(_ fleet: [EndpointStatus], at now: Instant) -> [PodGroup: [EndpointStatus]] {
        var members: [PodGroup: [EndpointStatus]] = [:]
        var present: [EndpointID: Pod] = [:]
        for status in fleet {
            let group = PodGroup(status.endpoint)
            members[group, default: []].append(status)
            var pod = pods[status.endpoint.id] ?? Pod(group: group)
            pod.group = group
            present[status.endpoint.id] = pod
        }
        pods = present
        for group in members.keys.sorted() where groups[group] == nil && groups.count < Self.maximumGroups {
            guard let first = members[group]?.first else { continue }
            let usable = members[group]?.count { $0.unavailable == nil } ?? 0
            groups[group] = GroupTrack(
                profile: first.endpoint.profile,
                choice: ReplicaChoice(replicas: usable, window: settings.scaleDownWindow, at: now)
            )
        }
        return members
    }
}
