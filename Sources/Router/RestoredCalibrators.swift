// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// What an earlier process had learned of pods that have not come back yet.
struct RestoredCalibrators: Sendable {
    private var byName: [String: PodCalibrator] = [:]
    private var until = Instant(0)

    /// Pods that have not come back by then are gone for good.
    static let lifetime = Seconds(24 * 3600)
    /// More than any fleet has; about 20 MB of the file.
    static let maximum = 4096

    init() {}

    init(_ saved: [String: PodCalibrator], at now: Instant) {
        byName = saved
        for name in saved.keys.sorted().dropFirst(Self.maximum) { byName[name] = nil }
        until = now + Self.lifetime
    }

    /// What is known of an endpoint that has come; nil too where it was learned of another configuration.
    mutating func take(_ endpoint: Endpoint) -> PodCalibrator? {
        guard let saved = byName.removeValue(forKey: endpoint.name) else { return nil }
        return saved.configuration == endpoint.configuration ? saved : nil
    }

    /// Those that still wait for their pods: they go into the next state as well.
    func calibrators(at now: Instant) -> [String: PodCalibrator] { now < until ? byName : [:] }
}
