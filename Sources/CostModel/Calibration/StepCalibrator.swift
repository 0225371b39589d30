// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Learns from the steps of one engine, where these can be seen: predicts each before it learns from it.
///
/// A scale on every step, recursive least squares beside it, and the 90 % quantile of whichever is used.
package struct StepCalibrator: Sendable, Hashable, Codable {
    package private(set) var coefficients = CoefficientCalibrator()
    /// Of the profile, and of the factors.
    private var scale = PhaseCalibrator()
    private var residual = PhaseCalibrator()
    /// Margin of the 90 % quantile above the corrected prediction.
    package private(set) var margin: Double

    package init(margin: Double = 0.2) { self.margin = margin }

    /// Corrected seconds, by the factors where these are better, else by the scale.
    package func predict(_ terms: PredictionTerms) -> Double {
        coefficients.isPublished
            ? residual.appliedScale * coefficients.predict(terms) : scale.appliedScale * terms.sum
    }

    package mutating func observe(terms: PredictionTerms, observed: Double) {
        guard observed.isFinite, observed > 0, terms.sum > 0, terms.sum.isFinite else { return }
        // What is not yet corrected says nothing of how far the corrected scatters.
        if coefficients.samples >= PhaseCalibrator.leastSamples {
            let covered = observed <= predict(terms) * (1 + margin)
            let step = PhaseCalibrator.marginGain * (PhaseCalibrator.quantile - (covered ? 1 : 0))
            let range = PhaseCalibrator.marginRange
            margin = min(max(margin + step, range.lowerBound), range.upperBound)
        }
        let (applied, rest) = (scale.appliedScale, residual.appliedScale)
        scale.observe(predicted: terms.sum, observed: observed)
        residual.observe(predicted: coefficients.predict(terms), observed: observed)
        coefficients.observe(terms: terms, observed: observed, scale: applied, residual: rest)
    }
}
