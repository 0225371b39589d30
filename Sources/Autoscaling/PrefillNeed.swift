// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Glibc
import Router

/// Pods that a group needs for its prompts.
struct PrefillNeed: Sendable, Hashable {
    /// Busy pods at the present rate.
    var busy = 0.0
    /// Share of time that a pod may be busy while prompts meet their bound.
    var target = Self.targetWithoutBound
    /// Prompt work that waits, in seconds of one pod.
    var backlog = Seconds.zero
    /// Pods that work off what waits longer than it may.
    var extra = 0.0

    var pods: Double { busy / target + extra }

    /// Where no TTFT bound is set: the mean wait is then twice the mean service, by Pollaczek–Khinchine.
    static let targetWithoutBound = 0.8
    /// Above it small errors of the cost model turn into long queues; below it more pods hardly shorten the wait.
    static let targets = 0.5...0.85
    /// Share of prompts that may miss.
    static let missShare = 0.05
    /// Queued work is worked off within so long, or within the bound where that is longer.
    static let drain = Seconds(10)
    /// The length of a chunk, for the price of a token on pods that compute prompts beside decodes.
    static let chunk = 2048

    init(_ load: GroupLoad, _ group: GroupProfile, role: Role) {
        let seen = load.perSecond
        // On decode pods most prompts arrive computed: there the tokens count, not the requests.
        let prompts = role == .decode ? seen.computedTokens / Double(Self.chunk) : seen.requests
        let new = prompts > 0 ? seen.computedTokens / prompts : 0
        let context = prompts > 0 && role != .decode ? (seen.cachedTokens + seen.transferredTokens) / prompts : 0
        let service = group.profile.prefill.duration(
            newTokens: Self.tokens(new),
            cachedTokens: Self.tokens(context)
        )
        let seconds = max(service.rawValue, 0)
        busy = prompts > 0 ? prompts * seconds : seen.computedTokens * Self.perToken(group)
        let wait = group.rule.ttftBase.map { base in
            base + group.rule.ttftPerPromptToken * (new + context) - Seconds(seconds) - group.profile.ttftOverhead
        }
        if let wait { target = Self.target(service: seconds, wait: wait.rawValue) }
        guard role != .decode else { return }
        // Without a rate there is no mean prompt: one chunk stands for it.
        let one = prompts > 0 ? seconds : Self.perToken(group) * Double(Self.chunk)
        let queued = role == .prefill ? max(load.waiting + load.running - Double(load.replicas), 0) : load.waiting
        backlog = max(Seconds(queued * one), load.ownBacklog) + Seconds(load.held * one)
        let allowed = max((wait ?? Seconds(seconds * 2)).rawValue, one)
        extra = max(backlog.rawValue - allowed * Double(load.replicas), 0) / max(allowed, Self.drain.rawValue)
    }

    private static func perToken(_ group: GroupProfile) -> Double {
        let chunk = group.profile.prefill.duration(newTokens: Self.chunk, cachedTokens: 0)
        return max(chunk.rawValue, 0) / Double(Self.chunk)
    }

    private static func tokens(_ mean: Double) -> Int { Int(min(max(mean.rounded(), 0), 1e7)) }

    /// The utilisation at which `missShare` of prompts wait longer than `wait`, for Poisson arrivals and service times as
    /// uneven as exponential ones: P(W > w) = ρ·exp(−(1 − ρ)·w/S).
    static func target(service: Double, wait: Double) -> Double {
        guard service > 0, wait > 0 else { return targets.lowerBound }
        var low = targets.lowerBound
        var high = targets.upperBound
        for _ in 0..<20 {
            let middle = (low + high) / 2
            if middle * exp(-(1 - middle) * wait / service) <= missShare { low = middle } else { high = middle }
        }
        return low
    }
}
