// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
package import Router

/// The picker's own decision code, the same that the server runs.
package final class RouterPolicy: SimulatedPolicy {
    private var router: Router
    private let allowsPulls: Bool
    package let parameters: [String: String]

    /// Without `allowsPulls` no pod may fetch from a peer, to tell that gain from the gain of choosing.
    package init(router: Router, allowsPulls: Bool = true) {
        self.router = router
        self.allowsPulls = allowsPulls
        let options = router.options
        let dials = options.classes.last?.dials
        parameters = [
            "binding": options.binding.rawValue,
            "value_of_time_usd_per_s": dials.map { "\($0.valueOfTime)" } ?? "",
            "slo_miss_price_usd": dials.map { "\($0.sloMissPrice.rawValue)" } ?? "",
            "pull": "\(allowsPulls)",
        ]
    }

    package func handle(_ event: RouterEvent, at now: Instant, into actions: inout [RouterAction]) {
        guard !allowsPulls, case .fleetChanged(var snapshot) = event else {
            router.handle(event, at: now, into: &actions)
            return
        }
        for index in snapshot.endpoints.indices { snapshot.endpoints[index].endpoint.canPullKV = false }
        router.handle(.fleetChanged(snapshot), at: now, into: &actions)
    }
}
