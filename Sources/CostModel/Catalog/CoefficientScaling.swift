// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Glibc

/// A coefficient carried from one configuration to another: the target's roofline times the source's ratio of fit to
/// roofline, to the power of `trust`. At 1 the fit's deviation is believed wholly, at 0 not at all.
private func carried(_ value: Double, _ from: Double, _ to: Double, _ trust: Double) -> Double {
    guard from > 0, to > 0 else { return value }
    guard trust < 1 else { return value * (to / from) }
    return to * pow(max(value / from, leastRatio), trust)
}

/// A fit may put a small coefficient at zero, where another takes its place.
private let leastRatio = 0.05

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
    func scaled(from: PrefillCoefficients, to: PrefillCoefficients, trust: Double) -> PrefillCoefficients {
        PrefillCoefficients(
            knee: carried(knee, from.knee, to.knee, 1),
            base: carried(base, from.base, to.base, trust),
            perTokenBelowKnee: carried(perTokenBelowKnee, from.perTokenBelowKnee, to.perTokenBelowKnee, trust),
            perTokenAboveKnee: carried(perTokenAboveKnee, from.perTokenAboveKnee, to.perTokenAboveKnee, trust),
            perPair: carried(perPair, from.perPair, to.perPair, trust),
            perContextToken: carried(perContextToken, from.perContextToken, to.perContextToken, trust)
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

    func scaled(from: DecodeCoefficients, to: DecodeCoefficients, trust: Double) -> DecodeCoefficients {
        DecodeCoefficients(
            knee: carried(knee, from.knee, to.knee, 1),
            base: carried(base, from.base, to.base, trust),
            perSequenceBelowKnee: carried(
                perSequenceBelowKnee,
                from.perSequenceBelowKnee,
                to.perSequenceBelowKnee,
                trust
            ),
            perSequenceAboveKnee: carried(
                perSequenceAboveKnee,
                from.perSequenceAboveKnee,
                to.perSequenceAboveKnee,
                trust
            ),
            perKVToken: carried(perKVToken, from.perKVToken, to.perKVToken, trust)
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

    func scaled(from: StepCoefficients, to: StepCoefficients, trust: Double) -> StepCoefficients {
        StepCoefficients(
            knee: carried(knee, from.knee, to.knee, 1),
            base: carried(base, from.base, to.base, trust),
            perTokenBelowKnee: carried(perTokenBelowKnee, from.perTokenBelowKnee, to.perTokenBelowKnee, trust),
            perTokenAboveKnee: carried(perTokenAboveKnee, from.perTokenAboveKnee, to.perTokenAboveKnee, trust),
            perPair: carried(perPair, from.perPair, to.perPair, trust),
            perSequence: carried(perSequence, from.perSequence, to.perSequence, trust),
            perKVToken: carried(perKVToken, from.perKVToken, to.perKVToken, trust)
        )
    }
}
