// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// Hears what happens to requests, in order, one call at a time. Counts and logs; decides nothing.
protocol ServeObserver: AnyObject, Sendable {
    func arrived(_ request: InferenceRequest)
    /// `records`: what decisions saw since the last call, for those that are sampled for the decision log.
    func dispatched(
        _ flight: Flight,
        _ decision: Decision,
        records: [DecisionRecord],
        endpoints: [EndpointID: Endpoint]
    )
    func refused(_ flight: Flight, _ refusal: Refusal, at now: Instant)
    func firstToken(_ flight: Flight, at now: Instant)
    func ended(_ flight: Flight, _ outcome: Outcome, at now: Instant)
}
