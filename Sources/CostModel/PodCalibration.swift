// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What observation has taught about one pod, as corrections to its profile. Neutral until something was observed.
package struct PodCalibration: Sendable, Hashable, Codable {
    /// Multiplies every predicted prefill duration.
    package var prefillScale: Double
    /// Multiplies every predicted decode step.
    package var decodeScale: Double
    /// Added to every TTFT, in seconds, on top of the profile's overhead. May be negative.
    package var ttftOffset: Seconds
    /// Relative margin so that 90 % of prefills end within prediction × (1 + margin).
    package var prefillMargin: Double
    /// Relative margin so that 90 % of decode steps end within prediction × (1 + margin).
    package var decodeMargin: Double
    /// True while more than 30 % of recent observations are outliers: seconds are not to be trusted, queue lengths are.
    package var isDegraded: Bool

    package init(
        prefillScale: Double = 1,
        decodeScale: Double = 1,
        ttftOffset: Seconds = .zero,
        prefillMargin: Double = 0.2,
        decodeMargin: Double = 0.2,
        isDegraded: Bool = false
    ) {
        self.prefillScale = prefillScale
        self.decodeScale = decodeScale
        self.ttftOffset = ttftOffset
        self.prefillMargin = prefillMargin
        self.decodeMargin = decodeMargin
        self.isDegraded = isDegraded
    }

    package static let neutral = PodCalibration()
}
