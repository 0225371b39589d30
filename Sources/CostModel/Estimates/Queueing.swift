// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Work ahead of a request at a pod.
package enum Queueing {
    /// Prefill work that a scrape's count of waiting requests stands for: `waiting·c0 + tokens·c1hi`.
    package static func backlog(of profile: PodProfile, waiting: Int, tokens: Double) -> Seconds {
        let c = profile.prefill
        return Seconds(Double(max(waiting, 0)) * c.base + max(tokens, 0) * c.perTokenAboveKnee)
    }

    /// Mean wait in an M/G/1 queue (Pollaczek–Khinchine): the share of a pod's load that other replicas send and this
    /// one does not see.
    ///
    ///     E[W] = λ·E[S²] / (2·(1 − ρ)),   ρ = λ·E[S]
    ///
    /// - Parameters:
    ///   - rate: unseen requests per second.
    ///   - mean: of their service time.
    ///   - meanSquare: of their service time, in seconds squared.
    /// - Returns: at most `longestWait`: a queue without a steady state has no mean.
    package static func unseenWait(rate: Double, mean: Seconds, meanSquare: Double) -> Seconds {
        guard rate > 0, mean.rawValue > 0, meanSquare > 0 else { return .zero }
        let load = rate * mean.rawValue
        guard load < 1 else { return longestWait }
        return min(Seconds(rate * meanSquare / (2 * (1 - load))), longestWait)
    }

    package static let longestWait = Seconds(3600)

    /// How long a request waits for KV room at a decode pod that is full: what is missing over the rate at which ending
    /// requests give room back, `B/(O·TPOT)` requests of mean context each.
    package static func admissionWait(
        profile: PodProfile,
        kvTokens: Double,
        batch: Double,
        needed: Double,
        meanOutput: Double
    ) -> Seconds {
        let missing = kvTokens + needed - Double(profile.kvCapacityTokens)
        guard missing > 0 else { return .zero }
        guard batch >= 1, kvTokens > 0 else { return longestWait }
        let step = profile.decode.step(batch: batch, kvTokens: kvTokens).rawValue
        let released = batch / (max(meanOutput, 1) * step) * (kvTokens / batch)
        return released > 0 ? min(Seconds(missing / released), longestWait) : longestWait
    }
}
