// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

/// An engine's cache, as far as its events show it: blocks of tokens, named by a hash of the chain.
struct EventWorld {
    var seed: UInt64 = 1
    var blockSize = 16

    func hashes(_ tokens: [UInt32], salt: String? = nil, adapter: String? = nil) -> [UInt64] {
        var parent = BlockHash.joined(seed, BlockHash.seed(model: adapter, cacheSalt: salt))
        return stride(from: 0, to: tokens.count - blockSize + 1, by: blockSize).map { start in
            parent = unsafe tokens.withUnsafeBufferPointer { tokens in
                guard let first = tokens.baseAddress else { return 0 }
                return unsafe BlockHash.joined(parent, BlockHash.tokens(first + start, count: blockSize))
            }
            return parent
        }
    }

    func stored(
        _ tokens: [UInt32],
        from first: Int = 0,
        tier: CacheTier = .gpu,
        salt: String? = nil,
        adapter: String? = nil,
        rank: Int = 0
    ) -> [UInt8] {
        let all = hashes(tokens, salt: salt, adapter: adapter)
        var encoder = KVEventEncoder()
        encoder.stored(
            Array(all[first...]),
            parent: first == 0 ? nil : all[first - 1],
            tokens: Array(tokens[(first * blockSize)..<(all.count * blockSize)]),
            blockSize: blockSize,
            tier: tier,
            adapter: adapter,
            cacheSalt: salt
        )
        return encoder.batch(time: 1, rank: rank)
    }

    func removed(_ hashes: [UInt64], tier: CacheTier = .gpu) -> [UInt8] {
        var encoder = KVEventEncoder()
        for hash in hashes { encoder.removed([hash], tier: tier) }
        return encoder.batch(time: 1)
    }
}

@Suite("Exact prefix index")
struct EventPrefixIndexTests {
    private static let source = EventSourceID(holder: 1, rank: 0)

    private static func tokens(_ count: Int, _ seed: UInt64) -> [UInt32] {
        var random = SplitMix64(seed: seed)
        return (0..<count).map { _ in UInt32(truncatingIfNeeded: random.next() >> 47) }
    }

