// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Testing

@testable import Simulation

struct SyntheticWorkloadTests {
    @Test(arguments: SyntheticKind.allCases) func rateAndOrderAreAsStated(kind: SyntheticKind) {
        let workload = SyntheticWorkload.make(kind, count: 4000, rate: 5, seed: 1)
        #expect(workload.requests.count == 4000)
        let arrivals = workload.requests.map(\.arrival)
        #expect(arrivals == arrivals.sorted())
        let rate = 4000 / workload.span
        #expect(rate > 3.5 && rate < 7)
        for request in workload.requests {
            #expect(request.promptTokens > 0 && request.outputTokens > 0)
            #expect(request.promptTokens + request.outputTokens <= SyntheticWorkload.contextWindow)
            #expect(request.promptHashes.count == request.promptTokens / workload.blockSize)
        }
        let again = SyntheticWorkload.make(kind, count: 4000, rate: 5, seed: 1)
        #expect(again.requests == workload.requests)
    }

    @Test func turnsContinueTheirSession() {
        let workload = SyntheticWorkload.make(.chat, count: 3000, rate: 5, seed: 2)
        let hits = Bounds.infiniteCache(workload)
        let ratio = Double(hits.reduce(0, +)) / Double(workload.requests.reduce(0) { $0 + $1.promptTokens })
        #expect(ratio > 0.6)
        // Alone, prompts of a batch share their instruction only: 800 of some 2,600 tokens.
        let batch = SyntheticWorkload.make(.batch, count: 3000, rate: 5, seed: 2)
        let shared =
            Double(Bounds.infiniteCache(batch).reduce(0, +)) / Double(batch.requests.reduce(0) { $0 + $1.promptTokens })
        #expect(shared > 0.2 && shared < 0.4)
    }

    @Test func poissonArrivalsKeepTheLengthsAndTheRate() {
        let lengths = Scene.mixed(50, rate: 1, seed: 4)
        let workload = SyntheticWorkload.poisson(lengthsOf: lengths, rate: 20, duration: 120, seed: 5)
        #expect(workload.requests.count > 2200 && workload.requests.count < 2600)
        let known = Set(lengths.requests.map { [$0.promptTokens, $0.outputTokens] })
        #expect(workload.requests.allSatisfy { known.contains([$0.promptTokens, $0.outputTokens]) })
        #expect(workload.requests.allSatisfy { $0.promptHashes.isEmpty && $0.arrival < 120 })
    }
}
