// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// Hears what happens to requests, in order, one call at a time. Counts and logs; decides nothing.
protocol ServeObserver: AnyObject, Sendable {
    func arrived(_ request: InferenceRequest, at now: Instant)
    /// One event of the Router took so long on the wall.
    func decided(in wall: Seconds)
    /// `records`: what decisions saw since the last call, for those that are sampled for the decision log.
    func dispatched(_ request: RequestID, _ decision: Decision, records: [DecisionRecord])
    /// Records that came with neither of the other two.
    func recorded(_ records: [DecisionRecord])
    func refused(_ request: RequestID, _ refusal: Refusal, records: [DecisionRecord])
    func firstToken(_ request: RequestID, at now: Instant)
    func ended(_ request: RequestID, _ outcome: Outcome, at now: Instant)
    func fleetChanged(_ snapshot: FleetSnapshot)
}
