// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router
import Testing

@testable import Autoscaling

@Suite struct PodGaugesTests {
    @Test("A look takes the mean of all readings since the last one, not the moment that it meets")
    func means() throws {
        let farm = Farm(prefill: 0, decode: 1, seed: 1)
        let server = try #require(farm.servers.first)
        var scaler = FleetScaler { _ in Farm.rule }
        // The last reading before the look, as the fleet knows it.
        let last = EndpointLoad(observedAt: Instant(0), waiting: 8, running: 40, kvUse: 0.9)
        let status = EndpointStatus(endpoint: farm.endpoint(server), load: last)
        func look(at now: Double) -> GroupReport? {
            scaler.tick([status], own: OwnWork(), at: Instant(now)).groups.first
        }
        func read(_ running: Double) {
            let gauges = PodGauges(waiting: running / 5, running: running, kvUse: running / 50)
            scaler.observed(server.id, PodReading(counters: PodCounters(), gauges: gauges, tellsTransfers: true))
        }
        // Before the first look the pod is unknown; where nothing was read since a look, what the fleet knows counts.
        #expect(look(at: 0)?.requestsInFlight == 48)
        for running in [0.0, .nan, 40, 10, .infinity, 30] { read(running) }
        #expect(look(at: 1)?.requestsInFlight == 24)
        #expect(look(at: 2)?.requestsInFlight == 48)
    }
}
