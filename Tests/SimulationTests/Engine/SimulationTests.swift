// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex
import Router
import Testing

@testable import Simulation

struct SimulationTests {
    @Test func aPairsTimesAddUp() throws {
        // Prompt 1,000: prefill 10 + 100 ms. KV 1,000 B × 1,000 at 1 GB/s = 1 ms, of which a layer-wise push leaves a
        // tenth. First decode step 12 ms, and nine more that grow by a microsecond each.
        let workload = Scene.workload([OfferedRequest(arrival: 0, promptTokens: 1000, outputTokens: 10)])
        let run = try Simulation(
            workload: workload,
            endpoints: Scene.pair,
            options: Scene.exact,
            makePolicy: Scene.maker(RandomRule())
        ).run()
        #expect(isNear(run.ttfts[0], 0.110 + 0.0001 + 0.012))
        #expect(isNear(run.tpots[0], (9 * 0.012 + 45e-6) / 9))
        #expect(run.isMet(0))
        #expect(isNear(run.counters[0].busyTime.rawValue, 0.110))
    }

    @Test func theControlDelayAndOverheadComeFirst() throws {
        var options = Scene.exact
        options.controlDelay = 0.010
        options.connectors = [Scene.connector(setup: 0.002, isLayerwise: false)]
        var endpoints = Scene.pair
        endpoints[0].profile.ttftOverhead = Seconds(0.020)
        let workload = Scene.workload([OfferedRequest(arrival: 0, promptTokens: 1000, outputTokens: 10)])
        let run = try Simulation(
            workload: workload,
            endpoints: endpoints,
            options: options,
            makePolicy: Scene.maker(RandomRule())
        ).run()
        #expect(isNear(run.ttfts[0], 0.010 + 0.020 + 0.110 + 0.001 + 0.002 + 0.012))
    }

    @Test func repackingAtUnequalTensorParallelismCosts() throws {
        var profile = PodProfile.round()
        profile.memoryBytesPerSecond = 1e8
        let endpoints = [Scene.endpoint(0, .prefill, profile), Scene.endpoint(1, .decode, profile, tensorParallel: 2)]
        let workload = Scene.workload([OfferedRequest(arrival: 0, promptTokens: 1000, outputTokens: 10)])
        let run = try Simulation(
            workload: workload,
            endpoints: endpoints,
            options: Scene.exact,
            makePolicy: Scene.maker(RandomRule())
        ).run()
        #expect(isNear(run.ttfts[0], 0.110 + 0.0001 + 0.010 + 0.012))
    }

    @Test func cachedPrefixesShortenPrefillAndTransfer() throws {
        let hashes: [UInt64] = (1...10).map { $0 }
        let workload = Scene.workload([
            OfferedRequest(arrival: 0, promptTokens: 1000, outputTokens: 2, promptHashes: hashes),
            OfferedRequest(arrival: 10, promptTokens: 1000, outputTokens: 2, promptHashes: hashes),
        ])
        let run = try Simulation(
            workload: workload,
            endpoints: Scene.pair,
            options: Scene.exact,
            makePolicy: Scene.maker(RandomRule())
        ).run()
        // 900 tokens are cached at the prefill pod, and all 1,000 at the decode pod: nothing is sent.
        #expect(isNear(run.ttfts[1], 0.010 + 0.010 + 0.012))
        #expect(isNear(PolicyMetrics(run).prefixHitRatio, 900 / 2000))
    }

    @Test func aPulledPrefixTakesItsTransferOnly() throws {
        let hashes: [UInt64] = (1...10).map { $0 }
        let workload = Scene.workload([
            OfferedRequest(arrival: 0, promptTokens: 1000, outputTokens: 2, promptHashes: hashes),
            OfferedRequest(arrival: 10, promptTokens: 1000, outputTokens: 2, promptHashes: hashes),
        ])
        let run = try Simulation(
            workload: workload,
            endpoints: Scene.fleet(prefill: 2, decode: 1),
            options: Scene.exact,
            makePolicy: Scene.maker(RoundRobinRule(), pulls: true)
        ).run()
        // Round robin sends the second to the other prefill pod, which fetches 900 tokens in 0.9 ms.
        #expect(isNear(run.ttfts[1], 0.0009 + 0.010 + 0.010 + 0.012))
        #expect(PolicyMetrics(run).pulls == 1)
    }

