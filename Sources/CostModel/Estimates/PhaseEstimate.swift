// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A predicted duration with its error band and its origin.
package struct PhaseEstimate: Sendable, Hashable, Codable {
    package var mean: Seconds
    /// Half of the 80 % band, relative: 0.1 is ±10 %.
    package var error: Double
    package var source: ProfileSource

    package init(mean: Seconds, error: Double, source: ProfileSource) {
        self.mean = mean
        self.error = error
        self.source = source
    }

    package var low: Seconds { mean * max(1 - error, 0) }
    package var high: Seconds { mean * (1 + error) }
    /// An 80 % band leaves 10 % on either side: its upper end is the 90 % quantile.
    package var p90: Seconds { high }
}

extension PodProfile {
    /// The band of a step that mixes both phases.
    package var mixedError: Double { max(prefillError, decodeError) }

    package func prefillEstimate(newTokens: Int, cachedTokens: Int) -> PhaseEstimate {
        PhaseEstimate(
            mean: prefill.duration(newTokens: newTokens, cachedTokens: cachedTokens),
            error: prefillError,
            source: source
        )
    }

    package func decodeEstimate(batch: Double, kvTokens: Double) -> PhaseEstimate {
        PhaseEstimate(mean: decode.step(batch: batch, kvTokens: kvTokens), error: decodeError, source: source)
    }

    /// One engine step by formula (1), with one chunk of `newTokens` behind `cachedTokens` and `batch` decodes holding
    /// `kvTokens`.
    package func stepEstimate(
        newTokens: Double,
        cachedTokens: Double,
        batch: Double,
        kvTokens: Double
    ) -> PhaseEstimate {
        let mean = mixed.step(
            newTokens: newTokens,
            pairs: newTokens * cachedTokens + newTokens * newTokens / 2,
            chunkContext: newTokens > 0 ? newTokens + cachedTokens : 0,
            batch: batch,
            kvTokens: kvTokens
        )
        return PhaseEstimate(mean: mean, error: mixedError, source: source)
    }

    package func closedLoopEstimate(batch: Double, input: Double, output: Double) -> PhaseEstimate {
        let error = (mixedError * mixedError + LadderError.closedLoop * LadderError.closedLoop).squareRoot()
        return PhaseEstimate(
            mean: closedLoopTPOT(batch: batch, input: input, output: output),
            error: min(error, LadderError.most),
            source: source
        )
    }
}
