// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// All that was learned, as it is kept over a restart and shown at `/debug/calibration`.
package struct CalibrationState: Sendable, Hashable, Codable {
    /// Of the layout. A state of another version is not read.
    package static let currentVersion = 1

    package var version: Int
    /// By endpoint name.
    package var pods: [String: PodCalibrator]
    /// By `accelerator/model/phase`.
    package var shared: [String: CoefficientCalibrator]
    /// Learned fixed cost of a transfer, in seconds, by `prefill name>decode name`.
    package var transferCosts: [String: Double]

    package init(
        pods: [String: PodCalibrator] = [:],
        shared: [String: CoefficientCalibrator] = [:],
        transferCosts: [String: Double] = [:]
    ) {
        version = CalibrationState.currentVersion
        self.pods = pods
        self.shared = shared
        self.transferCosts = transferCosts
    }
}
