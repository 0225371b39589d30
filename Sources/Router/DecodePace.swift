// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// How fast a pod decodes, before anything is known of the request.
struct DecodePace: Sendable {
    /// Sequences and KV tokens, never below zero.
    var batch: Double
    var kvTokens: Double
    /// How much longer a step takes for prompts that the pod computes itself; at 0.8 the guard has long stopped them.
    var stretch: Double
    /// Seconds of a step now.
    var step: Double
    /// Seconds of a step with one sequence more, without its KV and without stretch, and what each KV token adds.
    var nextStep: Double
    var perKVToken: Double
    /// Output tokens that each sequence is still expected to give.
    var remaining: Double
    /// Dollars per second of one sequence's share.
    var shareDollars: Double
    /// 90 % margin of the batch's growth, in mean outputs: √(B + 1) of exponential lengths, 1.28 σ.
    var spread: Double
    /// Seconds per new token of a chunked prefill, at least.
    var leastPrefillPerToken: Double

    @inline(__always)
    init(_ state: PodState) {
        let decode = state.profile.decode
        let scale = state.calibration.decodeScale
        batch = max(state.batch, 0)
        kvTokens = max(state.kvTokens, 0)
        stretch = 1 / (1 - min(max(state.localShare, 0), 0.8))
        step = scale * stretch * decode.step(batch: batch, kvTokens: kvTokens).rawValue
        nextStep = scale * decode.step(batch: batch + 1, kvTokens: kvTokens).rawValue
        perKVToken = scale * decode.perKVToken
        remaining = batch > 0 ? max(state.outstandingTokens / batch, 1) : 0
        shareDollars = state.profile.dollarsPerSecond / (batch + 1)
        spread = 1.2816 * (batch + 1).squareRoot()
        let mixed = state.profile.mixed
        leastPrefillPerToken =
            state.calibration.prefillScale * max(min(mixed.perTokenBelowKnee, mixed.perTokenAboveKnee), 0)
    }
}
