// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation
import PrefixIndex
import TestSupport
import Testing

@testable import Router

struct RouterTests {
    @Test func equalIdlePodsShareTheWork() {
        let fleet = Pods.snapshot((1...4).map { Pods.endpoint($0, .both, kv: Pods.layout(connector: nil)) })
        for seed in [1, 2, 3] as [UInt64] {
            var story = Story(fleet, seed: seed)
            var counts: [EndpointID: Int] = [:]
            for id in 0..<100 as Range<UInt64> {
                let hashes = (0..<100).map { id &* 1000 &+ $0 }
                guard let decision = story.decide(Pods.request(id, hashes: hashes), after: 0.1) else {
                    Issue.record("not placed")
                    return
                }
                counts[decision.placement.destination, default: 0] += 1
                _ = story.send(.firstToken(RequestID(id)), after: 0.2)
                _ = story.send(.ended(RequestID(id), Outcome(kind: .completed, outputTokens: 50)), after: 2)
            }
            #expect(counts.values.allSatisfy { $0 <= 40 }, "\(counts)")
        }
    }

    @Test func aPlainPoolSpreadsConcurrentWork() {
        let fleet = Pods.snapshot((1...4).map { Pods.endpoint($0, .both, kv: Pods.layout(connector: nil)) })
        var story = Story(fleet)
        var counts: [EndpointID: Int] = [:]
        for id in 0..<40 as Range<UInt64> {
            guard let decision = story.decide(Pods.request(id)) else { continue }
            #expect(decision.placement == .both(decision.placement.destination))
            counts[decision.placement.destination, default: 0] += 1
        }
        #expect(counts.count == 4 && counts.values.allSatisfy { $0 == 10 })
    }

    @Test func aPrefixDrawsItsSiblings() {
        let fleet = Pods.snapshot((1...4).map { Pods.endpoint($0, .both, kv: Pods.layout(connector: nil)) })
        var story = Story(fleet)
        let hashes = (0..<500).map { UInt64($0) }
        let first = story.decide(Pods.request(1, prompt: 8000, hashes: hashes))
        story.end(1)
        for id in 2...10 as ClosedRange<UInt64> {
            let next = story.decide(Pods.request(id, prompt: 8000, hashes: hashes), after: 1)
            #expect(next?.placement == first?.placement)
            // All 500 blocks are held; the last one is computed again.
            #expect(next?.predictedCachedTokens == 7984)
            story.end(id)
        }
    }

    @Test func longPromptsGoToPairsOfTheMixedFleet() throws {
        var story = Story(Pods.mixed)
        let placed = story.decide(Pods.request(1, prompt: 20_000))
        let decision = try #require(placed)
        #expect(decision.predictedTTFT > .zero && decision.predictedDollars > .zero)
    }

    @Test func withoutPrefillPodsDecodePodsComputeThePrompt() {
        var story = Story(Pods.snapshot([Pods.endpoint(6, .decode), Pods.endpoint(7, .decode)]))
        let decision = story.decide(Pods.request(1))
        #expect(decision.map { $0.placement == .local($0.placement.destination) } == true)
        #expect(story.router.counts.local == 1)
    }

    @Test func withoutDecodePodsRequestsAreRefused() {
        var story = Story(Pods.snapshot([Pods.endpoint(1, .prefill)]))
        guard case .noEndpoint = story.refusal(Pods.request(1)) else {
            Issue.record("expected a refusal")
            return
        }
        var empty = Story(.empty)
        guard case .noEndpoint = empty.refusal(Pods.request(1)) else {
            Issue.record("expected a refusal")
            return
        }
    }

    @Test func unknownModelsAreRefusedOnlyWhenListsAreFresh() {
        var fresh = Story(Pods.snapshot([Pods.endpoint(1, .both)], fresh: true))
        let refusal = fresh.refusal(Pods.request(1, model: "x"))
        let placed = fresh.decide(Pods.request(2))
        #expect(refusal == .unknownModel("x") && placed != nil)
        var stale = Story(Pods.snapshot([Pods.endpoint(1, .both)], fresh: false))
        let tolerated = stale.decide(Pods.request(1, model: "x"))
        #expect(tolerated != nil)
        var lenient = Story(
            Pods.snapshot([Pods.endpoint(1, .both)], fresh: true),
            options: RouterOptions(refusesUnknownModels: false)
        )
        guard case .noEndpoint = lenient.refusal(Pods.request(1, model: "x")) else {
            Issue.record("nobody serves it")
            return
        }
    }

