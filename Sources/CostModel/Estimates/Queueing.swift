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
        return min(
            Seconds(admission(missing: missing, held: kvTokens, remaining: max(meanOutput, 1), step: step)),
            longestWait
        )
    }

    /// The formula itself: a batch that ends within `remaining` steps gives back what it holds at that pace.
    ///
    /// - Parameters:
    ///   - missing: KV tokens of room, above 0.
    ///   - held: KV tokens of the batch, above 0. No wait is longer than all of them take.
    ///   - remaining: steps that a sequence of the batch has left.
    ///   - step: seconds of one.
    /// - Returns: seconds until there is room.
    @inlinable @inline(__always)
    package static func admission(missing: Double, held: Double, remaining: Double, step: Double) -> Double {
        min(missing / held, 1) * remaining * step
    }
}
