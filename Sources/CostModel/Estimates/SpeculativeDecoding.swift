// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Decoding with a draft of γ tokens per step, each accepted with probability α until the first rejection.
///
///     a = (1 − α^(γ+1)) / (1 − α)          tokens per step
///     T' = T_step(N = B·(γ+1), K) + T_draft;   TPOT = T'/a
///
/// The verifying step computes γ + 1 tokens per sequence but reads weights and KV once: above the knee it stops paying.
package struct SpeculativeDecoding: Sendable, Hashable, Codable {
    /// α, 0…1.
    package var acceptance: Double
    /// γ.
    package var draftTokens: Int
    /// Seconds to make the draft.
    package var draftTime: Seconds

    package init(acceptance: Double, draftTokens: Int, draftTime: Seconds) {
        self.acceptance = min(max(acceptance.isFinite ? acceptance : 0, 0), 1)
        self.draftTokens = min(max(draftTokens, 0), 64)
        self.draftTime = draftTime
    }

    /// a: mean tokens that one step yields, 1…γ + 1.
    package var tokensPerStep: Double {
        var sum = 0.0
        var power = 1.0
        for _ in 0...draftTokens {
            sum += power
            power *= acceptance
        }
        return sum
    }

    package func tpot(profile: PodProfile, batch: Double, kvTokens: Double) -> Seconds {
        let plain = profile.decode.step(batch: batch, kvTokens: kvTokens).rawValue
        let c = profile.mixed
        // What the further tokens add by formula (1), on top of the step as decode predicts it.
        let extra =
            c.linear(max(batch, 0) * Double(draftTokens + 1)) - c.linear(max(batch, 0))
        return Seconds((plain + max(extra, 0) + max(draftTime.rawValue, 0)) / tokensPerStep)
    }
}
