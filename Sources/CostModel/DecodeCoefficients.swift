// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// How long one decode step of a batch takes.
///
///     T_dec(B, K) = d0 + d1lo·min(B, hB) + d1hi·max(B − hB, 0) + d2·K
///
/// B = sequences in the batch, K = KV tokens they hold together. Fitted: see `profiles/`.
package struct DecodeCoefficients: Sendable, Hashable, Codable {
    /// hB: the batch at which the matrix multiplications turn compute bound.
    package var knee: Double
    /// d0: seconds of one step, whatever the batch.
    package var base: Double
    /// d1lo: seconds per sequence below the knee.
    package var perSequenceBelowKnee: Double
    /// d1hi: seconds per sequence above the knee.
    package var perSequenceAboveKnee: Double
    /// d2: seconds per KV token read.
    package var perKVToken: Double

    package init(
        knee: Double,
        base: Double,
        perSequenceBelowKnee: Double,
        perSequenceAboveKnee: Double,
        perKVToken: Double
    ) {
        self.knee = knee
        self.base = base
        self.perSequenceBelowKnee = perSequenceBelowKnee
        self.perSequenceAboveKnee = perSequenceAboveKnee
        self.perKVToken = perKVToken
    }

    /// - Complexity: O(1), no allocation.
    @inlinable @inline(__always)
    package func step(batch: Double, kvTokens: Double) -> Seconds {
        let b = max(batch, 0)
        return Seconds(
            base + perSequenceBelowKnee * min(b, knee) + perSequenceAboveKnee * max(b - knee, 0)
                + perKVToken * max(kvTokens, 0)
        )
    }
}
