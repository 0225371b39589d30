// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

@Suite("Approximate prefix index")
struct ApproximatePrefixIndexTests {
    private static func keys(_ hashes: [UInt64]) -> PrefixKeys {
        PrefixKeys(kind: .text, tokensPerBlock: 64, hashes: hashes)
    }

    private static func held(_ index: ApproximatePrefixIndex, _ hashes: [UInt64]) -> [HeldPrefix] {
        var result: [HeldPrefix] = []
        index.holders(of: keys(hashes), into: &result)
        return result
    }

    @Test("learns, forgets one, forgets all")
    func basics() throws {
        let index = try ApproximatePrefixIndex(budget: 8 << 20)
        let prompt = (1...100).map { UInt64($0) &* 77 }
        index.learn(Self.keys(prompt), holder: 9)
        index.learn(Self.keys(Array(prompt[..<30])), holder: 4_000_000_000)
        #expect(
            Self.held(index, prompt)
                == [HeldPrefix(holder: 9, blocks: 100), HeldPrefix(holder: 4_000_000_000, blocks: 30)]
        )
        #expect(Self.held(index, [5]) == [])
        index.remove(holder: 9)
        #expect(Self.held(index, prompt) == [HeldPrefix(holder: 4_000_000_000, blocks: 30)])
        index.clear()
        #expect(Self.held(index, prompt) == [])
        index.learn(Self.keys(prompt), holder: 9)
        #expect(Self.held(index, prompt) == [HeldPrefix(holder: 9, blocks: 100)])
        #expect(index.statistics.hits == 3 && index.statistics.lookups == 5)
    }

    @Test("what does not fit into a holder's cache is forgotten, oldest first")
    func ageing() throws {
        let index = try ApproximatePrefixIndex(budget: 8 << 20)
        index.setCapacity(tokens: 64 * 800, holder: 1)
        index.setCapacity(tokens: 64 * 80_000, holder: 2)
        var random = SplitMix64(seed: 3)
        let prompts = (0..<40).map { _ in (0..<100).map { _ in random.next() } }
        for prompt in prompts {
            index.learn(Self.keys(prompt), holder: 1)
            index.learn(Self.keys(prompt), holder: 2)
            // The first prompt is sent again and again: it stays.
            index.learn(Self.keys(prompts[0]), holder: 1)
        }
        func holds(_ holder: UInt32, _ prompt: [UInt64]) -> Bool {
            Self.held(index, prompt).contains(HeldPrefix(holder: holder, blocks: 100))
        }
        #expect(prompts.allSatisfy { holds(2, $0) })
        #expect(holds(1, prompts[0]))
        #expect(holds(1, prompts[39]) && holds(1, prompts[36]))
        #expect(!prompts[1..<28].contains { holds(1, $0) })
        while index.maintain() {}
        #expect(index.statistics.trie.heldBlocks <= 4_000 + 1_000)
    }

    @Test("pods that come and go leave nothing behind")
    func churn() throws {
        let index = try ApproximatePrefixIndex(budget: 8 << 20)
        var random = SplitMix64(seed: 4)
        var bytes = 0
        for round in 0..<18_000 as Range<UInt32> {
            let prompt = (0..<10).map { _ in random.next() }
            index.learn(Self.keys(prompt), holder: round)
            if round % 64 == 0 { #expect(Self.held(index, prompt) == [HeldPrefix(holder: round, blocks: 10)]) }
            index.remove(holder: round)
            if round % 1_000 == 999 { while index.maintain() {} }
            if round == 4_999 { bytes = index.statistics.trie.bytes }
        }
        while index.maintain() {}
        #expect(index.statistics.holders == 0)
        #expect(index.statistics.trie.heldBlocks == 0 && index.statistics.trie.chunks == 0)
        #expect(index.statistics.trie.bytes <= bytes + 65_536)
    }

    @Test("threads look up while one learns")
    func concurrency() async throws {
        let index = try ApproximatePrefixIndex(budget: 8 << 20)
        var random = SplitMix64(seed: 8)
        let stable = (0..<100).map { _ in random.next() }
        index.learn(Self.keys(stable), holder: 1)
        await withTaskGroup(of: (wrong: Int, empty: Int).self) { group in
            for _ in 0..<2 {
                group.addTask {
                    var (wrong, empty) = (0, 0)
                    var result: [HeldPrefix] = []
                    for _ in 0..<400 {
                        index.holders(of: Self.keys(stable), into: &result)
                        // Nothing is found where the writer lost its processor in the middle of a change.
                        if let first = result.first {
                            if first != HeldPrefix(holder: 1, blocks: 100) { wrong += 1 }
                        } else {
                            empty += 1
                        }
                    }
                    return (wrong, empty)
                }
            }
            group.addTask {
                var random = SplitMix64(seed: 9)
                for round in 0..<400 as Range<UInt32> {
                    let shared = Int.random(in: 0...100, using: &random)
                    let prompt = stable[..<shared] + (0..<40).map { _ in random.next() }
                    index.learn(Self.keys(Array(prompt)), holder: 2 + round % 50)
                    if round % 7 == 0 { index.remove(holder: 2 + round % 50) }
                }
                return (0, 0)
            }
            for await found in group { #expect(found.wrong == 0 && found.empty <= 4) }
        }
    }
}
