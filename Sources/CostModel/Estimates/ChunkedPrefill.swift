// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

extension StepCoefficients {
    /// A prompt's prefill in chunks beside a running decode batch: the sum of formula (1) over its steps, which is
    /// formula (4) of the latency model.
    ///
    /// - Parameters:
    ///   - newTokens: of the prompt.
    ///   - cachedTokens: its prefix that is cached.
    ///   - budget: tokens that one step may process, decodes included.
    ///   - batch: decoding sequences.
    ///   - kvTokens: their KV tokens.
    /// - Returns: seconds until the last chunk is done, and the steps that takes.
    /// - Complexity: O(1), no allocation.
    @inlinable
    package func chunkedPrefill(
        newTokens: Double,
        cachedTokens: Double,
        budget: Double,
        batch: Double,
        kvTokens: Double
    ) -> (duration: Seconds, steps: Double) {
        let n = max(newTokens, 0)
        let p = max(cachedTokens, 0)
        let b = max(batch, 0)
        guard n > 0 else { return (.zero, 0) }
        // Decodes go first; a step that they fill alone still makes one block's progress.
        let chunk = min(max(budget - b, StepCoefficients.leastChunk), n)
        let steps = (n / chunk).rounded(.up)
        let last = n - (steps - 1) * chunk
        let tokens = (steps - 1) * linear(chunk + b) + linear(last + b)
        // Chunk k ends at context p + k·chunk, the last at p + n.
        let context = steps * p + chunk * steps * (steps - 1) / 2 + n
        let fixed = steps * (base + perSequence * b + perKVToken * max(kvTokens, 0))
        return (Seconds(fixed + tokens + perPair * (n * p + n * n / 2) + perKVToken * context), steps)
    }

    /// Tokens of a KV block: the smallest piece in which engines schedule a prompt.
    @usableFromInline static var leastChunk: Double { 16 }

    @inlinable
    func linear(_ tokens: Double) -> Double {
        perTokenBelowKnee * min(tokens, knee) + perTokenAboveKnee * max(tokens - knee, 0)
    }
}
