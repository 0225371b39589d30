// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex
import TestSupport
import Testing

@testable import Router

/// One store that holds every prompt's first tokens, and nothing else.
private final class StoreAnswers: PrefixAnswers {
    let tokens: Int

    init(tokens: Int) { self.tokens = tokens }

    func holders(of keys: PrefixKeys, into result: inout [PrefixHolding]) {
        result = [PrefixHolding(endpoint: SharedStore.id(0), tokens: tokens)]
    }

    func learn(_ keys: PrefixKeys, at endpoint: EndpointID) {}
}

@Suite struct SharedStoreTests {
    private static let fleet = Pods.snapshot((1...3).map { Pods.endpoint($0, .both, kv: Pods.layout(connector: nil)) })

    private static func decide(held: Int, _ stores: [SharedStore]) -> (decision: Decision?, record: DecisionRecord?) {
        var router = Router(
            options: RouterOptions(stores: stores, recordedShare: 1),
            prefixes: StoreAnswers(tokens: held),
            seed: 1
        )
        var actions: [RouterAction] = []
        router.handle(.fleetChanged(fleet), at: Instant(0), into: &actions)
        actions = []
        let hashes = (0..<500).map { UInt64($0) }
        router.handle(.arrived(Pods.request(1, prompt: 8000, hashes: hashes)), at: Instant(1), into: &actions)
        let decisions = actions.compactMap { action -> Decision? in
            if case .dispatch(_, let decision) = action { return decision }
            return nil
        }
        return (decisions.first, router.takeRecords().first)
    }

    @Test func itsHitsCostTransferAndNoRecompute() throws {
        let store = SharedStore(name: "lmcache", bytesPerSecond: 10e9, latency: Seconds(0.005))
        let cold = try #require(Self.decide(held: 0, [store]).decision)
        #expect(cold.predictedCachedTokens == 0 && cold.pullFrom == nil)
        let (decision, record) = Self.decide(held: 4_000, [store])
        let warm = try #require(decision)
        #expect(warm.predictedCachedTokens == 4_000)
        #expect(warm.pullFrom == SharedStore.id(0))
        let chosen = try #require(record?.chosen)
        // 4,000 tokens of 327,680 bytes at 10 GB/s, and 5 ms.
        #expect(abs(chosen.terms.pull.rawValue - 0.136072) < 1e-9)
        #expect(warm.predictedTTFT < cold.predictedTTFT)
        #expect(record?.replays == true)
        #expect(record?.input.pods.first?.storeName == "lmcache")
        // Engines load what a store has, even where computing it would be sooner.
        let slow = SharedStore(name: "disk", bytesPerSecond: 0.2e9)
        let loaded = try #require(Self.decide(held: 4_000, [slow]).decision)
        #expect(loaded.predictedCachedTokens == 4_000 && loaded.predictedTTFT > cold.predictedTTFT)
    }

    @Test func onlyItsPodsLoadFromIt() throws {
        let store = SharedStore(name: "near", pods: ["both-2"], bytesPerSecond: 100e9)
        let decision = try #require(Self.decide(held: 7_000, [store]).decision)
        #expect(decision.placement == .both(EndpointID(2)) && decision.predictedCachedTokens == 7_000)
        let other = SharedStore(name: "other", model: "llama-3.1-8b", bytesPerSecond: 100e9)
        #expect(Self.decide(held: 7_000, [other]).decision?.predictedCachedTokens == 0)
        #expect(Self.decide(held: 7_000, []).decision?.predictedCachedTokens == 0)
    }

    @Test func theLastBlockIsComputed() {
        let store = SharedStore(name: "near", bytesPerSecond: 100e9)
        #expect(Self.decide(held: 8_000, [store]).decision?.predictedCachedTokens == 7_984)
    }
}
