// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Glibc

/// Learns by how much one phase of one pod is slower or faster than its profile, and how far it scatters.
///
///     e = clip(y − s·ŷ, ± half of s·ŷ);   s ← clamp(s·(1 + g·e/(s·ŷ)), 0.3, 3)
///     q ← clamp(q + η(τ − [y ≤ s·ŷ(1 + q)]), 0, 2)
///
/// ŷ = what the profile predicts, uncorrected; y = what was seen. One number per phase follows a wrong prior and a
/// drift alike, and cannot be misled by correlated terms: docs/cost-model.md.
package struct PhaseCalibrator: Sendable, Hashable, Codable {
    /// s.
    package private(set) var scale: Double
    /// q: nine of ten observations lie below s·ŷ(1 + q).
    package private(set) var margin: Double
    /// Observations learned from, outliers included.
    package private(set) var samples: Int
    package private(set) var outliers: Int
    /// Mean absolute relative error of the corrected predictions, over about the last `1 / errorGain`.
    package private(set) var recentError: Double

    /// Below, the correction is learned but not applied: a handful of requests may all be odd.
    package static let leastSamples = 20
    /// Far enough that a pod three times off is followed, near enough that nonsense does no lasting harm.
    package static let scaleRange = 0.3...3.0
    package static let marginRange = 0.0...2.0
    /// Weight of one observation once the first are in: a change is half followed after 23.
    static let gain = 0.03
    /// g of the first observations is 1/(n + 2), so that a wrong prior does not linger; never more than this.
    static let greatestGain = 0.25
    static let marginGain = 0.02
    static let quantile = 0.9
    static let errorGain = 0.02
    /// Counts stop here: no sum of two overflows.
    package static let greatestCount = 1 << 40
    /// |ln(y / s·ŷ)| beyond this is an outlier: counted, and clipped in what it teaches.
    static let outlierLogRatio = 1.0986122886681098

    package init(margin: Double = 0.2) {
        scale = 1
        self.margin = min(max(margin, PhaseCalibrator.marginRange.lowerBound), PhaseCalibrator.marginRange.upperBound)
        samples = 0
        outliers = 0
        recentError = 0
    }

    /// True once enough was seen for the correction to be applied.
    package var isReady: Bool { samples >= PhaseCalibrator.leastSamples }
    package var appliedScale: Double { isReady ? scale : 1 }

    /// - Parameters:
    ///   - predicted: seconds by the profile, uncorrected.
    ///   - observed: seconds seen.
    ///   - count: how many requests the two are the mean of. More than one teaches the scale alone: means say nothing of
    ///     the scatter.
    /// - Returns: whether it was an outlier; nil where the figures are unusable and nothing was learned.
    @discardableResult
    package mutating func observe(predicted: Double, observed: Double, count: Int = 1) -> Bool? {
        guard predicted.isFinite, observed.isFinite, predicted > 0, observed > 0, count > 0 else { return nil }
        let corrected = scale * predicted
        let isOutlier = abs(log(observed / corrected)) > PhaseCalibrator.outlierLogRatio
        // What is not yet corrected says nothing of how far the corrected scatters.
        if count == 1, isReady {
            let reference = scale * predicted
            let covered = observed <= reference * (1 + margin)
            let step = PhaseCalibrator.marginGain * (PhaseCalibrator.quantile - (covered ? 1 : 0))
            margin = clamped(margin + step, to: PhaseCalibrator.marginRange)
            recentError += PhaseCalibrator.errorGain * (min(abs(observed - reference) / observed, 2) - recentError)
        }
        let relative = min(max(observed / corrected - 1, -0.5), 0.5)
        var weight = max(PhaseCalibrator.gain, 1 / Double(min(samples, 1000) + 2))
        weight = min(weight, PhaseCalibrator.greatestGain)
        if count > 1 { weight = 1 - pow(1 - weight, Double(min(count, 64))) }
        scale = clamped(scale * (1 + weight * relative), to: PhaseCalibrator.scaleRange)
        samples = min(samples + min(count, 1 << 20), Self.greatestCount)
        if isOutlier { outliers = min(outliers + 1, Self.greatestCount) }
        return isOutlier
    }

    private func clamped(_ value: Double, to range: ClosedRange<Double>) -> Double {
        min(max(value, range.lowerBound), range.upperBound)
    }
}

extension PhaseCalibrator {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        scale = try container.decode(Double.self, forKey: .scale)
        margin = try container.decode(Double.self, forKey: .margin)
        samples = min(max(try container.decode(Int.self, forKey: .samples), 0), Self.greatestCount)
        outliers = min(max(try container.decode(Int.self, forKey: .outliers), 0), Self.greatestCount)
        recentError = try container.decode(Double.self, forKey: .recentError)
        guard PhaseCalibrator.scaleRange.contains(scale), PhaseCalibrator.marginRange.contains(margin),
            recentError.isFinite
        else {
            throw DecodingError.dataCorruptedError(
                forKey: .scale,
                in: container,
                debugDescription:
                    "a scale within \(PhaseCalibrator.scaleRange) and a margin within \(PhaseCalibrator.marginRange)"
            )
        }
    }

    private enum CodingKeys: String, CodingKey {
        case scale, margin, samples, outliers, recentError
    }
}
