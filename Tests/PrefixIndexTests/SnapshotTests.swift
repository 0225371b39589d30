// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

@Suite("Snapshots")
struct SnapshotTests {
    private static func tokens(_ count: Int, _ seed: UInt64) -> [UInt32] {
        var random = SplitMix64(seed: seed)
        return (0..<count).map { _ in UInt32(truncatingIfNeeded: random.next() >> 47) }
    }

    /// An index with several pods, tiers, domains, block sizes, an adapter, copies, holes and a doubtful part.
    private static func filled() throws -> (index: EventPrefixIndex, prompts: [PrefixKeys]) {
        let index = try EventPrefixIndex(budget: 8 << 20)
        var prompts: [PrefixKeys] = []
        let head = tokens(160, 99)
        for number in 0..<60 as Range<UInt64> {
            let prompt = head + tokens(Int(16 * (1 + number * 7 % 40)), number)
            let size = number % 9 == 8 ? 32 : 16
            let world = EventWorld(seed: number % 5 == 4 ? 2 : UInt64(size), blockSize: size)
            let adapter = number % 7 == 6 ? "sql" : nil
            let source = EventSourceID(holder: UInt32(number % 5 + (size == 32 ? 10 : 0)), rank: Int(number % 2))
            let tier: CacheTier = number % 4 == 3 ? .cpu : .gpu
            for _ in 0..<2 { _ = index.apply(world.stored(prompt, tier: tier, adapter: adapter), from: source) }
            let hashes = world.hashes(prompt, adapter: adapter)
            if number % 3 == 0 { _ = index.apply(world.removed([hashes[4], hashes[4]], tier: tier), from: source) }
            prompts.append(.tokens(prompt, model: adapter))
        }
        index.doubt(EventSourceID(holder: 1, rank: 1), now: 5)
        index.remove(holder: 3)
        return (index, prompts)
    }

    private static func answers(_ index: EventPrefixIndex, _ prompts: [PrefixKeys]) -> [[TierMatch]] {
        prompts.map { keys in
            var result: [TierMatch] = []
            index.matches(of: keys, into: &result)
            return result
        }
    }

    @Test("the owner's notes come with it")
    func notes() throws {
        let (index, _) = try Self.filled()
        let notes = Array("whose blocks they are".utf8)
        #expect(try EventPrefixIndex(snapshot: index.snapshot(notes: notes), budget: 8 << 20).notes == notes)
        #expect(try EventPrefixIndex(snapshot: index.snapshot(), budget: 8 << 20).notes == [])
    }

    @Test("what was saved answers as before, and goes on")
    func roundTrip() throws {
        let (index, prompts) = try Self.filled()
        let before = Self.answers(index, prompts)
        #expect(before.contains { $0.count > 2 })
        let bytes = index.snapshot()
        let loaded = try EventPrefixIndex(snapshot: bytes, budget: 8 << 20, now: 7)
        #expect(Self.answers(loaded, prompts) == before)
        #expect(loaded.statistics.trie.heldBlocks == index.statistics.trie.heldBlocks)
        #expect(loaded.statistics.trie.blocks == index.statistics.trie.blocks)
        #expect(loaded.statistics.trie.duplicates == index.statistics.trie.duplicates)
        #expect(loaded.statistics.doubtfulSources == 1)
        #expect(loaded.snapshot() == bytes, "written again, it is the same")
        // Both go on alike: the next event, removals, a new pod, a clear.
        let world = EventWorld(seed: 16)
        let more = Self.tokens(480, 500)
        for each in [index, loaded] {
            _ = each.apply(world.stored(more), from: EventSourceID(holder: 0, rank: 0))
            _ = each.apply(world.removed(Array(world.hashes(more)[7...])), from: EventSourceID(holder: 0, rank: 0))
            _ = each.apply(world.stored(more), from: EventSourceID(holder: 77, rank: 0))
            each.clear(EventSourceID(holder: 2, rank: 0))
            while each.maintain(now: 8) {}
        }
        #expect(Self.answers(loaded, prompts + [.tokens(more)]) == Self.answers(index, prompts + [.tokens(more)]))
        #expect(loaded.statistics.trie.heldBlocks == index.statistics.trie.heldBlocks)
        for holder in (0..<80) as Range<UInt32> { loaded.remove(holder: holder) }
        while loaded.maintain(now: 9) {}
        #expect(loaded.statistics.trie.heldBlocks == 0 && loaded.statistics.trie.chunks == 0)
    }

    @Test("an empty index")
    func empty() throws {
        let index = try EventPrefixIndex(budget: 8 << 20, unit: 32)
        let loaded = try EventPrefixIndex(snapshot: index.snapshot(), budget: 8 << 20)
        #expect(loaded.unit == 32 && loaded.statistics.trie.blocks == 0)
    }

    @Test("truncated, damaged, foreign and later files are refused by name")
    func refusals() throws {
        let (index, _) = try Self.filled()
        let bytes = index.snapshot()
        func load(_ bytes: [UInt8]) -> SnapshotError? {
            do {
                _ = try EventPrefixIndex(snapshot: bytes, budget: 8 << 20)
                return nil
            } catch {
                return error
            }
        }
        #expect(load([]) == .notASnapshot)
        #expect(load(Array("not a snapshot at all, but long enough".utf8)) == .notASnapshot)
        #expect(load(Array(bytes.prefix(20))) == .truncated)
        #expect(load(Array(bytes.dropLast())) == .truncated)
        #expect(load(bytes + [0]) == .contradictory("bytes behind the end"))
        var later = bytes
        later[8] = 9
        #expect(load(later) == .futureVersion(9))
        var random = SplitMix64(seed: 3)
        for _ in 0..<50 {
            var damaged = bytes
            damaged[Int.random(in: 32..<bytes.count, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
            #expect(load(damaged) == .wrongChecksum)
        }
        #expect(load(bytes) == nil)
        let big = try EventPrefixIndex(budget: 8 << 20)
        for number in 0..<120 as Range<UInt64> {
            _ = big.apply(EventWorld().stored(Self.tokens(16 * 1_500, number)), from: EventSourceID(holder: 1, rank: 0))
        }
        let large = big.snapshot()
        do {
            _ = try EventPrefixIndex(snapshot: large, budget: 2 << 20)
            Issue.record("it does not fit")
        } catch {
            #expect(error == .tooLarge)
        }
    }

    /// Damage under a checksum that fits: no crash, no endless loop, and what loads can be used.
    @Test("contradictory contents do no harm", arguments: 0..<40 as Range<UInt64>)
    func contradictions(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let (index, prompts) = try Self.filled()
        let bytes = index.snapshot()
        for _ in 0..<4 {
            var body = Array(bytes[SnapshotFormat.headerBytes...])
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                // The head of the file and its columns of topology are the dangerous parts.
                let at = Int.random(
                    in: 0..<(Bool.random(using: &random) ? body.count : min(700, body.count)),
                    using: &random
                )
                body[at] = UInt8.random(in: 0...255, using: &random)
            }
            let framed = SnapshotFormat.framed(body, magic: SnapshotFormat.snapshotMagic)
            guard let loaded = try? EventPrefixIndex(snapshot: framed, budget: 8 << 20) else { continue }
            _ = Self.answers(loaded, prompts)
            _ = loaded.apply(EventWorld(seed: 16).stored(Self.tokens(320, 7)), from: EventSourceID(holder: 0, rank: 0))
            for holder in (0..<20) as Range<UInt32> { loaded.remove(holder: holder) }
            while loaded.maintain(now: 1_000) {}
        }
    }
}
