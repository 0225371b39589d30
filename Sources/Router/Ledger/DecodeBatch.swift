// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The sequences that decode on one pod, as counts and sums: adding, ending and asking are O(1).
///
/// Growth is counted by the pod's token clock: it ticks once per decode step, at the predicted pace, so a sequence that
/// joined at tick a has produced (now − a) tokens. The same clock tells how many steps were predicted between a first
/// and a last token, which is what the observed number of tokens is compared with.
struct DecodeBatch: Sendable {
    /// Requests sent here to decode and not over.
    private(set) var assigned = 0
    /// Those of them that produce tokens.
    private(set) var decoding = 0
    private(set) var promptTokens = 0
    private(set) var expectedTokens = 0
    private var joinedPromptTokens = 0
    /// Decode steps since the pod is known.
    private(set) var clock = 0.0
    private var clockAt = 0.0
    /// Steps per second.
    private var pace = 0.0
    /// Sequences and KV tokens of the step in progress, and their sums over all steps: means over any time follow.
    private var stepBatch = 0.0
    private var stepTokens = 0.0
    private(set) var batchSum = 0.0
    private(set) var tokenSum = 0.0
    private var joinedSum = 0.0

    mutating func advance(to now: Double) {
        guard now > clockAt else { return }
        let ticks = (now - clockAt) * pace
        clock += ticks
        batchSum += ticks * stepBatch
        tokenSum += ticks * stepTokens
        clockAt = now
    }

    /// - Parameters:
    ///   - step: predicted seconds of one step from now on.
    ///   - batch: sequences that it was predicted for.
    ///   - kvTokens: KV tokens that they hold.
    mutating func setStep(_ step: Double, batch: Double, kvTokens: Double) {
        pace = step > 1e-6 ? 1 / step : 0
        stepBatch = batch
        stepTokens = kvTokens
    }

    mutating func assign(prompt: Int, output: Int) {
        assigned += 1
        promptTokens += prompt
        expectedTokens += output
    }

    /// An assigned sequence begins to decode, in so many seconds. - Returns: the tick at which it joins.
    mutating func join(prompt: Int, in seconds: Double) -> Double {
        decoding += 1
        joinedPromptTokens += prompt
        let tick = clock + max(seconds, 0) * pace
        joinedSum += tick
        return tick
    }

    mutating func release(prompt: Int, output: Int, joinedAt: Double?) {
        assigned = max(assigned - 1, 0)
        promptTokens = max(promptTokens - prompt, 0)
        expectedTokens = max(expectedTokens - output, 0)
        guard let joinedAt else { return }
        decoding = max(decoding - 1, 0)
        joinedPromptTokens = max(joinedPromptTokens - prompt, 0)
        // Sums of doubles do not return to zero exactly; an empty batch does.
        joinedSum = decoding == 0 ? 0 : joinedSum - joinedAt
    }

    /// Tokens that the sequences here have produced. Call `advance` first.
    var producedTokens: Double { decoding == 0 ? 0 : max(Double(decoding) * clock - joinedSum, 0) }

    /// KV tokens of the sequences that decode: what the engine itself can know of.
    var decodingTokens: Double { Double(joinedPromptTokens) + producedTokens }

    var kvTokens: Double { Double(promptTokens) + producedTokens }

    /// Expected tokens still to come; at least one for each sequence.
    var outstandingTokens: Double { max(Double(expectedTokens) - producedTokens, Double(assigned)) }
}
