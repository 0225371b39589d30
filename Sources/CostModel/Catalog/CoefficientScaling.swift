// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Ratios of coefficients, and coefficients carried over by them.
private func carried(_ value: Double, _ from: Double, _ to: Double) -> Double {
    guard from > 0, to > 0 else { return value }
    return value * (to / from)
}

extension PrefillCoefficients {
    package func multiplied(by factor: Double) -> PrefillCoefficients {
        PrefillCoefficients(
            knee: knee,
            base: base * factor,
            perTokenBelowKnee: perTokenBelowKnee * factor,
            perTokenAboveKnee: perTokenAboveKnee * factor,
            perPair: perPair * factor,
            perContextToken: perContextToken * factor
        )
    }

    /// These coefficients times the ratio of another configuration's roofline to this one's.
    func scaled(from: PrefillCoefficients, to: PrefillCoefficients) -> PrefillCoefficients {
        PrefillCoefficients(
            knee: knee,
            base: carried(base, from.base, to.base),
            perTokenBelowKnee: carried(perTokenBelowKnee, from.perTokenBelowKnee, to.perTokenBelowKnee),
            perTokenAboveKnee: carried(perTokenAboveKnee, from.perTokenAboveKnee, to.perTokenAboveKnee),
            perPair: carried(perPair, from.perPair, to.perPair),
            perContextToken: carried(perContextToken, from.perContextToken, to.perContextToken)
        )
    }
}

extension DecodeCoefficients {
    package func multiplied(by factor: Double) -> DecodeCoefficients {
        DecodeCoefficients(
            knee: knee,
            base: base * factor,
            perSequenceBelowKnee: perSequenceBelowKnee * factor,
            perSequenceAboveKnee: perSequenceAboveKnee * factor,
            perKVToken: perKVToken * factor
        )
    }

    func scaled(from: DecodeCoefficients, to: DecodeCoefficients) -> DecodeCoefficients {
        DecodeCoefficients(
            knee: knee,
            base: carried(base, from.base, to.base),
            perSequenceBelowKnee: carried(perSequenceBelowKnee, from.perSequenceBelowKnee, to.perSequenceBelowKnee),
            perSequenceAboveKnee: carried(perSequenceAboveKnee, from.perSequenceAboveKnee, to.perSequenceAboveKnee),
            perKVToken: carried(perKVToken, from.perKVToken, to.perKVToken)
        )
    }
}

extension StepCoefficients {
    package func multiplied(by factor: Double) -> StepCoefficients {
        StepCoefficients(
            knee: knee,
            base: base * factor,
            perTokenBelowKnee: perTokenBelowKnee * factor,
            perTokenAboveKnee: perTokenAboveKnee * factor,
            perPair: perPair * factor,
            perSequence: perSequence * factor,
            perKVToken: perKVToken * factor
        )
    }

    func scaled(from: StepCoefficients, to: StepCoefficients) -> StepCoefficients {
        StepCoefficients(
            knee: knee,
            base: carried(base, from.base, to.base),
            perTokenBelowKnee: carried(perTokenBelowKnee, from.perTokenBelowKnee, to.perTokenBelowKnee),
            perTokenAboveKnee: carried(perTokenAboveKnee, from.perTokenAboveKnee, to.perTokenAboveKnee),
            perPair: carried(perPair, from.perPair, to.perPair),
            perSequence: carried(perSequence, from.perSequence, to.perSequence),
            perKVToken: carried(perKVToken, from.perKVToken, to.perKVToken)
        )
    }
}
