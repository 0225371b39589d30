// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

/// Chains of blocks as engines name them: a block's engine hash stands for all of the chain up to it.
struct Chain {
    var locals: [UInt64] = []
    var engine: [UInt64] = []
    /// What the trie calls the blocks.
    var names: [UInt64] = []

    mutating func append(_ local: UInt64) {
        locals.append(local)
        engine.append(BlockHash.joined(engine.last ?? 7, local))
        names.append(BlockName(engineHash: engine[engine.count - 1]).raw)
    }

    init(_ locals: [UInt64]) {
        for local in locals { append(local) }
    }

}

extension ChunkTrie {
    func store(_ lane: UInt16, _ chain: Chain, from: Int = 0, to end: Int? = nil, counted: Bool = true) -> StoreOutcome
    {
        let end = end ?? chain.locals.count
        let parent = from == 0 ? nil : BlockName(raw: chain.names[from - 1])
        return unsafe Array(chain.names[from..<end]).withUnsafeBufferPointer { names in
            unsafe Array(chain.locals[from..<end]).withUnsafeBufferPointer { locals in
                unsafe store(lane, after: parent, engine: names, locals: locals, counted: counted)
            }
        }
    }

    func depths(_ chain: Chain, _ lookup: TrieLookup) -> [UInt16: Int] {
        find(chain.locals, lookup)
        return Dictionary(uniqueKeysWithValues: (0..<lookup.count).map { (lookup[$0].lane, lookup[$0].blocks) })
    }
}

@Suite("Chunk trie")
struct ChunkTrieTests {
    @Test("a chain is found by its holders, as far as each holds it")
    func basics() throws {
        let trie = try ChunkTrie(isKeyed: true, budget: 8 << 20)
        let lookup = try TrieLookup()
        let a = try #require(trie.openHolder())
        let b = try #require(trie.openHolder())
        let chain = Chain((0..<100).map { $0 &* 0x9E37_79B9_7F4A_7C15 &+ 1 })
        #expect(trie.store(a, chain).added == 100)
        let outcome = trie.store(b, chain, to: 40)
        #expect(outcome.added == 40 && outcome.shared == 40)
        #expect(trie.depths(chain, lookup) == [a: 100, b: 40])
        #expect(trie.statistics.blocks == 100)
        #expect(trie.statistics.heldBlocks == 140)
        #expect(trie.remove(a, BlockName(engineHash: chain.engine[50])))
        #expect(!trie.remove(a, BlockName(engineHash: chain.engine[50])))
        #expect(!trie.remove(b, BlockName(engineHash: chain.engine[50])))
        #expect(trie.depths(chain, lookup) == [a: 50, b: 40])
        trie.closeHolder(a)
        #expect(trie.depths(chain, lookup) == [b: 40])
        while trie.maintain() {}
        #expect(trie.depths(chain, lookup) == [b: 40])
        #expect(trie.statistics.heldBlocks == 40)
        #expect(trie.statistics.blocks == 40)
    }

    @Test("an orphan is refused, a branch hangs where it leaves")
    func branches() throws {
        let trie = try ChunkTrie(isKeyed: true, budget: 8 << 20)
        let lookup = try TrieLookup()
        let a = try #require(trie.openHolder())
        let trunk = Chain((1...40).map { UInt64($0) })
        #expect(trie.store(a, trunk, from: 20).isOrphan)
        _ = trie.store(a, trunk)
        var branch = Chain((1...20).map { UInt64($0) })
        for local in 1_000..<1_030 as Range<UInt64> { branch.append(local) }
        #expect(trie.store(a, branch, from: 20).added == 30)
        #expect(trie.depths(branch, lookup) == [a: 50])
        #expect(trie.depths(trunk, lookup) == [a: 40])
    }

    /// Random stores, appends, removals, copies and clears on few texts, against the naive table after every few steps.
    @Test("equal to a naive table under any order of events", arguments: 1...12 as ClosedRange<UInt64>)
    func model(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let trie = try ChunkTrie(isKeyed: true, budget: 16 << 20)
        let lookup = try TrieLookup()
        var naive = NaiveIndex()
        var holders = try (0..<4).map { _ in try #require(trie.openHolder()) }
        var chains: [Chain] = []
        // Chains that share prefixes of random lengths.
        for _ in 0..<30 {
            var chain = Chain([])
            if let other = chains.randomElement(using: &random), Bool.random(using: &random) {
                let kept = Int.random(in: 0...other.locals.count, using: &random)
                chain = Chain(Array(other.locals[..<kept]))
            }
            for _ in 0..<Int.random(in: 1...70, using: &random) { chain.append(random.next()) }
            chains.append(chain)
        }
        for step in 0..<1_000 {
            let holder = Int.random(in: 0..<holders.count, using: &random)
            let lane = holders[holder] + UInt16.random(in: 0...1, using: &random)
            let chain = chains[Int.random(in: 0..<chains.count, using: &random)]
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<45:
                let from = Bool.random(using: &random) ? 0 : Int.random(in: 0..<chain.locals.count, using: &random)
                let end = Int.random(in: (from + 1)...chain.locals.count, using: &random)
                let counted = Bool.random(using: &random)
                let outcome = trie.store(lane, chain, from: from, to: end, counted: counted)
                let parentHeld =
                    from == 0
                    || (0...1).contains { tier in
                        naive.copies[.init(lane: holders[holder] + UInt16(tier), engine: chain.engine[from - 1])] != nil
                    }
                #expect(outcome.isOrphan == !parentHeld)
                #expect(outcome.foreign == 0 && outcome.refused == 0)
                if parentHeld { naive.store(lane, Array(chain.engine[from..<end]), counted: counted) }
            case 45..<97:
                // Removals of a stretch, from the tail or anywhere.
                let count = Int.random(in: 1...20, using: &random)
                for _ in 0..<count {
                    let hash = chain.engine[Int.random(in: 0..<chain.engine.count, using: &random)]
                    let held = naive.copies[.init(lane: lane, engine: hash)] != nil
                    #expect(trie.remove(lane, BlockName(engineHash: hash)) == held)
                    naive.remove(lane, hash)
                }
            case 97:
                trie.closeHolder(holders[holder])
                naive.clear(holders[holder]...(holders[holder] + 3))
                holders[holder] = try #require(trie.openHolder())
            default:
                _ = trie.maintain(work: Int.random(in: 1...40, using: &random))
            }
            guard step % 20 == 0 else { continue }
            for chain in chains {
                let depths = trie.depths(chain, lookup)
                for holder in holders {
                    for lane in holder...(holder + 1) {
                        #expect(depths[lane] ?? 0 == naive.depth(lane, chain.engine), "seed \(seed) step \(step)")
                    }
                }
            }
        }
        while trie.maintain() {}
        #expect(trie.statistics.heldBlocks == naive.copies.count)
        #expect(trie.statistics.blocks == Set(naive.copies.keys.map(\.engine)).count)
        for lane in holders { trie.closeHolder(lane) }
        while trie.maintain() {}
        #expect(trie.statistics.heldBlocks == 0)
        #expect(trie.statistics.blocks == 0)
        #expect(trie.statistics.chunks == 0)
        #expect(trie.statistics.duplicates == 0)
    }

