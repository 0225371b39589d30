// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A predicted duration split into what its coefficients contribute, in seconds: launches and weights, tokens, pairs of
/// tokens (attention), and KV reads. Their sum is the prediction.
package struct PredictionTerms: Sendable, Hashable, Codable {
    package var base: Double
    package var tokens: Double
    package var pairs: Double
    package var kv: Double

    package init(base: Double, tokens: Double, pairs: Double, kv: Double) {
        self.base = base
        self.tokens = tokens
        self.pairs = pairs
        self.kv = kv
    }

    package static let zero = PredictionTerms(base: 0, tokens: 0, pairs: 0, kv: 0)

    package var sum: Double { base + tokens + pairs + kv }

    /// Terms of several predictions together, each `times` over.
    package mutating func add(_ other: PredictionTerms, times: Double = 1) {
        base += other.base * times
        tokens += other.tokens * times
        pairs += other.pairs * times
        kv += other.kv * times
    }

    subscript(index: Int) -> Double {
        get {
            switch index {
            case 0: base
            case 1: tokens
            case 2: pairs
            default: kv
            }
        }
        set {
            switch index {
            case 0: base = newValue
            case 1: tokens = newValue
            case 2: pairs = newValue
            default: kv = newValue
            }
        }
    }

    static let count = 4

    /// Each term times its factor.
    package func dot(_ other: PredictionTerms) -> Double {
        base * other.base + tokens * other.tokens + pairs * other.pairs + kv * other.kv
    }
}

extension PrefillCoefficients {
    package func terms(newTokens: Double, cachedTokens: Double) -> PredictionTerms {
        let (n, p) = (max(newTokens, 0), max(cachedTokens, 0))
        return PredictionTerms(
            base: base,
            tokens: perTokenBelowKnee * min(n, knee) + perTokenAboveKnee * max(n - knee, 0),
            pairs: perPair * (n * p + n * n / 2),
            kv: perContextToken * (n + p)
        )
    }

    /// These coefficients, each group times its factor.
    package func multiplied(by factors: PredictionTerms) -> PrefillCoefficients {
        PrefillCoefficients(
            knee: knee,
            base: base * factors.base,
            perTokenBelowKnee: perTokenBelowKnee * factors.tokens,
            perTokenAboveKnee: perTokenAboveKnee * factors.tokens,
            perPair: perPair * factors.pairs,
            perContextToken: perContextToken * factors.kv
        )
    }
}

extension DecodeCoefficients {
    package func terms(batch: Double, kvTokens: Double) -> PredictionTerms {
        let b = max(batch, 0)
        return PredictionTerms(
            base: base,
            tokens: perSequenceBelowKnee * min(b, knee) + perSequenceAboveKnee * max(b - knee, 0),
            pairs: 0,
            kv: perKVToken * max(kvTokens, 0)
        )
    }

    package func multiplied(by factors: PredictionTerms) -> DecodeCoefficients {
        DecodeCoefficients(
            knee: knee,
            base: base * factors.base,
            perSequenceBelowKnee: perSequenceBelowKnee * factors.tokens,
            perSequenceAboveKnee: perSequenceAboveKnee * factors.tokens,
            perKVToken: perKVToken * factors.kv
        )
    }
}

extension StepCoefficients {
    /// Arguments as of `step`.
    package func terms(
        newTokens: Double,
        pairs: Double,
        chunkContext: Double,
        batch: Double,
        kvTokens: Double
    ) -> PredictionTerms {
        PredictionTerms(
            base: base,
            tokens: linear(newTokens + batch),
            pairs: perPair * pairs,
            kv: perSequence * batch + perKVToken * (kvTokens + chunkContext)
        )
    }

    /// A mixed step has the passes and tokens of a prefill, and the sequences and KV reads of a decode.
    package func multiplied(prefill: PredictionTerms, decode: PredictionTerms) -> StepCoefficients {
        StepCoefficients(
            knee: knee,
            base: base * prefill.base,
            perTokenBelowKnee: perTokenBelowKnee * prefill.tokens,
            perTokenAboveKnee: perTokenAboveKnee * prefill.tokens,
            perPair: perPair * prefill.pairs,
            perSequence: perSequence * decode.tokens,
            perKVToken: perKVToken * decode.kv
        )
    }
}