    /// One of two pods on an IPv6 address, and what a gateway may write for it.
    @Test(arguments: [
        ("fd00::2", [2, 3]), ("[fd00::2]", [2, 3]), ("[fd00::2]:8001", [3]), ("fd00::2:8001", [3]), ("[fd00::2]:9", []),
        ("10.0.0.1:8000", [1]), ("10.0.0.1:8001", []), ("10.0.0.1:", []), ("", []), (":8000", []), ("[", []),
    ])
    func entriesOfTheSubset(entry: String, allowed: [UInt32]) {
        var pods = [Pods.endpoint(1, .both), Pods.endpoint(2, .both), Pods.endpoint(3, .both)]
        pods[1].address = "fd00::2"
        pods[2].address = "fd00::2"
        pods[2].port = 8001
        let filter = SubsetFilter([entry])
        #expect(pods.filter { filter.allows($0) }.map(\.id) == allowed.map { EndpointID($0) }, "\(entry)")
    }

    @Test func theSubsetRestrictsDestinationsOnly() {
        for entry in ["10.0.0.9:8000", "10.0.0.9"] {
            var story = Story(Pods.mixed)
            for id in 1...20 as ClosedRange<UInt64> {
                let decision = story.decide(Pods.request(id, prompt: 10_000, subset: [entry]))
                #expect(decision?.placement.destination == EndpointID(9))
            }
        }
        var story = Story(Pods.mixed)
        guard case .noEndpoint = story.refusal(Pods.request(1, subset: ["10.9.9.9"])),
            case .noEndpoint = story.refusal(Pods.request(2, subset: [])),
            case .noEndpoint = story.refusal(Pods.request(3, subset: ["10.0.0.1"]))
        else {
            Issue.record("a prefill pod is no destination")
            return
        }
    }

    @Test func podsOfOtherModelsNeverPair() {
        let fleet = Pods.snapshot([
            Pods.endpoint(1, .prefill, served: nil, kv: Pods.layout(model: "other")), Pods.endpoint(2, .decode),
        ])
        var story = Story(fleet)
        let decision = story.decide(Pods.request(1, prompt: 20_000))
        #expect(decision?.placement == .local(EndpointID(2)))
    }

    @Test func refusedConnectionsTakeAPodOutWhileOthersAreLeft() {
        var story = Story(Pods.snapshot([Pods.endpoint(1, .both), Pods.endpoint(2, .both)]))
        var id: UInt64 = 0
        var failures = 0
        while failures < 3, id < 1000 {
            id += 1
            let decision = story.decide(Pods.request(id))
            let fails = decision?.placement.destination == EndpointID(1)
            story.end(id, fails ? .unreachable : .completed)
            if fails { failures += 1 }
        }
        for _ in 0..<20 {
            id += 1
            let decision = story.decide(Pods.request(id))
            #expect(decision?.placement.destination == EndpointID(2))
            story.end(id)
        }
        // After the pause it is tried again.
        var destinations: Set<EndpointID> = []
        story.now += 5
        for _ in 0..<40 {
            id += 1
            if let decision = story.decide(Pods.request(id)) { destinations.insert(decision.placement.destination) }
            story.end(id)
        }
        #expect(destinations.count == 2)
    }

    @Test func theLastPodStaysThoughItFails() {
        var story = Story(Pods.snapshot([Pods.endpoint(1, .both)]))
        for id in 1...10 as ClosedRange<UInt64> {
            let decision = story.decide(Pods.request(id))
            #expect(decision != nil)
            story.end(id, .unreachable)
        }
    }

    @Test func failedPrefillsLeadToLocalPrefill() {
        let options = RouterOptions(settings: CostSettings(tieBand: 0))
        var story = Story(
            Pods.snapshot([Pods.endpoint(1, .prefill), Pods.endpoint(2, .decode, Pods.a100)]),
            options: options
        )
        for id in 1...3 as ClosedRange<UInt64> {
            let decision = story.decide(Pods.request(id, prompt: 20_000))
            #expect(decision?.placement == .pair(prefill: EndpointID(1), decode: EndpointID(2)))
            story.end(id, .failed, status: 500)
        }
        let decision = story.decide(Pods.request(4, prompt: 20_000))
        #expect(decision?.placement == .local(EndpointID(2)))
        // That its scrapes fail as well does not bring it back.
        var dead = Pods.snapshot([Pods.endpoint(1, .prefill), Pods.endpoint(2, .decode, Pods.a100)], version: 2)
        dead.endpoints[0].unavailable = .unreachable
        _ = story.send(.fleetChanged(dead))
        let later = story.decide(Pods.request(5, prompt: 20_000))
        #expect(later?.placement == .local(EndpointID(2)))
    }

