// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Recursive least squares over the terms of a prediction: learns which of them a profile has wrong, where a scale can
/// only say that the whole is. One for each configuration and phase, shared by its pods: how far one pod differs from
/// the others is in scales of its own, which the caller keeps and brings along.
///
///     x = terms of the profile,  ŷ = θ·x,  e = clip(y − ŷ, ± half of ŷ)
///     v = x'Sx + (0.05 ŷ)²;  k = Sx/v;  θ += k·e;  S ← (S − k x'S)/λ
///
/// θ starts at 1. The covariance S starts as "all are off together, by 40 %; each by itself, by 10 %", so the first
/// observations move the common factor, and only contrast between observations parts the terms: collinear ones keep the
/// profile's ratio. Terms that no observation excites do not drift, because S is capped.
package struct CoefficientCalibrator: Sendable, Hashable, Codable {
    /// θ: by what each term of the profile is to be multiplied.
    package private(set) var factors = PredictionTerms(base: 1, tokens: 1, pairs: 1, kv: 1)
    /// S, by rows.
    private var covariance: [Double]
    package private(set) var samples = 0
    /// Rolling mean absolute relative errors over about 200 observations: of this, and of a scale alone.
    package private(set) var error = 0.0
    package private(set) var scaleError = 0.0

    /// Forgets half after 69 observations.
    static let forgetting = 0.99
    static let commonDeviation = 0.4
    static let ownDeviation = 0.1
    static let noise = 0.05
    static let greatestVariance = 0.2
    static let factorRange = 0.2...5.0
    static let errorGain = 1.0 / 200
    static let greatestError = 2.0
    package static let leastSamples = 60
    /// Published where its rolling error is below this share of the scale's: more freedom must earn its keep.
    static let advantage = 0.9
    /// And by this much: below, both are as good as can be.
    static let leastAdvantage = 0.005

    package init() {
        let n = PredictionTerms.count
        covariance = (0..<n * n).map { index in
            let own = index / n == index % n ? Self.ownDeviation * Self.ownDeviation : 0
            return Self.commonDeviation * Self.commonDeviation + own
        }
    }

    /// True where the factors predict better than a scale does.
    package var isPublished: Bool {
        samples >= Self.leastSamples && error < min(Self.advantage * scaleError, scaleError - Self.leastAdvantage)
    }

    /// Seconds by the factors.
    package func predict(_ terms: PredictionTerms) -> Double { factors.dot(terms) }

    /// Learns from one observation.
    ///
    /// - Parameters:
    ///   - terms: the profile's, uncorrected.
    ///   - y: seconds that were seen.
    ///   - scale: the competitor: what a scale of the pod alone makes of the profile's prediction.
    ///   - residual: how much slower than the factors say the pod is: follows a drift of the whole on top of them.
    package mutating func observe(terms: PredictionTerms, observed y: Double, scale: Double, residual: Double) {
        let plain = terms.sum
        guard plain.isFinite, plain > 0, y.isFinite, y > 0, scale > 0, residual > 0 else { return }
        let predicted = factors.dot(terms)
        // Before, scales are not applied yet: no fair comparison.
        if samples >= PhaseCalibrator.leastSamples {
            let gain = max(Self.errorGain, 1 / Double(samples - PhaseCalibrator.leastSamples + 1))
            error += gain * (min(abs(residual * predicted / y - 1), Self.greatestError) - error)
            scaleError += gain * (min(abs(scale * plain / y - 1), Self.greatestError) - scaleError)
        }
        let target = y / residual
        samples = min(samples + 1, PhaseCalibrator.greatestCount)

        let n = PredictionTerms.count
        var sx = PredictionTerms(base: 0, tokens: 0, pairs: 0, kv: 0)
        for i in 0..<n { for j in 0..<n { sx[i] += covariance[i * n + j] * terms[j] } }
        let sigma = Self.noise * predicted
        let variance = sx.dot(terms) + sigma * sigma
        guard variance.isFinite, variance > 0 else { return }
        let e = min(max(target - predicted, -0.5 * predicted), 0.5 * predicted)
        for i in 0..<n {
            let moved = factors[i] + sx[i] / variance * e
            factors[i] = min(max(moved, Self.factorRange.lowerBound), Self.factorRange.upperBound)
        }
        var greatest = 0.0
        for i in 0..<n {
            for j in 0..<n {
                covariance[i * n + j] = (covariance[i * n + j] - sx[i] / variance * sx[j]) / Self.forgetting
            }
            greatest = max(greatest, covariance[i * n + i])
        }
        guard greatest > Self.greatestVariance else { return }
        for index in covariance.indices { covariance[index] *= Self.greatestVariance / greatest }
    }
}

extension CoefficientCalibrator {
    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init()
        let n = PredictionTerms.count
        let stored = try container.decode([Double].self, forKey: .covariance)
        let factors = try container.decode(PredictionTerms.self, forKey: .factors)
        // A diagonal of rounding below zero, or far above the cap, would stop this phase from ever learning again.
        let variances = 0...Self.greatestVariance * (1 + 1e-9)
        guard stored.count == n * n, stored.allSatisfy({ abs($0) <= variances.upperBound }),
            (0..<n).allSatisfy({ variances.contains(stored[$0 * n + $0]) && Self.factorRange.contains(factors[$0]) })
        else {
            throw DecodingError.dataCorruptedError(
                forKey: .covariance,
                in: container,
                debugDescription:
                    "a covariance of \(n) × \(n) within \(variances), and factors within \(Self.factorRange)"
            )
        }
        covariance = stored
        self.factors = factors
        samples = min(max(try container.decode(Int.self, forKey: .samples), 0), PhaseCalibrator.greatestCount)
        error = min(max(try container.decode(Double.self, forKey: .error), 0), Self.greatestError)
        scaleError = min(max(try container.decode(Double.self, forKey: .scaleError), 0), Self.greatestError)
    }

    private enum CodingKeys: String, CodingKey {
        case factors, covariance, samples, error, scaleError
    }
}
