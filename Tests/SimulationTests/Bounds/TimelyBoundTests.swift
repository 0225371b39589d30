// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router
import Testing

@testable import Simulation

struct TimelyBoundTests {
    private func rule(_ seconds: Double, tpot: Double? = nil) -> ServiceLevelRule {
        ServiceLevelRule(ttftBase: Seconds(seconds), tpot: tpot.map { Seconds($0) })
    }

    private func share(_ requests: [OfferedRequest], _ endpoints: [Endpoint], _ level: ServiceLevelRule) -> Double {
        let groups = PodGroup.groups(endpoints, slowness: endpoints.map { _ in 1 })
        let weights = groups.map { _ in 1.0 }
        return TimelyBound(workload: Scene.workload(requests), groups: groups, level: level, weights: weights).share()
    }

    private func prompts(_ lengths: [Int], at arrival: Double = 0) -> [OfferedRequest] {
        lengths.map { OfferedRequest(arrival: arrival, promptTokens: $0, outputTokens: 1) }
    }

    @Test("Ten prompts of 110 ms at once on one prefill pod: 550 ms are time for five of them")
    func aBurstOverflowsItsWindow() {
        let pods = [Scene.endpoint(0, .prefill)]
        let burst = prompts(Array(repeating: 1000, count: 10))
        #expect(isNear(share(burst, pods, rule(0.55)), 0.5, tolerance: 1e-9))
        #expect(share(burst, pods, rule(1.1)) == 1)
        // The same ten a second apart all fit.
        let spread = (0..<10).flatMap { prompts([1000], at: Double($0)) }
        #expect(share(spread, pods, rule(0.55)) == 1)
        // Two bursts a second apart: each has its own window.
        #expect(isNear(share(burst + prompts([1000, 1000], at: 1), pods, rule(0.55)), 7.0 / 12, tolerance: 1e-9))
    }

    @Test("The long one of five gives way to four short ones, and what no pod computes in time never counts")
    func theLeastWorkGoesFirst() {
        let pods = [Scene.endpoint(0, .prefill)]
        // 4 × 110 ms and 1,010 ms in 1,010 ms: four, and 570 of 1,010 of the long one.
        let mixed = prompts([10_000, 1000, 1000, 1000, 1000])
        #expect(isNear(share(mixed, pods, rule(1.01)), (4 + 570.0 / 1010) / 5, tolerance: 1e-9))
        #expect(isNear(share(mixed, pods, rule(1.0)), 4.0 / 5, tolerance: 1e-9))
    }

    @Test("A prompt is found in what arrives before its deadline, in whatever order they are served")
    func laterArrivalsMayGoFirst() {
        let hashes: [UInt64] = [1, 2, 3]
        let workload = Scene.workload([
            OfferedRequest(arrival: 0, promptTokens: 350, outputTokens: 1, promptHashes: hashes),
            OfferedRequest(arrival: 0.4, promptTokens: 350, outputTokens: 1, promptHashes: hashes),
            OfferedRequest(arrival: 2, promptTokens: 350, outputTokens: 1, promptHashes: [7, 8, 9]),
        ])
        #expect(TimelyBound.found(workload, rule(0.5)) == [300, 300, 0])
        #expect(TimelyBound.found(workload, rule(0.3)) == [0, 300, 0])
    }

    @Test func decodingTakesTimeToo() {
        // A pod of both roles and answers of 1,000 tokens within 20 ms each: decoding alone takes more than there is.
        let pods = [Scene.endpoint(0, .both)]
        let requests = (0..<400).map {
            OfferedRequest(arrival: Double($0) * 0.05, promptTokens: 50, outputTokens: 1000)
        }
        #expect(share(requests, pods, rule(1)) == 1)
        #expect(share(requests, pods, rule(1, tpot: 0.012)) < 0.9)
    }

    /// Short runs: a queue that cannot be served in time looks at itself every ten milliseconds for ten minutes.
    @Test("No policy keeps more than the bound says", arguments: 1...6 as ClosedRange<UInt64>)
    func noPolicyIsAboveIt(seed: UInt64) throws {
        var options = Scene.exact
        options.controlDelay = 0.01
        let tight = seed % 2 == 0
        options.serviceLevel = ServiceLevelRule(
            ttftBase: Seconds(tight ? 0.1 : 0.3),
            ttftPerPromptToken: Seconds(1e-4),
            tpot: Seconds(tight ? 0.03 : 0.05)
        )
        let experiment = Experiment(
            workload: Scene.mixed(60, rate: 12 + Double(seed) * 6, seed: seed),
            endpoints: Scene.fleet(prefill: Int(seed % 3), decode: 1, both: Int((seed + 1) % 3)),
            options: options,
            mode: .latency
        )
        for load in [1.0, 4] {
            let bounds = experiment.bounds(load: load, seed: seed)
            let most = try #require(bounds.timelyShare)
            for name in ["random", "llm-d-pull", "lmetric-pull", "joint-early", "joint"] {
                let policy = try #require(PolicyName(name))
                let metrics = try experiment.run(policy, load: load, seed: seed).metrics
                #expect(metrics.sloAttainment <= most + 1e-9, "\(name) at \(load)")
            }
        }
    }
}
