// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@testable import Router

/// What streams and histograms teach beyond one pod's scale.
struct SharedCalibrationTests {
    private static var recorded: RouterOptions {
        var options = RouterOptions()
        options.recordedShare = 1
        return options
    }

    /// Two pods of one configuration whose attention takes three times what the profile says: the pods share what is
    /// learned, a third that joins predicts by it from its first request, and decisions replay.
    @Test func podsOfAConfigurationLearnTogether() throws {
        func fleet(_ ids: ClosedRange<UInt32>, version: UInt64) -> FleetSnapshot {
            Pods.snapshot(ids.map { Pods.endpoint($0, .prefill) } + [Pods.endpoint(9, .decode)], version: version)
        }
        var story = Story(fleet(1...2, version: 1), options: Self.recorded)
        var rng = SplitMix64(seed: 3)
        func truth(_ n: Int) -> Double {
            let x = Pods.h100.prefill.terms(newTokens: Double(n), cachedTokens: 0)
            return x.sum + 2 * x.pairs
        }
        var errors: [Double] = []
        for id in 1...600 as ClosedRange<UInt64> {
            let n = Int.random(in: 1000...60_000, using: &rng)
            _ = story.decide(Pods.request(id, prompt: n, output: 2), after: 20)
            let terms = try #require(story.router.inFlight[RequestID(id)]?.terms)
            errors.append(abs(terms.prefill.rawValue / truth(n) - 1))
            let seen = truth(n) + (terms.ttft - terms.prefill - terms.queueing).rawValue
            _ = story.send(.firstToken(RequestID(id)), after: seen)
            story.end(id)
        }
        let state = story.router.calibrationState
        let shared = try #require(state.shared["h100-sxm/llama-3.1-70b/tp4/vllm"])
        let factors = try #require(shared.prefillFactors)
        #expect(abs(factors.pairs / 3 - 1) < 0.15, "\(factors)")
        #expect(errors.suffix(50).reduce(0, +) / 50 < 0.03)
        let replay = story.router.takeRecords().map(\.replays)
        #expect(!replay.contains(false))

        _ = story.send(.fleetChanged(fleet(1...3, version: 2)))
        let fresh = story.router.frame.states[2]
        #expect(fresh.calibration.prefillScale == 1)
        let predicted = fresh.profile.prefill.duration(newTokens: 50_000, cachedTokens: 0).rawValue
        #expect(abs(predicted / truth(50_000) - 1) < 0.1)

        var next = Story(fleet(1...3, version: 1))
        next.router.restore(state)
        #expect(abs((next.router.shared[0]?.prefillFactors?.pairs ?? 0) / factors.pairs - 1) < 0.02)
        #expect(next.router.frame.states[0].profile.prefill.perPair > 2 * Pods.h100.prefill.perPair)
    }

    /// Histograms alone: a decode pod whose KV reads cost twice as much.
    @Test func histogramsTeachTheFactors() throws {
        var story = Story(Pods.snapshot([Pods.endpoint(1, .both)]))
        var rng = SplitMix64(seed: 5)
        var id: UInt64 = 0
        for _ in 0..<400 {
            let n = Int.random(in: 1000...200_000, using: &rng)
            var seconds = 0.0
            for _ in 0..<2 {
                id += 1
                _ = story.decide(Pods.request(id, prompt: n, output: 101), after: 100)
                _ = story.send(.firstToken(RequestID(id)), after: 40)
                let x = Pods.h100.decode.terms(batch: 1, kvTokens: Double(n) + 50)
                let step = x.sum + 1.5 * x.kv
                _ = story.send(.ended(RequestID(id), Outcome(kind: .completed, outputTokens: 101)), after: step * 100)
                seconds += step * 100
            }
            let growth = PhaseGrowth(decodeSeconds: Seconds(seconds), decodes: 2)
            _ = story.send(.phasesObserved(EndpointID(1), growth))
        }
        let shared = try #require(story.router.shared[0])
        let factors = try #require(shared.decodeFactors)
        #expect(abs(factors.kv / factors.base / 2.5 - 1) < 0.2, "\(factors)")
    }

