// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One engine step that mixes prefill chunks with decodes (chunked prefill on a pod of both roles).
///
///     T_step = c0 + c1lo·min(N, h) + c1hi·max(N − h, 0) + c2·A + d1·B + d2·(K + context of the chunks)
///
/// N = new prefill tokens + B, A = Σ (n·p + n²/2) over the chunks. Formula (1) of the latency model.
package struct StepCoefficients: Sendable, Hashable, Codable {
    package var knee: Double
    package var base: Double
    package var perTokenBelowKnee: Double
    package var perTokenAboveKnee: Double
    package var perPair: Double
    package var perSequence: Double
    package var perKVToken: Double

    package init(
        knee: Double,
        base: Double,
        perTokenBelowKnee: Double,
        perTokenAboveKnee: Double,
        perPair: Double,
        perSequence: Double,
        perKVToken: Double
    ) {
        self.knee = knee
        self.base = base
        self.perTokenBelowKnee = perTokenBelowKnee
        self.perTokenAboveKnee = perTokenAboveKnee
        self.perPair = perPair
        self.perSequence = perSequence
        self.perKVToken = perKVToken
    }

    /// - Parameters:
    ///   - newTokens: prefill tokens of this step's chunks together.
    ///   - pairs: Σ (n·p + n²/2) over the chunks.
    ///   - chunkContext: Σ (n + p) over the chunks.
    ///   - batch: decoding sequences.
    ///   - kvTokens: KV tokens of the decoding sequences.
    /// - Returns: the duration of the step.
    /// - Complexity: O(1), no allocation.
    @inlinable
    package func step(
        newTokens: Double,
        pairs: Double,
        chunkContext: Double,
        batch: Double,
        kvTokens: Double
    ) -> Seconds {
        let n = newTokens + batch
        return Seconds(
            base + perTokenBelowKnee * min(n, knee) + perTokenAboveKnee * max(n - knee, 0) + perPair * pairs
                + perSequence * batch + perKVToken * (kvTokens + chunkContext)
        )
    }
}
