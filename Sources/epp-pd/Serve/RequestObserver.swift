// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router
import Telemetry

/// Counts requests, and writes sampled decisions to the log.
final class RequestObserver: ServeObserver {
    private let metrics: Metrics
    private let decisionLog: DecisionLog?

    init(metrics: Metrics, decisionLog: DecisionLog?) {
        self.metrics = metrics
        self.decisionLog = decisionLog
    }

    func arrived(_ request: InferenceRequest, at now: Instant) { metrics.arrived(request, at: now) }

    func decided(in wall: Seconds) { metrics.decided(wall) }

    func dispatched(_ request: RequestID, _ decision: Decision, records: [DecisionRecord]) {
        metrics.dispatched(request, decision)
        for record in records { decisionLog?.write(record) }
    }

    func recorded(_ records: [DecisionRecord]) {
        for record in records { decisionLog?.write(record) }
    }

    func refused(_ request: RequestID, _ refusal: Refusal, records: [DecisionRecord]) {
        metrics.refused(request, refusal)
        for record in records { decisionLog?.write(record) }
    }

    func firstToken(_ request: RequestID, at now: Instant) { metrics.firstToken(request, at: now) }
    func ended(_ request: RequestID, _ outcome: Outcome, at now: Instant) {
        metrics.ended(request, outcome, at: now)
    }
    func fleetChanged(_ snapshot: FleetSnapshot) { metrics.fleetChanged(snapshot) }
}
