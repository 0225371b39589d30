// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

/// Lookups among many holders, of which some drop out in each chunk: at the front, in the middle, most of them at once.
@Suite("Lookups among many holders")
struct WideFrontTests {
    @Test("equal to a naive walk", arguments: 1...8 as ClosedRange<UInt64>)
    func many(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let trie = try ChunkTrie(isKeyed: true, budget: 64 << 20)
        let lookup = try TrieLookup()
        let chain = Chain((0..<420).map { _ in random.next() })
        let holders = try (0..<Int.random(in: 3...300, using: &random)).map { _ in try #require(trie.openHolder()) }
        var expected: [UInt16: Int] = [:]
        for (number, lane) in holders.enumerated() {
            // Cuts in the lanes' order, at random, or at the same place for most.
            let cut: Int
            switch seed % 3 {
            case 0: cut = 1 + number * 419 / holders.count
            case 1: cut = Int.random(in: 1...420, using: &random)
            default: cut = number % 9 == 0 ? 420 : 1 + Int(seed) * 37
            }
            _ = trie.store(lane, chain, to: cut)
            expected[lane] = cut
            guard Int.random(in: 0..<4, using: &random) == 0 else { continue }
            let hole = Int.random(in: 0..<cut, using: &random)
            #expect(trie.remove(lane, BlockName(engineHash: chain.engine[hole])))
            expected[lane] = hole == 0 ? nil : hole
        }
        #expect(trie.depths(chain, lookup) == expected)
        // Cut short in the middle of a chunk, and with nobody behind it.
        let short = Chain(Array(chain.locals[..<75]))
        #expect(trie.depths(short, lookup) == expected.mapValues { min($0, 75) })
        let other = Chain(Array(chain.locals[..<100]) + [1, 2, 3])
        #expect(trie.depths(other, lookup) == expected.mapValues { min($0, 100) })
        for lane in holders.prefix(holders.count / 2) {
            trie.closeHolder(lane)
            expected[lane] = nil
        }
        #expect(trie.depths(chain, lookup) == expected)
        while trie.maintain() {}
        #expect(trie.depths(chain, lookup) == expected)
    }

    @Test("a lookup's room serves several tries")
    func sharedRoom() throws {
        let lookup = try TrieLookup()
        let chain = Chain((1...60).map { UInt64($0) })
        let tries = try (0..<3).map { _ in try ChunkTrie(isKeyed: true, budget: 8 << 20) }
        for (number, trie) in tries.enumerated() {
            let lane = try #require(trie.openHolder())
            _ = trie.store(lane, chain, to: 20 * (number + 1))
        }
        for _ in 0..<2 {
            for (number, trie) in tries.enumerated() { #expect(trie.depths(chain, lookup) == [0: 20 * (number + 1)]) }
        }
        tries[1].closeHolder(0)
        while tries[1].maintain() {}
        #expect(tries[1].depths(chain, lookup) == [:])
        #expect(tries[2].depths(chain, lookup) == [0: 60])
    }
}
