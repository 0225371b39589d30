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
    package private(set) var offset = OffsetMedian()
    package private(set) var window = OutlierWindow()
    /// Observations that were not learned from: too short, flawed, or not numbers.
    package private(set) var ignored = 0

    /// Shorter prefills are all overhead.
    package static let leastPrefillTokens = 64
    /// A time per output token over fewer is all rounding and chunking.
    package static let leastOutputTokens = 16

    /// A calibrator whose first margins are the bands of the profile.
    package init(profile: PodProfile? = nil) {
        // An 80 % band leaves 10 % above it: its half is the 90 % quantile.
        prefill = PhaseCalibrator(margin: profile?.prefillError ?? 0.2)
        decode = PhaseCalibrator(margin: profile?.decodeError ?? 0.2)
    }

    /// A prefill that ended: TTFT less the offset, the queue and the transfer, where those are known.
    package mutating func observePrefill(
        predicted: Seconds,
        observed: Seconds,
        newTokens: Int,
        flaws: ObservationFlaws = [],
        at now: Instant
    ) {
        guard flaws.isEmpty, newTokens >= PodCalibrator.leastPrefillTokens else { return ignore() }
        let seen = prefill.observe(predicted: predicted.rawValue, observed: observed.rawValue)
        record(seen, at: now)
    }

    /// A decode that ended: the mean step, (last token − first token) ÷ (output tokens − 1), against the step that the
    /// profile predicts for the batch it ran in.
    package mutating func observeDecode(
        predicted: Seconds,
        observed: Seconds,
        outputTokens: Int,
        flaws: ObservationFlaws = [],
        at now: Instant
    ) {
        let flaws = flaws.subtracting([.cacheUnknown, .queued])
        guard flaws.isEmpty, outputTokens >= PodCalibrator.leastOutputTokens else { return ignore() }
        let seen = decode.observe(predicted: predicted.rawValue, observed: observed.rawValue)
        record(seen, at: now)
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
    ///   - observed: growth of the histogram's sum, in seconds.
    ///   - count: growth of its count.
    package mutating func observePrefills(predicted: Seconds, observed: Seconds, count: Int) {
        guard count > 0 else { return }
        let each = 1 / Double(count)
        let seen = prefill.observe(
            predicted: predicted.rawValue * each,
            observed: observed.rawValue * each,
            count: max(count, 2)
        )
        if seen == nil { ignore() }
    }

    /// As `observePrefills`, for decode: sums of seconds over all output tokens of the requests that ended.
    package mutating func observeDecodes(predicted: Seconds, observed: Seconds, count: Int) {
        guard count > 0 else { return }
        let each = 1 / Double(count)
        let seen = decode.observe(
            predicted: predicted.rawValue * each,
            observed: observed.rawValue * each,
            count: max(count, 2)
        )
        if seen == nil { ignore() }
    }

    /// The corrections to apply now.
    package var calibration: PodCalibration {
        PodCalibration(
            prefillScale: prefill.appliedScale,
            decodeScale: decode.appliedScale,
            ttftOffset: Seconds(offset.median),
            prefillMargin: prefill.margin,
            decodeMargin: decode.margin,
            isDegraded: window.isDegraded
        )
    }

    private mutating func record(_ isOutlier: Bool?, at now: Instant) {
        guard let isOutlier else { return ignore() }
        window.record(isOutlier: isOutlier, at: now)
    }

    private mutating func ignore() { ignored = min(ignored + 1, 1 << 40) }
}
