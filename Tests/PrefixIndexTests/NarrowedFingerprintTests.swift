// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

/// Twins on purpose: names and text fingerprints of few bits, so that what happens once in 2^32 or 2^16 happens always.
@Suite("Narrowed fingerprints")
struct NarrowedFingerprintTests {
    /// A chain whose blocks' names agree in their first 32 bits with those of 2^`nameBits` others, and whose texts' low 16
    /// bits are one of 2^`textBits` values.
    private static func chain(_ count: Int, nameBits: Int, textBits: Int, _ random: inout SplitMix64) -> Chain {
        var chain = Chain([])
        for _ in 0..<count {
            let text = random.next() & ~0xFFFF | random.next() & ((1 << UInt64(textBits)) - 1)
            chain.append(text)
        }
        chain.names = chain.engine.map { hash in
            let upper = BlockName(engineHash: hash).raw >> 32 & ((1 << UInt64(nameBits)) - 1)
            // Spread over key and fingerprint, so that both the table and the chunk see twins.
            return upper << 56 | upper << 32 | hash & 0xFFFF_FFFF
        }
        return chain
    }

    @Test(
        "removals and parents find the right one among name twins",
        arguments: [0, 2, 5, 8],
        1...6 as ClosedRange<UInt64>
    )
    func names(bits: Int, seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let trie = try ChunkTrie(isKeyed: true, budget: 8 << 20)
        let lookup = try TrieLookup()
        let lanes = try (0..<3).map { _ in try #require(trie.openHolder()) }
        let chains = (0..<12).map { _ in Self.chain(40, nameBits: bits, textBits: 16, &random) }
        var held: [UInt16: Set<UInt64>] = [:]
        for step in 0..<600 {
            let lane = lanes[Int.random(in: 0..<3, using: &random)]
            let chain = chains[Int.random(in: 0..<12, using: &random)]
            let at = Int.random(in: 0..<40, using: &random)
            if Bool.random(using: &random) {
                let from = at == 0 || held[lane]?.contains(chain.engine[at - 1]) == true ? at : 0
                _ = trie.store(lane, chain, from: from, counted: false)
                held[lane, default: []].formUnion(chain.engine[from...])
            } else if held[lane]?.remove(chain.engine[at]) != nil {
                #expect(trie.remove(lane, BlockName(raw: chain.names[at])), "step \(step)")
            }
            guard step % 10 == 0 else { continue }
            for chain in chains {
                let depths = trie.depths(chain, lookup)
                for lane in lanes {
                    let expected = chain.engine.prefix { held[lane]?.contains($0) == true }.count
                    #expect(depths[lane] ?? 0 == expected, "step \(step)")
                }
            }
        }
        #expect(trie.statistics.heldBlocks == held.values.reduce(0) { $0 + $1.count })
        for lane in lanes { trie.closeHolder(lane) }
        while trie.maintain() {}
        #expect(trie.statistics.blocks == 0 && trie.statistics.chunks == 0 && trie.statistics.twins == 0)
    }

    /// With b bits of text a prompt that leaves a stored one is taken one block too far with probability 2^-b, two with
    /// 2^-2b; stored prompts are found whole though their branches begin with twins.
    @Test("divergence overshoots as rarely as the bits say", arguments: [4, 6, 8])
    func texts(bits: Int) throws {
        var random = SplitMix64(seed: UInt64(bits))
        let trie = try ChunkTrie(isKeyed: true, budget: 16 << 20)
        let lookup = try TrieLookup()
        let lane = try #require(trie.openHolder())
        var chains: [Chain] = []
        for number in 0..<400 {
            var chain = Self.chain(40, nameBits: 32, textBits: bits, &random)
            if number > 0 {
                let other = chains[Int.random(in: 0..<number, using: &random)]
                let kept = Int.random(in: 0..<40, using: &random)
                chain = Chain(Array(other.locals[..<kept]) + chain.locals[kept...])
            }
            _ = trie.store(lane, chain)
            chains.append(chain)
        }
        let lost = chains.filter { trie.depths($0, lookup)[lane] != 40 }.count
        // A branch whose first two blocks are both twins is taken for another engine's: 2^-2b per branch.
        #expect(Double(lost) <= 400 * 3 / Double(1 << (2 * bits)) + 2)
        var over = 0
        let rounds = 20_000
        for _ in 0..<rounds {
            let chain = chains[Int.random(in: 0..<400, using: &random)]
            let cut = Int.random(in: 1..<40, using: &random)
            let stray = Self.chain(40, nameBits: 32, textBits: bits, &random).locals
            let query = Chain(Array(chain.locals[..<cut]) + stray[cut...])
            if (trie.depths(query, lookup)[lane] ?? 0) > cut { over += 1 }
        }
        let expected = Double(rounds) / Double(1 << bits)
        #expect(Double(over) < expected * 1.5 + 20 && Double(over) > expected * 0.5 - 20, "\(over) of \(rounds)")
    }
}