    /// Preempted requests teach nothing, neither by their streams nor by the histograms that hold them.
    @Test func preemptionTeachesNothing() {
        var story = Story(Pods.snapshot([Pods.endpoint(1, .both)]))
        for id in 1...100 as ClosedRange<UInt64> {
            _ = story.decide(Pods.request(id, prompt: 4000, output: 101), after: 5)
            _ = story.send(.firstToken(RequestID(id)), after: 3)
            let load = EndpointLoad(
                observedAt: Instant(story.now),
                waiting: 0,
                running: 1,
                kvUse: 0.9,
                preemptions: Int(id)
            )
            _ = story.send(.loadObserved(EndpointID(1), load), after: 0.1)
            _ = story.send(.ended(RequestID(id), Outcome(kind: .completed, outputTokens: 101)), after: 5)
            let growth = PhaseGrowth(
                prefillSeconds: Seconds(3),
                prefills: 1,
                decodeSeconds: Seconds(5),
                decodes: 1,
                hadPreemptions: true
            )
            _ = story.send(.phasesObserved(EndpointID(1), growth))
        }
        // The first scrape shows a count, not a growth.
        #expect(story.router.calibrators[0].decode.samples <= 1)
        #expect(story.router.calibrators[0].prefill.samples <= 1)
        #expect(story.router.calibrators[0].ignored >= 99)
    }

    /// Of two decode pods one is far away: its transfers take 80 ms more, and the pair's cost learns it.
    @Test func transferCostsAreLearnedByPair() throws {
        var story = Story(
            Pods.snapshot([
                Pods.endpoint(1, .prefill), Pods.endpoint(2, .decode, Pods.a100), Pods.endpoint(3, .decode, Pods.a100),
            ]),
            options: Self.recorded
        )
        var chosen: [UInt32: Int] = [:]
        var late: [UInt32: Int] = [:]
        for id in 1...200 as ClosedRange<UInt64> {
            let decided = story.decide(Pods.request(id, prompt: 20_000, output: 20), after: 10)
            let decision = try #require(decided)
            let terms = try #require(story.router.inFlight[RequestID(id)]?.terms)
            let extra = story.router.inFlight[RequestID(id)]?.transferExtra ?? 0
            let destination = decision.placement.destination.rawValue
            chosen[destination, default: 0] += 1
            if id > 150 { late[destination, default: 0] += 1 }
            let far = destination == 3 ? 0.08 : 0
            _ = story.send(.firstToken(RequestID(id)), after: terms.ttft.rawValue - extra + far)
            story.end(id)
        }
        let costs = story.router.calibrationState.transferCosts
        let near = try #require(costs["prefill-1>decode-2"])
        let far = try #require(costs["prefill-1>decode-3"])
        // Alike parts are in the pod's offset, the difference in the pairs.
        #expect(abs(far.median - near.median - 0.08) < 0.02, "\(near.median) \(far.median)")
        #expect((late[2] ?? 0) > 45, "\(chosen) \(late)")
        #expect(story.router.frame.transferCosts[EndpointID(1), EndpointID(3)] > 0.05)
        let records = story.router.takeRecords()
        let replay = records.map(\.replays)
        #expect(replay.count == 200 && !replay.contains(false))
        #expect(records.last?.input.transferCosts?.isEmpty == false)

        var next = Story(
            Pods.snapshot([Pods.endpoint(11, .prefill), Pods.endpoint(1, .prefill), Pods.endpoint(3, .decode)])
        )
        next.router.restore(CalibrationState(transferCosts: costs))
        #expect(next.router.frame.transferCosts[EndpointID(1), EndpointID(3)] == max(far.median, 0))
    }

    @Test("A full table makes room for pods that are here")
    func pairsOfPodsThatLeftAreForgotten() {
        var transfers = TransferCalibrator()
        for pair in 0..<TransferCalibrator.maximumPairs {
            _ = transfers.observe("p\(pair)>d", residual: 0.1, fixedCost: 0.01)
        }
        transfers.makeRoom(keeping: ["p0", "p1", "d"])
        #expect(transfers.state.keys.sorted() == ["p0>d", "p1>d"])
        for _ in 0..<30 { _ = transfers.observe("new>d", residual: 0.1, fixedCost: 0.01) }
        #expect(transfers.extra("new>d", fixedCost: 0.01) == 0.1)
    }

    @Test func nothingLearnedIsUnbounded() {
        var transfers = TransferCalibrator()
        for pair in 0..<(TransferCalibrator.maximumPairs + 50) {
            _ = transfers.observe("p\(pair)>d", residual: 0.1, fixedCost: 0.01)
        }
        #expect(transfers.state.count == TransferCalibrator.maximumPairs)
        for _ in 0..<100 { _ = transfers.observe("p0>d", residual: -9, fixedCost: 0.01) }
        // No transfer takes less than none.
        #expect(transfers.extra("p0>d", fixedCost: 0.01) == -0.01)

        var shared = SharedCalibrators()
        let endpoints = (0..<(SharedCalibrators.maximumConfigurations + 9)).map { i in
            EndpointStatus(endpoint: Pods.endpoint(UInt32(i), .both, accelerator: "a\(i)"))
        }
        shared.follow(endpoints)
        #expect(shared.state.count == SharedCalibrators.maximumConfigurations)
        #expect(shared[endpoints.count - 1] == nil)
    }
}