    @Test func refusedAndFailedRequestsAreChargedTheDeadline() throws {
        final class Refuser: SimulatedPolicy {
            var parameters: [String: String] { [:] }
            func handle(_ event: RouterEvent, at now: Instant, into actions: inout [RouterAction]) {
                guard case .arrived(let request) = event else { return }
                actions.append(.refuse(request.id, .shed(reason: "test", retryAfter: Seconds(1))))
            }
        }
        let run = try Simulation(
            workload: Scene.mixed(10, rate: 1, seed: 1),
            endpoints: Scene.pair,
            options: Scene.exact
        ) { _, _, _ in Refuser() }.run()
        let metrics = PolicyMetrics(run)
        #expect(metrics.rejected == 10 && metrics.succeeded == 0 && metrics.sloAttainment == 0)
        #expect(metrics.ttftMean == 120_000)
    }

    @Test func fleetsThatCannotServeAreImpossible() {
        for fleet in [Scene.fleet(prefill: 2, decode: 0), Scene.fleet(prefill: 0, decode: 2), []] {
            #expect(throws: SimulationError.self) {
                _ = try Simulation(
                    workload: Scene.mixed(1, rate: 1, seed: 1),
                    endpoints: fleet,
                    options: Scene.exact,
                    makePolicy: Scene.maker(RandomRule())
                )
            }
        }
    }

    @Test func brokenPromisesStopTheRun() throws {
        /// Sends each request where `place` says.
        final class Wrong: SimulatedPolicy {
            let place: Placement
            let times: Int
            init(_ place: Placement, times: Int = 1) {
                self.place = place
                self.times = times
            }
            var parameters: [String: String] { [:] }
            func handle(_ event: RouterEvent, at now: Instant, into actions: inout [RouterAction]) {
                guard case .arrived(let request) = event else { return }
                let decision = Decision(
                    placement: place,
                    predictedTTFT: .zero,
                    predictedTPOT: .zero,
                    predictedDollars: .zero,
                    predictedCachedTokens: 0
                )
                for _ in 0..<times { actions.append(.dispatch(request.id, decision)) }
            }
        }
        let (p, d) = (EndpointID(0), EndpointID(1))
        let wrong = [
            Wrong(.pair(prefill: d, decode: p)), Wrong(.local(p)), Wrong(.both(d)), Wrong(.local(EndpointID(7))),
            Wrong(.pair(prefill: p, decode: d), times: 2),
        ]
        for policy in wrong {
            #expect(throws: SimulationError.self) {
                _ = try Simulation(
                    workload: Scene.mixed(2, rate: 1, seed: 1),
                    endpoints: Scene.pair,
                    options: Scene.exact
                ) { _, _, _ in policy }.run()
            }
        }
        #expect(throws: SimulationError.self) {
            // A policy that never answers.
            _ = try Simulation(
                workload: Scene.mixed(2, rate: 1, seed: 1),
                endpoints: Scene.pair,
                options: Scene.exact
            ) { _, _, _ in Wrong(.local(d), times: 0) }.run()
        }
    }

    @Test func timeAndLedgersAreWatched() throws {
        func simulation() throws -> Simulation {
            try Simulation(
                workload: Scene.mixed(20, rate: 1, seed: 1),
                endpoints: Scene.pair,
                options: Scene.exact,
                makePolicy: Scene.maker(RandomRule())
            )
        }
        let late = try simulation()
        late.queue.push(at: -1, .sample)
        #expect(throws: SimulationError.timeRanBackwards(from: 0, to: -1)) { _ = try late.run() }
        let short = try simulation()
        short.farm.servers[1].usedTokens = -1_000_000
        #expect(throws: SimulationError.negativeLedger(pod: "decode-1")) { _ = try short.run() }
    }

    @Test func aTraceMayPauseForHours() throws {
        let requests = [0.0, 20_000].map { OfferedRequest(arrival: $0, promptTokens: 100, outputTokens: 2) }
        let run = try Simulation(
            workload: Scene.workload(requests),
            endpoints: Scene.pair,
            options: Scene.exact,
            makePolicy: Scene.maker(RandomRule())
        ).run()
        #expect(PolicyMetrics(run).succeeded == 2)
    }

    @Test func prefillPodsMayMixChunks() throws {
        // Three prompts of 1,000 tokens at once. Whole: 110 ms each. The first is begun before the others are there; in steps
        // of 2,000 tokens these share one of 10 + 200 ms. In steps of 500 tokens there are six of 60 ms.
        let workload = Scene.workload(
            [0.0, 0, 0].map { OfferedRequest(arrival: $0, promptTokens: 1000, outputTokens: 1) }
        )
        func busy(_ chunk: Int?) throws -> Double {
            var options = Scene.exact
            options.prefillChunk = chunk
            let run = try Simulation(
                workload: workload,
                endpoints: Scene.pair,
                options: options,
                makePolicy: Scene.maker(RandomRule())
            ).run()
            return run.counters[0].busyTime.rawValue
        }
        #expect(isNear(try busy(nil), 0.330))
        #expect(isNear(try busy(2000), 0.320))
        #expect(isNear(try busy(500), 0.360))
    }

    @Test func enginesServeByThePriorityThatIsSent() throws {
        var options = SimulationOptions()
        func run() throws -> PolicyMetrics {
            try Experiment(
                workload: Scene.mixed(400, rate: 14, seed: 3),
                endpoints: Scene.fleet(prefill: 2, decode: 2),
                options: options,
                mode: .latency
            ).run(PolicyName(.jointEarly), load: 1, seed: 1).metrics
        }
        let inOrder = try run()
        options.enginePriority = true
        let byPriority = try run()
        #expect(byPriority.succeeded == 400)
        #expect(byPriority.traceHash != inOrder.traceHash)
        // Short prompts overtake in the pods' queues.
        #expect(byPriority.ttftMean < inOrder.ttftMean)
    }

    @Test func equalSeedsGiveEqualRuns() throws {
        func hash(seed: UInt64) throws -> UInt64 {
            var options = SimulationOptions()
            options.seed = seed
            options.pickers = 2
            return try Simulation(
                workload: Scene.mixed(400, rate: 8, seed: seed),
                endpoints: Scene.fleet(prefill: 3, decode: 2),
                options: options,
                makePolicy: Scene.maker(LLMDRule(), pulls: true)
            ).run().traceHash
        }
        #expect(try hash(seed: 1) == hash(seed: 1))
        #expect(try hash(seed: 1) != hash(seed: 2))
    }

    @Test func everyRequestEndsWhateverThePolicy() throws {
        let rules: [any BaselineRule] = [
            RandomRule(), RoundRobinRule(), LeastRequestRule(), HashBoundedLoadRule(), SGLangCacheAwareRule(),
            LLMDRule(), LLMDRule(nonCachedTokens: 512), DynamoRule(), LMetricRule(),
        ]
        let fleets = [
            Scene.fleet(prefill: 2, decode: 2), Scene.fleet(prefill: 0, decode: 0, both: 3),
            Scene.fleet(prefill: 1, decode: 1, both: 2),
        ]
        for rule in rules {
            for fleet in fleets {
                let run = try Simulation(
                    workload: Scene.mixed(150, rate: 8, seed: 3),
                    endpoints: fleet,
                    options: SimulationOptions(),
                    makePolicy: Scene.maker(rule, pulls: true)
                ).run()
                #expect(PolicyMetrics(run).succeeded == 150)
            }
        }
    }
}
