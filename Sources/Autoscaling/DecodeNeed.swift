// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// Pods that a group needs for its output tokens.
struct DecodeNeed: Sendable, Hashable {
    /// Full pods at the present rate.
    var pods = 0.0
    /// Sequences that one pod may hold.
    var batch = 0.0
    /// Tokens per second that one pod gives with so many.
    var tokensPerSecond = 0.0

    /// Share of the TPOT bound that a step may take: below the share at which the picker holds requests back
    /// (`QueueSettings.roomShare`), so that the need passes the pods that are there before requests wait.
    static let tpotShare = 0.8
    /// Share of the KV cache that running sequences may fill; engines preempt when it is full.
    static let kvShare = 0.9
    /// vLLM's default of `max-num-seqs` on most accelerators.
    static let greatestBatch = 256.0
    /// The context of a sequence where nothing was seen yet.
    static let defaultContext = 2048.0

    init(_ load: GroupLoad, _ group: GroupProfile) {
        let seen = load.perSecond
        let output = seen.requests > 0 ? max(seen.generatedTokens / seen.requests, 1) : 1
        let prompt = Self.prompt(load, group)
        batch = Self.batch(group, context: prompt + output / 2, longest: prompt + output)
        let step = group.profile.decode.step(batch: batch, kvTokens: batch * (prompt + output / 2))
        tokensPerSecond = step.rawValue > 0 ? batch / step.rawValue : 0
        let byRate = tokensPerSecond > 0 ? seen.generatedTokens / tokensPerSecond : 0
        let sequences = max(load.waiting + load.running, load.ownSequences) + load.held
        pods = max(byRate, sequences / batch)
    }

    private static func prompt(_ load: GroupLoad, _ group: GroupProfile) -> Double {
        let seen = load.perSecond
        if seen.requests > 0, seen.promptTokens > 0 { return seen.promptTokens / seen.requests }
        guard load.running >= 1, load.kvUse > 0 else { return defaultContext }
        return load.kvUse * Double(group.profile.kvCapacityTokens) * Double(max(load.replicas, 1)) / load.running
    }

    /// The greatest batch whose step stays within the bound and whose sequences fit, at least 1.
    private static func batch(_ group: GroupProfile, context: Double, longest: Double) -> Double {
        let room = kvShare * Double(group.profile.kvCapacityTokens) / max(longest, 1)
        var high = min(max(room, 1), greatestBatch)
        guard let tpot = group.rule.tpot else { return high }
        let bound = tpot.rawValue * tpotShare
        func step(_ batch: Double) -> Double {
            group.profile.decode.step(batch: batch, kvTokens: batch * context).rawValue
        }
        guard step(high) > bound else { return high }
        var low = 1.0
        guard step(low) <= bound else { return low }
        for _ in 0..<30 {
            let middle = (low + high) / 2
            if step(middle) <= bound { low = middle } else { high = middle }
        }
        return low
    }
}
