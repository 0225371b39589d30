// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One measured engine step: one chunk of `prefillTokens` without prefix, and `decodeTokens` sequences that hold
/// `kvTokens` of KV.
package struct MeasuredStep: Sendable, Hashable {
    package var prefillTokens: Double
    package var decodeTokens: Double
    package var kvTokens: Double
    package var duration: Seconds

    package init(prefillTokens: Double, decodeTokens: Double, kvTokens: Double, duration: Seconds) {
        self.prefillTokens = prefillTokens
        self.decodeTokens = decodeTokens
        self.kvTokens = kvTokens
        self.duration = duration
    }
}

/// Replays the steps of one experiment in order, each predicted before it is learned from.
package struct StepReplay: Sendable, Hashable {
    /// Steps that are scored: the last 80 %.
    package private(set) var scored = 0
    /// Mean absolute relative errors, by the profile alone and corrected.
    package private(set) var errorBefore = 0.0
    package private(set) var errorAfter = 0.0
    /// Share of scored steps that ended within the 90 % margin, and within the profile's band before any correction.
    package private(set) var coverage = 0.0
    package private(set) var bandCoverage = 0.0
    package private(set) var calibrator: StepCalibrator

    package static let unscoredShare = 0.2

    package init(_ steps: [MeasuredStep], profile: PodProfile) {
        calibrator = StepCalibrator(margin: profile.mixedError)
        let first = Int(Double(steps.count) * StepReplay.unscoredShare)
        for (index, step) in steps.enumerated() {
            let n = step.prefillTokens
            let terms = profile.mixed.terms(
                newTokens: n,
                pairs: n * n / 2,
                chunkContext: n,
                batch: step.decodeTokens,
                kvTokens: step.kvTokens
            )
            let observed = step.duration.rawValue
            if index >= first {
                let corrected = calibrator.predict(terms)
                scored += 1
                errorBefore += abs(terms.sum - observed) / observed
                errorAfter += abs(corrected - observed) / observed
                if observed <= corrected * (1 + calibrator.margin) { coverage += 1 }
                if abs(observed - terms.sum) <= profile.mixedError * terms.sum { bandCoverage += 1 }
            }
            calibrator.observe(terms: terms, observed: observed)
        }
        guard scored > 0 else { return }
        errorBefore /= Double(scored)
        errorAfter /= Double(scored)
        coverage /= Double(scored)
        bandCoverage /= Double(scored)
    }
}
