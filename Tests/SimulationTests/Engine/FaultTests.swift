// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex
import Router
import Testing

@testable import Simulation

struct FaultTests {
    private func run(
        _ faults: [Fault],
        reports: BlockReports = BlockReports(),
        rule: any BaselineRule = DynamoRule()
    ) throws -> PolicyMetrics {
        var options = SimulationOptions()
        options.faults = faults
        options.blockReports = reports
        options.pickers = 2
        return PolicyMetrics(
            try Simulation(
                workload: Scene.mixed(300, rate: 6, seed: 9),
                endpoints: Scene.fleet(prefill: 3, decode: 2),
                options: options,
                makePolicy: Scene.maker(rule, pulls: true)
            ).run()
        )
    }

    /// One prompt of 1,000 tokens takes 110 ms on the only prefill pod.
    private func single(_ faults: [Fault], second: Double) throws -> RunRecord {
        var options = Scene.exact
        options.faults = faults
        let hashes: [UInt64] = (1...10).map { $0 }
        let workload = Scene.workload(
            [0, second].map {
                OfferedRequest(arrival: $0, promptTokens: 1000, outputTokens: 2, promptHashes: hashes)
            }
        )
        return try Simulation(
            workload: workload,
            endpoints: Scene.pair,
            options: options,
            makePolicy: Scene.maker(LeastRequestRule())
        ).run()
    }

    @Test func aPodThatDiesMidPrefillFailsItsRequestAndForgetsItsCache() throws {
        let run = try single([Fault(.crash(pod: 0), from: 0.050, to: 1)], second: 10)
        #expect(PolicyMetrics(run).failed == 1 && run.ttfts[0] == 120)
        // The second finds nothing cached: 110 ms, a tenth of a millisecond for the last layer's KV, a step of 12 ms.
        #expect(isNear(run.ttfts[1], 0.110 + 0.0001 + 0.012))
        // Without the crash it finds 900 tokens.
        #expect(isNear(try single([], second: 10).ttfts[1], 0.010 + 0.010 + 0.012))
        // While the pod is down no pair can be built: refused, once a scrape has seen it.
        #expect(PolicyMetrics(try single([Fault(.crash(pod: 0), from: 1, to: 99)], second: 10)).rejected == 1)
    }

    @Test func slowPodsAndProfilesTakeThatManyTimesAsLong() throws {
        // Twice 10 ms + 10 ms for the rest of the second prompt; the decode pod's step takes its 12 ms, or 24.
        let slow = try single([Fault(.slow(pod: 0, factor: 2), from: 5, to: 50)], second: 10)
        #expect(isNear(slow.ttfts[1], 0.040 + 0.012))
        let off = try single([Fault(.profileOff(factor: 2), from: 5, to: 50)], second: 10)
        #expect(isNear(off.ttfts[1], 0.040 + 0.024))
        let over = try single([Fault(.profileOff(factor: 2), from: 1, to: 5)], second: 10)
        #expect(isNear(over.ttfts[1], 0.020 + 0.012, tolerance: 1e-6))
    }

    @Test func whatPickersExpectOfCachesIsSettledWhateverHappens() throws {
        var options = SimulationOptions()
        options.pickers = 2
        options.faults = [
            Fault(.crash(pod: 0), from: 10, to: 20), Fault(.crash(pod: 3), from: 12, to: 13),
            Fault(.pickerRestart(picker: 1), from: 15, to: 15),
        ]
        for rule in [LLMDRule(), DynamoRule()] as [any BaselineRule] {
            let simulation = try Simulation(
                workload: Scene.mixed(300, rate: 10, seed: 9),
                endpoints: Scene.fleet(prefill: 3, decode: 2),
                options: options,
                makePolicy: Scene.maker(rule, pulls: true)
            )
            _ = try simulation.run()
            #expect(simulation.prefixes.allSatisfy { $0.pendingCount == 0 })
        }
    }

    @Test func aPromptOnItsWayIsExpectedOnBothPodsOfItsPair() throws {
        // The first is still computed when the second comes: its blocks are expected at the decode pod too.
        final class Witness: SimulatedPolicy {
            let inner: BaselinePolicy
            let prefixes: SimulatedPrefixes
            var seen: [Set<EndpointID>] = []
            init(_ prefixes: SimulatedPrefixes) {
                self.prefixes = prefixes
                inner = BaselinePolicy(rule: RandomRule(), prefixes: prefixes, pulls: false, seed: 1)
            }
            var parameters: [String: String] { [:] }
            func handle(_ event: RouterEvent, at now: Instant, into actions: inout [RouterAction]) {
                if case .arrived(let request) = event {
                    var holdings: [PrefixHolding] = []
                    prefixes.holders(of: request.prefix, into: &holdings)
                    seen.append(Set(holdings.map(\.endpoint)))
                }
                inner.handle(event, at: now, into: &actions)
            }
        }
        var witness: Witness?
        let hashes: [UInt64] = [1, 2, 3]
        _ = try Simulation(
            workload: Scene.workload(
                [0, 0.005].map {
                    OfferedRequest(arrival: $0, promptTokens: 1000, outputTokens: 2, promptHashes: hashes)
                }
            ),
            endpoints: Scene.pair,
            options: Scene.exact,
            makePolicy: { _, prefixes, _ in
                let made = Witness(prefixes)
                witness = made
                return made
            }
        ).run()
        #expect(witness?.seen == [[], [EndpointID(0), EndpointID(1)]])
    }

    @Test func aCrashFailsSomeRequestsAndNoMore() throws {
        let healthy = try run([])
        let crashed = try run([Fault(.crash(pod: 0), from: 10, to: 20), Fault(.crash(pod: 3), from: 30, to: 31)])
        #expect(healthy.failed == 0)
        #expect(crashed.failed > 0 && crashed.failed < 60)
        #expect(crashed.succeeded + crashed.failed == 300)
        #expect(crashed.ttftMean > healthy.ttftMean)
    }

    @Test func aPickersRestartFailsNothingThatWasSent() throws {
        let restarted = try run([Fault(.pickerRestart(picker: 0), from: 15, to: 15)])
        let healthy = try run([])
        #expect(restarted.failed == 0 && restarted.traceHash != healthy.traceHash)
    }

    @Test func slowPodsAndWrongProfilesSlowTheRun() throws {
        let healthy = try run([])
        #expect(try run([Fault(.slow(pod: 0, factor: 3), from: 5, to: 40)]).ttftMean > healthy.ttftMean)
        #expect(try run([Fault(.profileOff(factor: 2), from: 0, to: 100)]).ttftMean > healthy.ttftMean * 1.5)
    }

    @Test func missingScrapesAndLostReportsStopNothing() throws {
        let silent = try run([Fault(.missingScrapes(pod: 1), from: 0, to: 60)], rule: LLMDRule())
        #expect(silent.succeeded == 300)
        // Whoever goes by the pod's queue is misled.
        let seen = try run([], rule: LLMDRule())
        #expect(silent.traceHash != seen.traceHash)
        let exact = try run([])
        let lost = try run([], reports: BlockReports(loss: 0.5, meanDelay: 0.2))
        #expect(lost.succeeded == 300)
        #expect(lost.prefixHitRatio < exact.prefixHitRatio)
    }
}
