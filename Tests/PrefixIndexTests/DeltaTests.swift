// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

@Suite("Deltas for a second picker")
struct DeltaTests {
    private static func tokens(_ count: Int, _ seed: UInt64) -> [UInt32] {
        var random = SplitMix64(seed: seed)
        return (0..<count).map { _ in UInt32(truncatingIfNeeded: random.next() >> 47) }
    }

    private static func answers(_ index: EventPrefixIndex, _ prompts: [[UInt32]]) -> [[TierMatch]] {
        prompts.flatMap { prompt in
            [nil, "sql"].map { model in
                var result: [TierMatch] = []
                index.matches(of: .tokens(prompt, model: model), into: &result)
                return result
            }
        }
    }

    /// One random event at a random pod; pods 4 and 5 hash differently.
    private static func event(_ index: EventPrefixIndex, _ prompts: [[UInt32]], _ random: inout SplitMix64) {
        let holder = UInt32.random(in: 0..<6, using: &random)
        let source = EventSourceID(holder: holder, rank: Int.random(in: 0...1, using: &random))
        let world = EventWorld(seed: holder < 4 ? 1 : UInt64(holder))
        let prompt = prompts[Int.random(in: 0..<prompts.count, using: &random)]
        let adapter = holder == 2 ? "sql" : nil
        let hashes = world.hashes(prompt, adapter: adapter)
        switch Int.random(in: 0..<40, using: &random) {
        case 0: index.clear(source)
        case 1: index.remove(holder: holder % 4)
        case 2: index.doubt(source, now: 1)
        case 3...14:
            let first = Int.random(in: 0..<hashes.count, using: &random)
            _ = index.apply(world.removed(Array(hashes[first...])), from: source)
        case 15:
            var encoder = KVEventEncoder()
            encoder.stored(hashes, parent: nil, tokens: [], blockSize: 16, tier: .cpu)
            encoder.cleared()
            encoder.stored(
                Array(hashes[..<1]),
                parent: nil,
                tokens: Array(prompt[..<16]),
                blockSize: 16,
                adapter: adapter
            )
            _ = index.apply(encoder.batch(time: 0), from: source)
        default:
            let first = Bool.random(using: &random) ? 0 : Int.random(in: 0..<hashes.count, using: &random)
            _ = index.apply(world.stored(prompt, from: first, adapter: adapter), from: source)
        }
    }

    /// An index that knows which pods hash alike. While that is being found out, two pickers may see different pods first
    /// and give up different blocks.
    private static func sorted(_ prompts: [[UInt32]]) throws -> EventPrefixIndex {
        let index = try EventPrefixIndex(budget: 8 << 20)
        for holder in 0..<6 as Range<UInt32> {
            let world = EventWorld(seed: holder < 4 ? 1 : UInt64(holder))
            for rank in 0...1 {
                for prompt in prompts + prompts {
                    _ = index.apply(world.stored(prompt), from: EventSourceID(holder: holder, rank: rank))
                }
            }
        }
        while index.maintain(now: 0) {}
        return index
    }

    @Test("a second picker that applies them answers alike", arguments: 1...8 as ClosedRange<UInt64>)
    func follow(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let shared = Self.tokens(160, 1_000)
        let prompts = (0..<12 as Range<UInt64>).map {
            Array(shared[..<Int.random(in: 0...160, using: &random)])
                + Self.tokens(16 * Int.random(in: 1...30, using: &random), $0)
        }
        let first = try Self.sorted(prompts)
        for _ in 0..<60 { Self.event(first, prompts, &random) }
        first.recordChanges()
        let second = try EventPrefixIndex(snapshot: first.snapshot(), budget: 8 << 20)
        #expect(Self.answers(second, prompts) == Self.answers(first, prompts))
        for _ in 0..<30 {
            for _ in 0..<Int.random(in: 0...30, using: &random) { Self.event(first, prompts, &random) }
            let delta = try #require(first.takeDelta())
            _ = try second.apply(delta: delta, now: 1)
            let (a, b) = (Self.answers(second, prompts), Self.answers(first, prompts))
            for at in a.indices where a[at] != b[at] { Issue.record("\(a[at]) instead of \(b[at])") }
        }
        #expect(second.statistics.trie.heldBlocks <= first.statistics.trie.heldBlocks + 4_000)
        // A third one joins in the middle of the stream.
        let third = try EventPrefixIndex(snapshot: first.snapshot(), budget: 8 << 20)
        for _ in 0..<30 { Self.event(first, prompts, &random) }
        let delta = try #require(first.takeDelta())
        _ = try third.apply(delta: delta, now: 1)
        #expect(Self.answers(third, prompts) == Self.answers(first, prompts))
    }

    @Test("damaged deltas and gaps are refused, and nothing changes")
    func refusals() throws {
        var random = SplitMix64(seed: 4)
        let prompts = (0..<4 as Range<UInt64>).map { Self.tokens(16, 77) + Self.tokens(320, $0) }
        let first = try Self.sorted(prompts)
        #expect(first.takeDelta() == nil)
        first.recordChanges()
        let second = try EventPrefixIndex(snapshot: first.snapshot(), budget: 8 << 20)
        let before = Self.answers(second, prompts)
        for _ in 0..<20 { Self.event(first, prompts, &random) }
        let one = try #require(first.takeDelta())
        for _ in 0..<20 { Self.event(first, prompts, &random) }
        let two = try #require(first.takeDelta())
        func refusal(_ delta: [UInt8]) -> SnapshotError? {
            do {
                _ = try second.apply(delta: delta, now: 0)
                return nil
            } catch {
                return error
            }
        }
        if case .gap(let expected, _) = refusal(two) { #expect(expected == 0) } else { Issue.record("a gap") }
        #expect(refusal(Array(one.dropLast())) == .truncated)
        #expect(refusal(first.snapshot()) == .notASnapshot)
        for at in stride(from: 33, to: one.count, by: 97) {
            var damaged = one
            damaged[at] ^= 0x40
            #expect(refusal(damaged) == .wrongChecksum)
            let body = Array(damaged[SnapshotFormat.headerBytes...])
            let fresh = try EventPrefixIndex(budget: 8 << 20)
            _ = try? fresh.apply(delta: SnapshotFormat.framed(body, magic: SnapshotFormat.deltaMagic), now: 0)
        }
        #expect(Self.answers(second, prompts) == before)
        #expect(refusal(one) == nil && refusal(two) == nil)
        #expect(Self.answers(second, prompts) == Self.answers(first, prompts))
    }
}
