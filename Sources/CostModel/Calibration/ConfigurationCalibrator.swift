// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What the pods of one configuration (accelerator, model, tensor parallelism, dtype, engine) teach together: which
/// coefficients of its profile are off, by phase.
///
/// Factors are handed to pods in steps, not with every observation: a pod's profile then changes a few times while the
/// factors settle, and hardly ever after.
package struct ConfigurationCalibrator: Sendable, Hashable, Codable {
    package private(set) var prefill = CoefficientCalibrator()
    package private(set) var decode = CoefficientCalibrator()
    /// The factors in use. nil = the phase's profile stands as it is.
    package private(set) var prefillFactors: PredictionTerms?
    package private(set) var decodeFactors: PredictionTerms?

    /// Relative change of a factor that is worth telling the pods.
    static let step = 0.01
    /// No corrected coefficient falls below this share of the profile's, scale included: a profile is not slower than
    /// the roofline by more, and nothing beats the hardware.
    static let least = 0.3

    package init() {}

    /// `scale` and `residual`: the pod's own, on the profile and on the factors. A queue or others' work in the seconds
    /// must have been taken out.
    package mutating func observePrefill(
        terms: PredictionTerms,
        observed: Seconds,
        scale: Double,
        residual: Double
    ) -> Bool {
        prefill.observe(terms: terms, observed: observed.rawValue, scale: scale, residual: residual)
        return Self.publish(prefill, &prefillFactors)
    }

    /// - Returns: true when the factors in use changed, so that pods must take them.
    package mutating func observeDecode(
        terms: PredictionTerms,
        observed: Seconds,
        scale: Double,
        residual: Double
    ) -> Bool {
        decode.observe(terms: terms, observed: observed.rawValue, scale: scale, residual: residual)
        return Self.publish(decode, &decodeFactors)
    }

    private static func publish(_ learned: CoefficientCalibrator, _ used: inout PredictionTerms?) -> Bool {
        // Once in use they stay while they are not worse than a scale: no flapping at the edge.
        guard learned.isPublished || (used != nil && learned.error < learned.scaleError) else {
            defer { used = nil }
            return used != nil
        }
        let factors = learned.factors
        if let used, (0..<PredictionTerms.count).allSatisfy({ abs(factors[$0] / used[$0] - 1) <= step }) {
            return false
        }
        used = factors
        return true
    }

    /// What a pod predicts with: its profile's coefficients times the factors in use, and its own corrections on top.
    package func apply(_ pod: PodCalibrator, to profile: PodProfile) -> (PodProfile, PodCalibration) {
        let calibration = pod.calibration(
            onPrefillFactors: prefillFactors != nil,
            onDecodeFactors: decodeFactors != nil
        )
        guard prefillFactors != nil || decodeFactors != nil else { return (profile, calibration) }
        let one = PredictionTerms(base: 1, tokens: 1, pairs: 1, kv: 1)
        let prefill = prefillFactors.map { Self.bounded($0, calibration.prefillScale) } ?? one
        let decode = decodeFactors.map { Self.bounded($0, calibration.decodeScale) } ?? one
        var corrected = profile
        corrected.prefill = profile.prefill.multiplied(by: prefill)
        corrected.decode = profile.decode.multiplied(by: decode)
        corrected.mixed = profile.mixed.multiplied(prefill: prefill, decode: decode)
        return (corrected, calibration)
    }

    package init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        prefill = try container.decode(CoefficientCalibrator.self, forKey: .prefill)
        decode = try container.decode(CoefficientCalibrator.self, forKey: .decode)
        _ = Self.publish(prefill, &prefillFactors)
        _ = Self.publish(decode, &decodeFactors)
    }

    private enum CodingKeys: String, CodingKey { case prefill, decode, prefillFactors, decodeFactors }

    private static func bounded(_ factors: PredictionTerms, _ scale: Double) -> PredictionTerms {
        var result = factors
        for i in 0..<PredictionTerms.count { result[i] = max(factors[i], least / max(scale, least)) }
        return result
    }
}
