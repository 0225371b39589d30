// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Glibc

/// The longest prompt that the pods can afford while more is asked of them than they can do in time.
///
/// Then some requests must be late, and fewest are if those are the longest: Moore and Hodgson's rule (1968) sets the
/// longest job aside when one of a list would miss its due time. It looks at the jobs at hand. A prompt that takes a pod
/// for ten seconds delays the ones that come while it runs as well, so here the rule has a memory: each waiting request
/// that is about to miss its bound lowers a limit by a twentieth, which then rises again, twofold in ten minutes. Longer
/// prompts are set aside: they are served when most pods could take a prompt, when the limit has risen, or when their hold
/// ends. Prompts that are about as long as most are never set aside: then hardly any would be left to be served instead.
/// docs/results/simulation.md says what that does, and to whom.
struct Triage: Sendable {
    /// Share of the limit that is left when a request is in danger, …
    private static let cut = 0.95
    /// … once in so many seconds: all who waited behind one burst are in danger at once.
    private static let cutGap = 1.0
    /// Seconds in which the limit doubles. Faster, it lets long prompts in again and again to find that they are too long.
    private static let doubling = 600.0
    /// Seconds in which the memory of the longest prompt halves.
    private static let forgetting = 600.0
    /// The limit is never below so many times the mean prompt's work.
    static let leastMeans = 3.0
    /// Weight of the newest prompt in that mean.
    private static let newest = 0.01
    /// Share of the pods that could take a prompt when one of those set aside is served all the same. In the simulator at 2.7 × the
    /// load, nine tenths gave 0.2 points of attainment more than three quarters and half as much again of mean TTFT.
    static let spareShare = 0.8

    /// Seconds of work. Infinite while every prompt is affordable.
    private(set) var limit = Double.infinity
    /// The highest priority that was in danger: nothing above is set aside for its sake.
    private(set) var priority = Int.min
    private var settledAt = 0.0
    private var cutAt = -Double.infinity
    private var longest = 0.0
    private var mean = 0.0
    private var seen = 0.0
    private var seenAt = 0.0

    /// A prompt of so many seconds of work came.
    mutating func saw(_ work: Double, at now: Double) {
        longest = max(longest * exp2(-max(now - seenAt, 0) / Self.forgetting), work)
        seenAt = now
        seen += 1
        mean += max(1 / seen, Self.newest) * (work - mean)
    }

    /// Lets the limit rise, until it is above all that comes.
    mutating func settle(at now: Double) {
        guard limit < .infinity else { return }
        limit *= exp2(max(now - settledAt, 0) / Self.doubling)
        settledAt = now
        guard limit > longest else { return }
        limit = .infinity
        priority = .min
    }

    /// A waiting request that is not set aside is about to miss its bound.
    mutating func endangered(priority other: Int, at now: Double) {
        // A limit that lower ones have brought down is not one for higher ones.
        if other > priority { limit = .infinity }
        priority = max(priority, other)
        guard limit == .infinity || now - cutAt >= Self.cutGap else { return }
        limit = max(Self.cut * min(limit, longest), Self.leastMeans * mean)
        settledAt = now
        cutAt = now
    }

    @inline(__always)
    func setsAside(_ entry: WaitingEntry) -> Bool { entry.base > limit && entry.priority <= priority }
}

/// A triage for each part of the fleet: requests that may go to the same first pod share the pods' time.
struct Triages: Sendable {
    private var byScope: [EndpointID: Triage] = [:]
    /// No part sets anything aside.
    private(set) var areQuiet = true

    /// Parts that are remembered: more would need as many models on disjoint pods. Beyond, all are forgotten.
    private static let most = 256
    /// Of the time that a request could wait when it came, the share that must be left. Acting on the first sign spares the
    /// misses themselves.
    private static let reserve = 0.4

    mutating func saw(_ entry: WaitingEntry, at now: Double) {
        if byScope.count >= Self.most, byScope[entry.scope] == nil { byScope.removeAll(keepingCapacity: true) }
        byScope[entry.scope, default: Triage()].saw(entry.base, at: now)
    }

    mutating func settle(at now: Double) {
        guard !areQuiet else { return }
        areQuiet = true
        for index in byScope.values.indices {
            byScope.values[index].settle(at: now)
            if byScope.values[index].limit < .infinity { areQuiet = false }
        }
    }

    /// Is this one about to miss its bound? It is counted once, and not at all if no idle pod could have kept the bound.
    @inline(__always)
    mutating func watch(_ entry: inout WaitingEntry, at now: Double) {
        guard !entry.isEndangered else { return }
        let allowed = entry.slack(at: entry.arrivedAt)
        guard entry.slack(at: now) < Self.reserve * max(allowed, 0) else { return }
        entry.isEndangered = true
        guard allowed > 0, !setAside(entry) else { return }
        byScope[entry.scope]?.endangered(priority: entry.priority, at: now)
        areQuiet = false
    }

    @inline(__always)
    func setAside(_ entry: WaitingEntry) -> Bool {
        !areQuiet && (byScope[entry.scope]?.setsAside(entry) ?? false)
    }
}
