// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// The calibrators that pods of one configuration share, and which pod belongs to which.
struct SharedCalibrators: Sendable {
    /// In the order in which configurations were first seen.
    private(set) var names: [String] = []
    private var calibrators: [ConfigurationCalibrator] = []
    /// By the fleet's index: index of its configuration, nil where it has none.
    private var members: [Int?] = []
    /// Of an earlier process, for configurations that have not come yet.
    private var restored: [String: ConfigurationCalibrator] = [:]

    /// Configurations that are followed; what a fleet has beyond is calibrated pod by pod. What was learned of one is kept
    /// when its last pod leaves.
    static let maximumConfigurations = 256

    /// Takes over the endpoints of the fleet, in its order.
    mutating func follow(_ endpoints: [EndpointStatus]) {
        members = endpoints.map { status in
            let name = status.endpoint.configuration
            if let known = names.firstIndex(of: name) { return known }
            guard names.count < Self.maximumConfigurations else { return nil }
            names.append(name)
            calibrators.append(restored.removeValue(forKey: name) ?? ConfigurationCalibrator())
            return names.count - 1
        }
    }

    subscript(pod: Int) -> ConfigurationCalibrator? { members[pod].map { calibrators[$0] } }

    /// Teaches the pod's configuration. - Returns: the pods that must take new factors.
    mutating func teach(_ pod: Int, _ observe: (inout ConfigurationCalibrator) -> Bool) -> [Int] {
        guard let index = members[pod], observe(&calibrators[index]) else { return [] }
        return members.indices.filter { members[$0] == index }
    }

    mutating func restore(_ saved: [String: ConfigurationCalibrator]) {
        restored = saved
        for (index, name) in names.enumerated() {
            if let calibrator = restored.removeValue(forKey: name) { calibrators[index] = calibrator }
        }
    }

    /// All that is known, for inspection and for the next start.
    var state: [String: ConfigurationCalibrator] {
        restored.merging(zip(names, calibrators)) { _, current in current }
    }
}
