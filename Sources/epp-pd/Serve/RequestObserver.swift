// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// Writes sampled decisions to the log.
final class RequestObserver: ServeObserver {
    private let decisionLog: DecisionLog?

    init(decisionLog: DecisionLog?) { self.decisionLog = decisionLog }

    func arrived(_ request: InferenceRequest) {}

    func dispatched(
        _ flight: Flight,
        _ decision: Decision,
        records: [DecisionRecord],
        endpoints: [EndpointID: Endpoint]
    ) {
        for record in records { decisionLog?.write(record) }
    }

    func refused(_ flight: Flight, _ refusal: Refusal, at now: Instant) {}
    func firstToken(_ flight: Flight, at now: Instant) {}
    func ended(_ flight: Flight, _ outcome: Outcome, at now: Instant) {}
}
