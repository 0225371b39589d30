// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What observation teaches about one pod: a scale per phase, an additive TTFT offset, margins for the 90 % quantile,
/// and whether its predictions can be trusted at all.
///
/// Pure: the caller brings predictions (of the profile, uncorrected), observations and the time. The first token of a
/// request gives a TTFT, its end the time per output token.
///
///     calibrator.observePrefill(predicted: profile.prefill.duration(…), observed: seen, newTokens: n, at: now)
///     status.calibration = calibrator.calibration
package struct PodCalibrator: Sendable, Hashable, Codable {
    package private(set) var prefill: PhaseCalibrator
    package private(set) var decode: PhaseCalibrator
    /// The same on top of the configuration's shared factors, for the time when these are published.
    package private(set) var prefillRest: PhaseCalibrator
    package private(set) var decodeRest: PhaseCalibrator
    package private(set) var offset = OffsetMedian()
    package private(set) var window = OutlierWindow()
    /// `accelerator/model/tp4/dtype/engine` of the pod it was learned of. What a pod of the same name teaches that runs
    /// something else is another matter.
    package let configuration: String
    /// Observations that were not learned from: too short, flawed, or not numbers.
    package private(set) var ignored = 0

    /// Shorter prefills are all overhead.
    package static let leastPrefillTokens = 64
    /// A time per output token over fewer is all rounding and chunking.
    package static let leastOutputTokens = 16

    /// A calibrator whose first margins are the bands of the profile.
    package init(profile: PodProfile? = nil, configuration: String = "") {
        self.configuration = configuration
        // An 80 % band leaves 10 % above it: its half is the 90 % quantile.
        prefill = PhaseCalibrator(margin: profile?.prefillError ?? 0.2)
        decode = PhaseCalibrator(margin: profile?.decodeError ?? 0.2)
        prefillRest = prefill
        decodeRest = decode
    }

    /// A prefill that ended: TTFT less the offset, the queue and the transfer, where those are known.
    ///
    /// `factored`: what the shared factors make of `predicted`; nil = the same. `usesFactors`: requests are placed by
    /// these: then they are what an outlier is measured from.
    package mutating func observePrefill(
        predicted: Seconds,
        factored: Seconds? = nil,
        usesFactors: Bool = false,
        observed: Seconds,
        newTokens: Int,
        flaws: ObservationFlaws = [],
        at now: Instant
    ) {
        guard flaws.isEmpty, newTokens >= PodCalibrator.leastPrefillTokens else { return ignore() }
        let plain = prefill.observe(predicted: predicted.rawValue, observed: observed.rawValue)
        let rest = prefillRest.observe(predicted: (factored ?? predicted).rawValue, observed: observed.rawValue)
        record(usesFactors ? rest : plain, at: now)
    }

    /// A decode that ended: the mean step, (last token − first token) ÷ (output tokens − 1), against the step that the
    /// profile predicts for the batch it ran in.
    package mutating func observeDecode(
        predicted: Seconds,
        factored: Seconds? = nil,
        usesFactors: Bool = false,
        observed: Seconds,
        outputTokens: Int,
        flaws: ObservationFlaws = [],
        at now: Instant
    ) {
        let flaws = flaws.subtracting([.cacheUnknown, .queued])
        guard flaws.isEmpty, outputTokens >= PodCalibrator.leastOutputTokens else { return ignore() }
        let plain = decode.observe(predicted: predicted.rawValue, observed: observed.rawValue)
        let rest = decodeRest.observe(predicted: (factored ?? predicted).rawValue, observed: observed.rawValue)
        record(usesFactors ? rest : plain, at: now)
    }

    /// A TTFT at an idle pod: what it took beyond the profile's overhead and the (corrected) prefill and transfer.
    package mutating func observeTTFTOffset(predicted: Seconds, observed: Seconds, flaws: ObservationFlaws = []) {
        let residual = observed.rawValue - predicted.rawValue
        guard flaws.isEmpty, residual.isFinite else { return ignore() }
        offset.observe(residual)
    }

    /// What two scrapes of the pod's own histograms say of the requests that ended between them: this tells prefill from
    /// queueing where the answer's stream shows their sum only.
    ///
    /// - Parameters:
    ///   - predicted: seconds that the profile predicts for those requests together.
    ///   - factored: what the shared factors make of it; nil = the same.
    ///   - observed: growth of the histogram's sum, in seconds.
    ///   - count: growth of its count.
    package mutating func observePrefills(
        predicted: Seconds,
        factored: Seconds? = nil,
        observed: Seconds,
        count: Int
    ) {
        if !Self.learn(predicted, factored, observed, count, &prefill, &prefillRest) { ignore() }
    }

    /// As `observePrefills`, for decode: sums of seconds over all output tokens of the requests that ended.
    package mutating func observeDecodes(predicted: Seconds, factored: Seconds? = nil, observed: Seconds, count: Int) {
        if !Self.learn(predicted, factored, observed, count, &decode, &decodeRest) { ignore() }
    }

    private static func learn(
        _ predicted: Seconds,
        _ factored: Seconds?,
        _ observed: Seconds,
        _ count: Int,
        _ scale: inout PhaseCalibrator,
        _ rest: inout PhaseCalibrator
    ) -> Bool {
        guard count > 0 else { return true }
        let each = 1 / Double(count)
        let mean = observed.rawValue * each
        let seen = scale.observe(predicted: predicted.rawValue * each, observed: mean, count: max(count, 2))
        rest.observe(predicted: (factored ?? predicted).rawValue * each, observed: mean, count: max(count, 2))
        return seen != nil
    }

    /// The scales of a phase: on the profile, and on what the shared factors make of it.
    package struct Scales: Sendable {
        package var plain: Double
        package var onFactors: Double
    }

    package var prefillScales: Scales { Scales(plain: prefill.appliedScale, onFactors: prefillRest.appliedScale) }
    package var decodeScales: Scales { Scales(plain: decode.appliedScale, onFactors: decodeRest.appliedScale) }

    /// The corrections to apply now to the profile.
    package var calibration: PodCalibration { calibration(onPrefillFactors: false, onDecodeFactors: false) }

    /// The corrections to apply now: to the profile, or to what the shared factors made of a phase of it.
    package func calibration(onPrefillFactors: Bool, onDecodeFactors: Bool) -> PodCalibration {
        let (first, second) = (onPrefillFactors ? prefillRest : prefill, onDecodeFactors ? decodeRest : decode)
        return PodCalibration(
            prefillScale: first.appliedScale,
            decodeScale: second.appliedScale,
            ttftOffset: Seconds(offset.median),
            prefillMargin: first.margin,
            decodeMargin: second.margin,
            isDegraded: window.isDegraded
        )
    }

    private mutating func record(_ isOutlier: Bool?, at now: Instant) {
        guard let isOutlier else { return ignore() }
        window.record(isOutlier: isOutlier, at: now)
    }

    private mutating func ignore() { ignored = min(ignored, PhaseCalibrator.greatestCount) + 1 }
}