    @Test("An old failure of a decode pod's own does not excuse its prefill pods for ever")
    func decodePodsThatRecoverExcuseNobody() {
        let options = RouterOptions(settings: CostSettings(tieBand: 0))
        var story = Story(
            Pods.snapshot([Pods.endpoint(1, .prefill), Pods.endpoint(2, .decode, Pods.a100)]),
            options: options
        )
        let pair = Placement.pair(prefill: EndpointID(1), decode: EndpointID(2))
        #expect(story.decide(Pods.request(1, prompt: 10))?.placement == .local(EndpointID(2)))
        story.end(1, .failed, status: 500)
        #expect(story.decide(Pods.request(2, prompt: 20_000))?.placement == pair)
        story.end(2, .completed, status: 200)
        for id in 3...5 as ClosedRange<UInt64> {
            #expect(story.decide(Pods.request(id, prompt: 20_000))?.placement == pair)
            story.end(id, .failed, status: 500)
        }
        #expect(story.decide(Pods.request(6, prompt: 20_000))?.placement == .local(EndpointID(2)))
    }

    @Test func requestsWithoutInferenceGoWhereLeastIsRunning() {
        var story = Story(
            Pods.snapshot([Pods.endpoint(1, .prefill), Pods.endpoint(2, .decode), Pods.endpoint(3, .both)])
        )
        var counts: [EndpointID: Int] = [:]
        for id in 1...30 as ClosedRange<UInt64> {
            let decision = story.decide(Pods.request(id, model: nil, isInference: false))
            if let destination = decision?.placement.destination { counts[destination, default: 0] += 1 }
        }
        #expect(counts == [EndpointID(2): 15, EndpointID(3): 15])
        for id in 1...30 as ClosedRange<UInt64> { story.end(id) }
        #expect(story.router.ledgers.allSatisfy { $0.isIdle })
    }

    @Test func constraintsHold() {
        let options = RouterOptions(
            constraints: [
                Constraint(model: "m", accelerators: ["a100-sxm"]),
                Constraint(maximumPriority: -1, priceLimit: Dollars(1e-9)),
            ],
            recordedShare: 1
        )
        var story = Story(Pods.mixed, options: options)
        let decision = story.decide(Pods.request(1, prompt: 10_000))
        #expect(decision.map { [EndpointID(5), EndpointID(9)].contains($0.placement.prefiller) } == true)
        #expect(decision?.placement.destination == EndpointID(9))
        let record = story.router.takeRecords().first
        #expect(record?.input.pods.filter { $0.ineligible == .acceleratorNotAllowed }.count == 7)
        guard case .noEndpoint = story.refusal(Pods.request(2, priority: -1)) else {
            Issue.record("nothing is that cheap")
            return
        }
    }

    @Test func fallbacksAreDistinctAndKeepThePrefiller() throws {
        var story = Story(Pods.mixed, options: RouterOptions(fallbacks: 2))
        for id in 1...20 as ClosedRange<UInt64> {
            let placed = story.decide(Pods.request(id, prompt: 10_000))
            let decision = try #require(placed)
            #expect(decision.fallbacks.count == 2)
            #expect(Set(decision.fallbacks + [decision.placement.destination]).count == 3)
        }
    }

    @Test func recordsReplayFromJSONToTheLastBit() throws {
        var story = Story(Pods.mixed, options: RouterOptions(recordedShare: 1))
        var random = SplitMix64(seed: 3)
        var records: [DecisionRecord] = []
        for id in 1...100 as ClosedRange<UInt64> {
            let request = Pods.request(
                id,
                prompt: Int.random(in: 1...40_000, using: &random),
                level: ServiceLevel(ttft: Seconds(1.5), tpot: Seconds(0.05)),
                hashes: (0..<UInt64.random(in: 1...200, using: &random)).map { $0 }
            )
            _ = story.decide(request, after: Double.random(in: 0...0.3, using: &random))
            records += story.router.takeRecords()
        }
        #expect(records.count == 100)
        for record in records {
            let line = try JSONEncoder().encode(record)
            let read = try JSONDecoder().decode(DecisionRecord.self, from: line)
            #expect(read == record)
            #expect(read.replays)
            var changed = read
            changed.input.pods[0].state.backlog += 100
            changed.chosen?.terms.queueing = Seconds(77)
            #expect(!changed.replays)
        }
    }
}
