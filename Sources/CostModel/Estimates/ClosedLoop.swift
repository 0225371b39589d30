// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

extension PodProfile {
    /// Time per output token of a server that keeps a batch of equal requests running and admits the next when one
    /// ends. Formula (5) of the latency model.
    ///
    ///     TPOT = T_dec(B, B·(I + O/2)) + (B − 1)·T_pre(I)/O
    ///
    /// Each of the other B − 1 requests stops this one for its own prefill once per O steps. `input`, `output`: tokens
    /// of one request.
    package func closedLoopTPOT(batch: Double, input: Double, output: Double) -> Seconds {
        // Comparisons that NaN fails; and no figure makes infinity divide infinity.
        let b = batch >= 1 ? min(batch, 1e9) : 1
        let (i, o) = (input >= 0 ? min(input, 1e9) : 0, output >= 1 ? min(output, 1e9) : 1)
        let others = (b - 1) * prefill.duration(newTokens: Int(tokens: i), cachedTokens: 0).rawValue / o
        return decode.step(batch: b, kvTokens: b * (i + o / 2)) + Seconds(others)
    }
}
