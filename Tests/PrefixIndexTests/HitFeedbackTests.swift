// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

@Suite("Hits predicted and reported")
struct HitFeedbackTests {
    @Test("trust falls with what was not found, and comes back")
    func trust() {
        var feedback = HitFeedback()
        #expect(feedback.trust == 1)
        feedback.observe(predicted: 100, reported: 0)
        #expect(feedback.trust == 1, "too little to judge by")
        for _ in 0..<60 { feedback.observe(predicted: 1_000, reported: 500) }
        #expect(abs(feedback.trust - 0.5) < 0.01)
        for _ in 0..<200 { feedback.observe(predicted: 1_000, reported: 0) }
        #expect(feedback.trust == 0.05)
        for _ in 0..<300 { feedback.observe(predicted: 1_000, reported: 1_000) }
        #expect(feedback.trust > 0.98)
        for _ in 0..<300 { feedback.observe(predicted: 1_000, reported: 3_000) }
        #expect(feedback.trust == 1)
    }

    @Test("counters that fall are a restart")
    func counters() {
        var feedback = HitFeedback()
        func restarts(_ queries: Double, _ hits: Double) -> Bool {
            feedback.observe(queries: queries, hits: hits) == .restarted
        }
        #expect(!restarts(1_000, 100))
        #expect(feedback.engineHitRatio == nil)
        #expect(!restarts(3_000, 1_100))
        #expect(feedback.engineHitRatio == 0.5)
        #expect(restarts(10, 0))
        #expect(feedback.engineHitRatio == nil)
        #expect(!restarts(20, 0))
        #expect(feedback.engineHitRatio == 0)
        #expect(!restarts(.nan, 0), "no number says nothing")
    }

    @Test("answers that say nothing are judged by the engine's counters, where the growth is ours")
    func silent() {
        func feedback(prompts: Int, queries: Double, hits: Double) -> HitFeedback {
            var feedback = HitFeedback()
            _ = feedback.observe(queries: 1_000, hits: 1_000)
            for _ in 0..<prompts { feedback.ended(promptTokens: 10_000, predicted: 8_000, reported: nil) }
            feedback.ended(promptTokens: 10_000, predicted: 1_000, reported: 1_000)
            _ = feedback.observe(queries: 1_000 + queries, hits: 1_000 + hits)
            return feedback
        }
        let ours = feedback(prompts: 9, queries: 100_000, hits: 19_000)
        #expect(abs(ours.trust - 19_000.0 / 73_000) < 0.02)
        let mixed = feedback(prompts: 9, queries: 300_000, hits: 19_000)
        #expect(mixed.trust == 1, "most of the growth is of others' requests")
        let small = feedback(prompts: 2, queries: 30_000, hits: 1_000)
        #expect(small.trust == 1, "too little growth to compare")
    }

    @Test("the last block is always computed again")
    func usable() {
        // A real vLLM with blocks of 32: 96 tokens again, 64 cached; with 40 more, 96.
        #expect(UsableHit.tokens(held: 96, promptTokens: 96, blockSize: 32) == 64)
        #expect(UsableHit.tokens(held: 96, promptTokens: 136, blockSize: 32) == 96)
        #expect(UsableHit.tokens(held: 96, promptTokens: 97, blockSize: 32) == 96)
        #expect(UsableHit.tokens(held: 0, promptTokens: 97, blockSize: 32) == 0)
        #expect(UsableHit.tokens(held: 32, promptTokens: 1, blockSize: 32) == 0)
        #expect(UsableHit.tokens(held: 32, promptTokens: 0, blockSize: 0) == 0)
    }

    @Test("an index that believed too much keeps less")
    func capacity() throws {
        let index = try ApproximatePrefixIndex(budget: 8 << 20)
        index.setCapacity(tokens: 64 * 1_600, holder: 1)
        var random = SplitMix64(seed: 3)
        func learn() -> PrefixKeys {
            let keys = PrefixKeys(kind: .text, tokensPerBlock: 64, hashes: (0..<50).map { _ in random.next() })
            index.learn(keys, holder: 1)
            return keys
        }
        func holds(_ keys: PrefixKeys) -> Bool {
            var result: [HeldPrefix] = []
            index.holders(of: keys, into: &result)
            return !result.isEmpty
        }
        let old = learn()
        for _ in 0..<20 { _ = learn() }
        #expect(holds(old), "1,050 of 1,600 blocks")
        for _ in 0..<12 { index.ended(holder: 1, promptTokens: 3_200, predicted: 3_200, reported: 0) }
        #expect(index.feedback(holder: 1)?.trust == 0.05)
        for _ in 0..<20 { _ = learn() }
        #expect(!holds(old))
        let recent = learn()
        #expect(holds(recent))
        index.observe(holder: 1, queries: 100, hits: 10)
        #expect(index.observe(holder: 1, queries: 5, hits: 0))
        #expect(!holds(recent), "restarted")
        index.observePreemptions(holder: 1, count: 3)
        index.ended(holder: 9, promptTokens: 1, predicted: 1, reported: 1)
        #expect(index.feedback(holder: 9) == nil)
    }
}
