// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// How fast the fastest pod of a group can decode at all, in seconds of the group's profile.
///
/// A step of a batch takes s = d0 + Σ w over its sequences, w = d1 + d2·context. In a share 1 − φ of its time the pod does
/// such steps, in the rest steps that carry a chunk of a prompt; those take t and also bring each sequence a token. With
/// W = Σ w over all tokens per second of time, sequences there while it computes prompts and while it does not make
///
///     W = (1 − φ)·(s − d0)/s + φ·(s' − d0)/t
///
/// The TPOT bound τ says that sequences are there no longer than τ a token: (1 − φ)(s − d0) + φ(s' − d0) ≤ τ·W. Where
/// t > τ this leaves, whatever s' is, W ≤ (1 − φ)·K with K = max over s of (s − d0)(t − s) / (s·(t − τ)), which is at
/// s = √(d0·t), or at the largest step that memory and τ allow if that is less. So decoding takes W/K of time that no
/// prompt may have. Where t ≤ τ, K is (s − d0)/s at that largest step, and each chunk brings such a step for nothing;
/// where t > τ only the last chunk of a prompt, which is shorter, does.
struct DecodeRate {
    /// Decoding time per token.
    private(set) var secondsPerToken: Double
    private let stepGain: Double
    private let ridesOnEach: Bool

    private static let budget = Double(ModelServerConfiguration.defaultTokenBudget)

    init(_ group: PodGroup, context: Double, tpot: Double) {
        let decode = group.profile.decode
        let limit = tpot / group.leastSlowness
        let slope =
            decode.knee <= 1
            ? decode.perSequenceAboveKnee : min(decode.perSequenceBelowKnee, decode.perSequenceAboveKnee)
        let perSequence = max(slope + decode.perKVToken * context, 1e-12)
        // Whatever else is in the batch: as many sequences as run at once, and all memory read.
        let largest = decode.step(
            batch: Double(ModelServerConfiguration.defaultMaximumSequences),
            kvTokens: Double(group.profile.kvCapacityTokens)
        ).rawValue
        // One sequence there must be, even if its step is too long.
        let most = max(min(largest, limit), decode.base + perSequence)
        let chunk = group.profile.mixed.step(
            newTokens: Self.budget,
            pairs: 0,
            chunkContext: 0,
            batch: 0,
            kvTokens: 0
        ).rawValue
        ridesOnEach = chunk <= limit * (1 + 1e-9)
        var rate = (most - decode.base) / most
        if !ridesOnEach {
            let best = min(max((decode.base * chunk).squareRoot(), decode.base + perSequence), most)
            rate = max(rate, (best - decode.base) * (chunk - best) / (best * (chunk - limit)))
        }
        secondsPerToken = perSequence / rate
        stepGain = (most - decode.base) / rate
    }

    /// Seconds of decoding that a prompt's chunks may carry along.
    func ride(newTokens: Int) -> Double {
        let most = Double(ModelServerConfiguration.defaultMaximumSequences)
        return ridesOnEach ? (Double(newTokens) / (Self.budget - most) + 1) * stepGain : stepGain
    }
}