    @Test("the budget holds, and what was used last stays", arguments: [true, false])
    func budget(isKeyed: Bool) throws {
        let budget = 2 << 20
        let trie = try ChunkTrie(isKeyed: isKeyed, budget: budget)
        let lookup = try TrieLookup()
        let lane = try #require(trie.openHolder())
        var random = SplitMix64(seed: 5)
        let hot = Chain((0..<64).map { _ in random.next() })
        var most = 0
        var refused = 0
        for round in 0..<(isKeyed ? 2_000 : 4_000) {
            let chain = Chain(
                (0..<Int.random(in: 4...(isKeyed ? 120 : 400), using: &random)).map { _ in random.next() }
            )
            let outcome = unsafe chain.locals.withUnsafeBufferPointer { locals in
                unsafe isKeyed
                    ? trie.store(lane, chain)
                    : trie.store(lane, after: nil, engine: nil, locals: locals, counted: false)
            }
            refused += outcome.refused
            if round % 50 == 0 {
                _ = unsafe hot.locals.withUnsafeBufferPointer { locals in
                    unsafe isKeyed
                        ? trie.store(lane, hot, counted: false)
                        : trie.store(lane, after: nil, engine: nil, locals: locals, counted: false)
                }
                _ = trie.depths(hot, lookup)
            }
            most = max(most, trie.statistics.bytes)
            if round > 1_000, round % 10 == 0 { #expect(trie.depths(hot, lookup) == [lane: 64], "round \(round)") }
        }
        #expect(most <= budget)
        #expect(trie.statistics.evictedBlocks > 10_000)
        #expect(refused == 0)
    }

    @Test("of equally cold blocks those of the greatest holder go first")
    func fairness() throws {
        let trie = try ChunkTrie(isKeyed: true, budget: 4 << 20)
        let small = try (0..<9).map { _ in try #require(trie.openHolder()) }
        let great = try #require(trie.openHolder())
        var random = SplitMix64(seed: 11)
        // Every second prompt is the great one's, and none is used again.
        let rounds = 36_000
        for round in 0..<rounds {
            let chain = Chain((0..<32).map { _ in random.next() })
            _ = trie.store(round % 2 == 0 ? great : small[round / 2 % small.count], chain)
        }
        #expect(trie.statistics.evictedBlocks > rounds * 16)
        let kept = trie.blocks(of: great)
        for lane in small {
            // Equal shares would be a ninth of the great one's: what fills faster goes sooner.
            #expect(trie.blocks(of: lane) * 9 > 2 * kept, "\(trie.blocks(of: lane)) of \(kept)")
        }
        #expect(kept > trie.statistics.blocks / 20)
    }
}

@Suite("Memory of a chunk trie")
struct ChunkTrieMemoryTests {
    /// Bytes per block of unshared chains of this many blocks, 200,000 blocks in all.
    private static func bytesPerBlock(_ length: Int, growsByOne: Bool = false) throws -> Double {
        let trie = try ChunkTrie(isKeyed: true, budget: 64 << 20)
        let lane = try #require(trie.openHolder())
        let empty = trie.statistics.bytes
        var random = SplitMix64(seed: UInt64(length))
        let chains = 200_000 / length
        for _ in 0..<chains {
            let chain = Chain((0..<length).map { _ in random.next() })
            if growsByOne {
                for at in 0..<length { _ = trie.store(lane, chain, from: at, to: at + 1) }
            } else {
                _ = trie.store(lane, chain)
            }
        }
        #expect(trie.statistics.heldBlocks == chains * length)
        return Double(trie.statistics.bytes - empty) / Double(chains * length)
    }

    @Test("short chains cost at most twice the bytes of a long one per block", arguments: [4, 5, 8, 9, 12, 16])
    func shortChains(length: Int) throws {
        let long = try Self.bytesPerBlock(512)
        #expect(long < 12)
        #expect(try Self.bytesPerBlock(length) <= 2 * long)
    }

    @Test("a chain that grows block by block costs little more than one stored at once")
    func decoding() throws {
        #expect(try Self.bytesPerBlock(400, growsByOne: true) <= 1.15 * Self.bytesPerBlock(400))
    }
}
