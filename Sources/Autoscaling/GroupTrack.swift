// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Glibc
import Router

/// One group over time: its counters, its queue, where its need goes, and the replicas that were last asked for.
struct GroupTrack: Sendable {
    var window = CounterWindow()
    /// Of a pod of the group: kept when the last one leaves.
    private var profile: PodProfile
    private var choice: ReplicaChoice
    private var trend = NeedTrend()
    private var load = GroupLoad()
    private var knowsKV = false
    private var inFlight = 0
    private var present = 0
    private var lastTick: Instant?

    /// Queues are looked at as means over about so long: a burst is no reason for a pod.
    private static let smoothing = Seconds(15)

    init(profile: PodProfile, choice: ReplicaChoice) {
        self.profile = profile
        self.choice = choice
    }

    /// What the pods said since the last time, and the replica itself says now.
    mutating func observe(
        _ pods: [EndpointStatus],
        _ gauges: [EndpointID: PodGauges],
        own: OwnWork,
        at now: Instant
    ) {
        var waiting = 0.0
        var running = 0.0
        var kvUse = 0.0
        var known = 0
        var ownBacklog = Seconds.zero
        var ownSequences = 0.0
        for status in pods {
            let mine = own.pods[status.endpoint.id]
            if let load = status.load {
                // A pod that was not read since then still holds what it held.
                let last = PodGauges(waiting: Double(load.waiting), running: Double(load.running), kvUse: load.kvUse)
                let seen = gauges[status.endpoint.id] ?? last
                known += 1
                waiting += seen.waiting
                running += seen.running
                kvUse += seen.kvUse
            } else {
                running += Double(mine?.inFlight ?? 0)
            }
            ownBacklog = ownBacklog + (mine?.backlog ?? .zero)
            ownSequences += Double(mine?.inFlight ?? 0)
        }
        if let first = pods.first { profile = first.endpoint.profile }
        knowsKV = known > 0
        inFlight = Int(min(max(waiting + running, ownSequences), 1e9))
        present = pods.count
        load.replicas = pods.count { $0.unavailable == nil }
        let share = smoothingShare(at: now)
        func smooth(_ value: inout Double, _ now: Double) { value += share * (now - value) }
        smooth(&load.waiting, waiting)
        smooth(&load.running, running)
        smooth(&load.kvUse, known > 0 ? kvUse / Double(known) : 0)
        smooth(&load.ownBacklog.rawValue, ownBacklog.rawValue)
        smooth(&load.ownSequences, ownSequences)
        lastTick = now
    }

    private func smoothingShare(at now: Instant) -> Double {
        guard let lastTick else { return 1 }
        return 1 - exp(-max((now - lastTick).rawValue, 0) / Self.smoothing.rawValue)
    }

    mutating func report(
        _ group: PodGroup,
        _ rule: ServiceLevelRule,
        held: Double,
        _ heldIsWhole: Bool,
        _ settings: FleetScaler.Settings,
        at now: Instant
    ) -> GroupReport {
        var report = GroupReport(group: group)
        let growth = window.advance(to: now)
        if let growth {
            load.perSecond = growth.growth.scaled(by: 1 / growth.span.rawValue)
            report.attainment = Self.attainment(growth.growth, group.role)
        } else {
            load.perSecond = PodCounters()
        }
        let described = GroupProfile(profile: profile, rule: rule)
        let unheld = GroupNeed(load, described, group.role)
        load.held = held
        let withHeld = GroupNeed(load, described, group.role)
        load.held = 0
        let current = heldIsWhole ? withHeld.pods : unheld.pods
        // Without a rate the need is not small but unknown.
        if growth != nil { trend.add(current, at: now) }
        // A rate over a window is that of its middle.
        let lead = settings.podStartTime + CounterWindow.length / 2
        var need = current + trend.growth(over: lead)
        if held > 0, load.replicas == 0 { need = max(need, 1) }
        report.need = need
        report.desiredReplicas = choice.decide(need: need, present: present, at: now)
        report.replicas = load.replicas
        report.backlog = withHeld.backlog
        report.utilization = load.replicas > 0 ? unheld.pods / Double(load.replicas) : nil
        report.kvUse = knowsKV ? load.kvUse : nil
        report.promptTokensPerSecond = load.perSecond.computedTokens
        report.outputTokensPerSecond = load.perSecond.generatedTokens
        report.requestsInFlight = inFlight
        return report
    }

    /// Prefill pods answer for the first token, decode pods for those after it.
    private static func attainment(_ seen: PodCounters, _ role: Role) -> Double? {
        func share(_ met: Double, _ all: Double) -> Double? { all > 0 ? min(met / all, 1) : nil }
        let first = role.canPrefill ? share(seen.ttftMet, seen.ttftRequests) : nil
        let further = role.canDecode ? share(seen.tpotMet, seen.tpotRequests) : nil
        return [first, further].compactMap { $0 }.min()
    }
}

/// Pods that a group needs now.
struct GroupNeed: Sendable, Hashable {
    var pods: Double
    var backlog: Seconds

    init(_ load: GroupLoad, _ group: GroupProfile, _ role: Role) {
        let prefill = PrefillNeed(load, group, role: role)
        var pods = prefill.pods
        backlog = prefill.backlog
        if role.canDecode {
            let decode = DecodeNeed(load, group)
            pods += decode.pods
            if role == .decode, decode.tokensPerSecond > 0 {
                // Sequences that wait for a pod, each with the tokens that it will give.
                let output = load.perSecond.requests > 0 ? load.perSecond.generatedTokens / load.perSecond.requests : 1
                backlog = backlog + Seconds((load.waiting + load.held) * output / decode.tokensPerSecond)
            }
        }
        self.pods = pods.isFinite ? min(max(pods, 0), Double(ReplicaChoice.limit)) : 0
    }
}
