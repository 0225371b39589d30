// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
package import Router
import Synchronization

/// The metrics of one picker. Hears the same events as the Router, in the same order for each request; may be called
/// from any thread. One lock, held for some hundred nanoseconds: less than what as many atomic cells would cost.
package final class Metrics: Sendable {
    private let store = Mutex(MetricStore())

    package init() {}

    package func arrived(_ request: InferenceRequest, at now: Instant) {
        store.withLock { $0.arrived(request, at: now) }
    }

    /// A decision took so long on the wall.
    package func decided(_ wall: Seconds) { store.withLock { $0.decided(wall) } }

    package func dispatched(_ id: RequestID, _ decision: Decision) {
        store.withLock { $0.dispatched(id, decision) }
    }

    package func refused(_ id: RequestID, _ refusal: Refusal) { store.withLock { $0.refused(id, refusal) } }

    package func firstToken(_ id: RequestID, at now: Instant) {
        store.withLock { $0.firstToken(id, at: now) }
    }

    package func ended(_ id: RequestID, _ outcome: Outcome, at now: Instant) {
        store.withLock { $0.ended(id, outcome, at: now) }
    }

    package func fleetChanged(_ snapshot: FleetSnapshot) { store.withLock { $0.fleetChanged(snapshot) } }

    package var requestsInFlight: Int { store.withLock { $0.requestsInFlight } }

    /// The page in the Prometheus text format, version 0.0.4.
    package func page(_ samples: MetricSamples) -> String {
        let copy = store.withLock { $0 }
        return MetricsPage.render(copy, samples)
    }

    package static let contentType = "text/plain; version=0.0.4; charset=utf-8"
}
