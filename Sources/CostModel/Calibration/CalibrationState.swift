// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// All that was learned, as it is kept over a restart and shown at `/debug/calibration`.
package struct CalibrationState: Sendable, Hashable, Codable {
    /// Of the layout. A state of another version is not read.
    package static let currentVersion = 3

    package var version: Int
    /// By endpoint name.
    package var pods: [String: PodCalibrator]
    /// By configuration: `accelerator/model/tp4/dtype/engine`.
    package var shared: [String: ConfigurationCalibrator]
    /// Seconds by which transfers take longer than their connector's fixed cost, by `prefill name>decode name`.
    package var transferCosts: [String: OffsetMedian]

    package init(
        pods: [String: PodCalibrator] = [:],
        shared: [String: ConfigurationCalibrator] = [:],
        transferCosts: [String: OffsetMedian] = [:]
    ) {
        version = CalibrationState.currentVersion
        self.pods = pods
        self.shared = shared
        self.transferCosts = transferCosts
    }
}