    @Test("tiers, ranks and pods are told apart")
    func tiers() throws {
        let index = try EventPrefixIndex(budget: 8 << 20)
        let world = EventWorld()
        let prompt = Self.tokens(320, 1)
        let all = world.hashes(prompt)
        _ = index.apply(world.stored(prompt), from: Self.source)
        _ = index.apply(world.stored(prompt, tier: .cpu), from: Self.source)
        _ = index.apply(world.stored(Array(prompt[..<160])), from: EventSourceID(holder: 1, rank: 1))
        _ = index.apply(world.stored(prompt, tier: .storage), from: EventSourceID(holder: 9, rank: 0))
        _ = index.apply(world.removed([all[5]]), from: Self.source)
        var result: [TierMatch] = []
        index.matches(of: .tokens(prompt), into: &result)
        #expect(
            result == [
                TierMatch(holder: 1, rank: 0, tier: .gpu, tokens: 80, isDoubtful: false),
                TierMatch(holder: 1, rank: 0, tier: .cpu, tokens: 320, isDoubtful: false),
                TierMatch(holder: 1, rank: 1, tier: .gpu, tokens: 160, isDoubtful: false),
                TierMatch(holder: 9, rank: 0, tier: .storage, tokens: 320, isDoubtful: false),
            ]
        )
        index.remove(holder: 1)
        index.matches(of: .tokens(prompt), into: &result)
        #expect(result == [TierMatch(holder: 9, rank: 0, tier: .storage, tokens: 320, isDoubtful: false)])
    }

    @Test("a block that moves to another tier by its hash alone")
    func tierMove() throws {
        let index = try EventPrefixIndex(budget: 8 << 20)
        let world = EventWorld()
        let prompt = Self.tokens(64, 2)
        let all = world.hashes(prompt)
        _ = index.apply(world.stored(prompt), from: Self.source)
        var encoder = KVEventEncoder()
        encoder.stored(all, parent: nil, tokens: [], blockSize: 16, tier: .cpu)
        encoder.removed(all, tier: .gpu)
        let outcome = index.apply(encoder.batch(time: 1), from: Self.source)
        #expect(outcome.storedBlocks == 4 && outcome.removedBlocks == 4)
        #expect(index.tokens(.tokens(prompt), tier: .cpu) == 64)
        #expect(index.tokens(.tokens(prompt), tier: .gpu) == 0)
    }

    @Test("adapters and salts share nothing with the base model")
    func adapters() throws {
        let index = try EventPrefixIndex(budget: 8 << 20)
        let world = EventWorld()
        let prompt = Self.tokens(160, 3)
        _ = index.apply(world.stored(prompt, adapter: "sql"), from: Self.source)
        #expect(index.tokens(.tokens(prompt, model: "sql")) == 160)
        #expect(index.tokens(.tokens(prompt, model: "base")) == 0)
        #expect(index.tokens(.tokens(prompt)) == 0)
        _ = index.apply(world.stored(Array(prompt[..<80])), from: Self.source)
        #expect(index.tokens(.tokens(prompt, model: "base")) == 80)
        #expect(index.tokens(.tokens(prompt, model: "sql")) == 160)
        _ = index.apply(world.stored(Array(prompt[..<96]), salt: "tenant"), from: Self.source)
        #expect(index.tokens(.tokens(prompt, salt: "tenant")) == 96)
        #expect(index.tokens(.tokens(prompt, salt: "other")) == 0)
        _ = index.apply(world.stored(Array(prompt[..<48]), salt: "tenant", adapter: "sql"), from: Self.source)
        #expect(index.tokens(.tokens(prompt, salt: "tenant", model: "sql")) == 48)
    }

    @Test("pods of different block sizes answer one request")
    func blockSizes() throws {
        let index = try EventPrefixIndex(budget: 8 << 20)
        let prompt = Self.tokens(400, 4)
        for (holder, size) in [(1, 16), (2, 32), (3, 48)] as [(UInt32, Int)] {
            let world = EventWorld(seed: UInt64(size), blockSize: size)
            _ = index.apply(world.stored(prompt, salt: "s"), from: EventSourceID(holder: holder, rank: 0))
        }
        let odd = index.apply(EventWorld(blockSize: 20).stored(prompt), from: EventSourceID(holder: 4, rank: 0))
        #expect(odd.unusableEvents == 1)
        #expect(index.tokens(.tokens(prompt, salt: "s"), holder: 1) == 400)
        #expect(index.tokens(.tokens(prompt, salt: "s"), holder: 2) == 384)
        #expect(index.tokens(.tokens(prompt, salt: "s"), holder: 3) == 384)
        // A pod that comes back with another block size starts anew.
        let again = EventWorld(seed: 32, blockSize: 32)
        _ = index.apply(again.stored(Array(prompt[..<64]), salt: "s"), from: EventSourceID(holder: 1, rank: 0))
        #expect(index.tokens(.tokens(prompt, salt: "s"), holder: 1) == 64)
    }

    @Test("pages of one token, as SGLang's own, beside blocks of sixteen")
    func pages() throws {
        let index = try EventPrefixIndex(budget: 8 << 20, unit: 1)
        let prompt = Self.tokens(100, 14)
        let paged = EventWorld(seed: 5, blockSize: 1)
        for (holder, world) in [(1, paged), (2, EventWorld(seed: 6))] as [(UInt32, EventWorld)] {
            let id = EventSourceID(holder: holder, rank: 0)
            #expect(index.apply(world.stored(Array(prompt[..<50])), from: id).unusableEvents == 0)
            _ = index.apply(world.stored(prompt, from: 48 / world.blockSize), from: id)
        }
        #expect(index.tokens(.tokens(prompt, unit: 1), holder: 1) == 100)
        #expect(index.tokens(.tokens(prompt, unit: 1), holder: 2) == 96)
        let third = EventSourceID(holder: 1, rank: 0)
        _ = index.apply(paged.removed([paged.hashes(prompt)[70]]), from: third)
        #expect(index.tokens(.tokens(prompt, unit: 1), holder: 1) == 70)
        // As many tokens as in larger blocks are cut.
        var hasher = TokenKeyHasher(model: nil, cacheSalt: nil, tokensPerBlock: 1)
        hasher.update([UInt32](repeating: 7, count: 20_000))
        #expect(hasher.finish().hashes.count == 20_000)
    }

    @Test("a publisher with other hashes gets a domain of its own")
    func domains() throws {
        let index = try EventPrefixIndex(budget: 16 << 20)
        let prompt = Self.tokens(320, 5)
        let other = Self.tokens(320, 6)
        let worlds = [EventWorld(seed: 1), EventWorld(seed: 2), EventWorld(seed: 2), EventWorld(seed: 3)]
        for (number, world) in worlds.enumerated() {
            let id = EventSourceID(holder: UInt32(number), rank: 0)
            let outcome = index.apply(world.stored(prompt), from: id)
            #expect(outcome.hasMoved == (number > 0))
            // It sends again from the start, as a replay would; the next foreign domain is noticed the same way.
            if outcome.hasMoved, index.apply(world.stored(prompt), from: id).hasMoved {
                _ = index.apply(world.stored(prompt), from: id)
            }
            _ = index.apply(world.stored(other), from: id)
        }
        #expect(index.statistics.domains == 3)
        for holder in 0..<4 as Range<UInt32> {
            #expect(index.tokens(.tokens(prompt), holder: holder) == 320)
            #expect(index.tokens(.tokens(other), holder: holder) == 320)
        }
        // Removals reach the right pod alone.
        _ = index.apply(worlds[1].removed([worlds[1].hashes(prompt)[3]]), from: EventSourceID(holder: 1, rank: 0))
        #expect(index.tokens(.tokens(prompt), holder: 1) == 48)
        #expect(index.tokens(.tokens(prompt), holder: 2) == 320)
    }

    @Test("groups: windows are passed over, several full ones must all hold")
    func groups() throws {
        let index = try EventPrefixIndex(budget: 8 << 20)
        let world = EventWorld()
        let prompt = Self.tokens(160, 7)
        let all = world.hashes(prompt)
        func batch(group: Int, kind: String, count: Int) -> [UInt8] {
            var encoder = KVEventEncoder()
            encoder.stored(
                Array(all[..<count]),
                parent: nil,
                tokens: Array(prompt[..<(16 * count)]),
                blockSize: 16
            )
            var bytes = encoder.batch(time: 1)
            // ... "group_idx", 0, "kv_cache_spec_kind", "full_attention", rank 0
            let tail = 1 + 15 + 19 + 1
            bytes[bytes.count - tail] = UInt8(group)
            if kind != "full_attention" {
                bytes.replaceSubrange((bytes.count - 15)..<(bytes.count - 1), with: kind.utf8)
            }
            return bytes
        }
        #expect(index.apply(batch(group: 1, kind: "sliding_window", count: 10), from: Self.source).skippedEvents == 1)
        #expect(index.tokens(.tokens(prompt)) == 0)
        #expect(index.apply(batch(group: 0, kind: "full_attention", count: 10), from: Self.source).storedBlocks == 10)
        #expect(index.tokens(.tokens(prompt)) == 160)
        #expect(index.apply(batch(group: 2, kind: "full_attention", count: 4), from: Self.source).storedBlocks == 4)
        #expect(index.tokens(.tokens(prompt)) == 64)
    }

    @Test("after lost batches a part is doubtful until it is confirmed or aged out")
    func doubt() throws {
        let index = try EventPrefixIndex(budget: 8 << 20)
        let world = EventWorld()
        let old = Self.tokens(640, 8)
        let confirmed = Self.tokens(640, 9)
        _ = index.apply(world.stored(old), from: Self.source)
        _ = index.apply(world.stored(Array(confirmed[..<320])), from: Self.source)
        index.doubt(Self.source, now: 100)
        var result: [TierMatch] = []
        index.matches(of: .tokens(old), into: &result)
        #expect(result == [TierMatch(holder: 1, rank: 0, tier: .gpu, tokens: 640, isDoubtful: true)])
        #expect(index.statistics.doubtfulSources == 1)
        // A block stored behind the others says that they are there.
        _ = index.apply(world.stored(confirmed, from: 20), from: Self.source)
        _ = index.maintain(now: 200)
        #expect(index.tokens(.tokens(old)) == 640)
        while index.maintain(now: 701) {}
        #expect(index.tokens(.tokens(old)) == 0)
        index.matches(of: .tokens(confirmed), into: &result)
        #expect(result == [TierMatch(holder: 1, rank: 0, tier: .gpu, tokens: 640, isDoubtful: false)])
        #expect(index.statistics.doubtfulSources == 0)
    }

    @Test("the budget holds whatever comes, over several domains")
    func budget() throws {
        let index = try EventPrefixIndex(budget: 2 << 20)
        var random = SplitMix64(seed: 10)
        let common = Self.tokens(64, 11)
        var most = 0
        for round in 0..<500 {
            let holder = UInt32(round % 6)
            let world = EventWorld(seed: UInt64(holder % 3))
            let prompt =
                common
                + (0..<Int.random(in: 3_000...6_000, using: &random)).map { _ in
                    UInt32.random(in: 0..<1 << 20, using: &random)
                }
            _ = index.apply(world.stored(prompt), from: EventSourceID(holder: holder, rank: 0))
            most = max(most, index.statistics.trie.bytes)
        }
        #expect(index.statistics.domains == 3)
        #expect(most <= 2 << 20)
        #expect(index.statistics.trie.evictedBlocks > 0)
    }

    @Test("a name that is no name is refused with its batch")
    func longNames() throws {
        let index = try EventPrefixIndex(budget: 8 << 20)
        let prompt = Self.tokens(32, 1)
        let longest = String(repeating: "a", count: KVEventDecoder.maxNameBytes)
        #expect(!index.apply(EventWorld().stored(prompt, adapter: longest), from: Self.source).isMalformed)
        let longer = index.apply(EventWorld().stored(prompt, adapter: longest + "a"), from: Self.source)
        #expect(longer.isMalformed && longer.storedBlocks == 0)
    }

    @Test("batches that make no sense do no harm", arguments: 0..<20 as Range<UInt64>)
    func noise(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let index = try EventPrefixIndex(budget: 8 << 20)
        let world = EventWorld()
        let prompt = Self.tokens(320, seed)
        for _ in 0..<300 {
            var bytes = world.stored(prompt, from: Int.random(in: 0..<20, using: &random))
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = index.apply(Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &random))), from: Self.source)
        }
        _ = index.apply(world.stored(prompt), from: EventSourceID(holder: 5, rank: 0))
        #expect(index.tokens(.tokens(prompt), holder: 5) == 320)
    }
}
