// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import Simulation

struct SharedNetworkTests {
    @Test func transfersShareALineAndSpeedUpWhenOneEnds() {
        var network = SharedNetwork(rates: [1e9, 1e9, 1e9])
        var due: [SharedNetwork.Due] = []
        let a = network.begin(from: 0, to: 1, bytes: 1e9, request: 0, purpose: 1, at: 0, due: &due)
        #expect(due.map(\.at) == [1])
        due = []
        // At half of its bytes a second transfer leaves the same pod: both run at half the rate.
        let b = network.begin(from: 0, to: 2, bytes: 1e9, request: 1, purpose: 1, at: 0.5, due: &due)
        #expect(due.first { $0.transfer == a }?.at == 1.5)
        #expect(due.first { $0.transfer == b }?.at == 2.5)
        due = []
        network.end(a, at: 1.5, due: &due)
        // b has half of its bytes left, and the line for itself.
        #expect(due.map(\.at) == [2])
    }

    @Test func theSlowerSideLimits() {
        var network = SharedNetwork(rates: [4e9, 1e9])
        var due: [SharedNetwork.Due] = []
        _ = network.begin(from: 0, to: 1, bytes: 1e9, request: 0, purpose: 1, at: 0, due: &due)
        #expect(due.last?.at == 1)
        #expect(network.fullRate(0, 1) == 1e9)
    }

    @Test func anEndedTransfersEventsAreVoid() {
        var network = SharedNetwork(rates: [1e9, 1e9])
        var due: [SharedNetwork.Due] = []
        let a = network.begin(from: 0, to: 1, bytes: 1e9, request: 0, purpose: 1, at: 0, due: &due)
        let version = due[0].version
        network.end(a, at: 0.2, due: &due)
        let b = network.begin(from: 0, to: 1, bytes: 1e9, request: 1, purpose: 1, at: 0.3, due: &due)
        #expect(a == b && network.transfers[b].version != version)
    }
}
