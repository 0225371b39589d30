// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation
import Synchronization
import TestSupport
import Testing

@testable import PrefixIndex

/// One writer and several readers on threads of their own; meant for ThreadSanitizer above all (`scripts/sanitize thread`).
@Suite("Lookups beside the writer")
struct ConcurrencyTests {
    private final class Progress: Sendable {
        let isOver = Atomic<Bool>(false)
        let lookups = Atomic<Int>(0)
        let wrong = Atomic<Int>(0)
        let gaveUp = Atomic<Int>(0)
        let ended = Atomic<Int>(0)
    }

    private static func prompt(_ seed: UInt64, blocks: Int) -> [UInt32] {
        var random = SplitMix64(seed: seed)
        return (0..<(16 * blocks)).map { _ in UInt32(truncatingIfNeeded: random.next() >> 47) }
    }

    /// Chained on what comes before, as engines' hashes are.
    private static func hashes(_ tokens: [UInt32]) -> [UInt64] {
        var state: UInt64 = 1
        return stride(from: 0, to: tokens.count, by: 16).map { start in
            for token in tokens[start..<(start + 16)] { state = BlockHash.joined(state, UInt64(token)) }
            return state
        }
    }

    private static func stored(_ tokens: [UInt32]) -> [UInt8] {
        var encoder = KVEventEncoder()
        encoder.stored(hashes(tokens), parent: nil, tokens: tokens, blockSize: 16)
        return encoder.batch(time: 0)
    }

    private static func removed(_ hashes: [UInt64]) -> [UInt8] {
        var encoder = KVEventEncoder()
        encoder.removed(hashes)
        return encoder.batch(time: 0)
    }

    private static func churn(_ index: EventPrefixIndex, _ shared: [UInt32], seed: UInt64, turns: Int) {
        var random = SplitMix64(seed: seed)
        for turn in 0..<turns {
            let source = EventSourceID(holder: UInt32.random(in: 1...6, using: &random), rank: 0)
            let tokens = shared + prompt(random.next() % 50 + 100, blocks: Int.random(in: 1...40, using: &random))
            switch Int.random(in: 0..<20, using: &random) {
            case 0: index.clear(source)
            case 1: index.remove(holder: source.holder)
            case 2: index.doubt(source, now: Double(turn))
            case 3: while index.maintain(now: Double(turn) * 10) {}
            case 4...9: _ = index.apply(removed(Array(hashes(tokens).suffix(20))), from: source)
            default: _ = index.apply(stored(tokens), from: source)
            }
        }
    }

    /// Looks up a prompt that nobody changes, and others that begin like it, until the writer has ended.
    private static func read(
        _ index: EventPrefixIndex,
        _ kept: [UInt32],
        _ shared: [UInt32],
        seed: UInt64,
        _ progress: Progress
    ) {
        var random = SplitMix64(seed: seed)
        var found: [TierMatch] = []
        repeat {
            // A lookup never waits: one that meets a writer whom the system has put to sleep within a change gives up and
            // finds nothing. That must be rare; what is found must be right.
            index.matches(of: .tokens(kept), into: &found)
            var gaveUp = found.isEmpty ? 1 : 0
            var isWrong = !found.isEmpty && found.first { $0.holder == 0 }?.tokens != kept.count
            if found.contains(where: { $0.tokens > kept.count || $0.tokens % 16 != 0 || $0.holder > 6 }) {
                isWrong = true
            }
            let other = shared + prompt(random.next() % 50 + 100, blocks: 40)
            index.matches(of: .tokens(other), into: &found)
            if found.isEmpty { gaveUp += 1 }
            if found.contains(where: { $0.tokens > other.count }) { isWrong = true }
            if !found.isEmpty, found.first(where: { $0.holder == 0 })?.tokens != shared.count { isWrong = true }
            progress.gaveUp.add(gaveUp, ordering: .relaxed)
            progress.wrong.add(isWrong ? 1 : 0, ordering: .relaxed)
            progress.lookups.add(1, ordering: .relaxed)
        } while !progress.isOver.load(ordering: .relaxed)
    }

    @Test(
        "what nobody changes is always found whole, and nothing longer than the prompt",
        arguments: [1, 2] as [UInt64]
    )
    func stable(seed: UInt64) throws {
        let index = try EventPrefixIndex(budget: 4 << 20)
        // Long, and with a start that the churn beside it shares.
        let kept = Self.prompt(7, blocks: 200)
        let shared = Array(kept.prefix(16 * 24))
        _ = index.apply(Self.stored(kept), from: EventSourceID(holder: 0, rank: 0))
        let progress = Progress()
        // Threads, not tasks: readers that never wait would keep the writer from a pool of two.
        for reader in 0..<3 as Range<UInt64> {
            Thread.detachNewThread {
                Self.read(index, kept, shared, seed: seed &* 31 &+ reader, progress)
                progress.ended.add(1, ordering: .releasing)
            }
        }
        Thread.detachNewThread {
            Self.churn(index, shared, seed: seed, turns: 500)
            progress.isOver.store(true, ordering: .relaxed)
            progress.ended.add(1, ordering: .releasing)
        }
        while progress.ended.load(ordering: .acquiring) < 4 { usleep(1_000) }
        #expect(progress.wrong.load(ordering: .relaxed) == 0)
        let lookups = progress.lookups.load(ordering: .relaxed)
        #expect(lookups > 3)
        // On fewer cores than threads the writer often sleeps in the midst of a change, for whole time slices.
        #expect(progress.gaveUp.load(ordering: .relaxed) <= max(lookups / 2, 1_000))
        #expect(index.statistics.trie.bytes <= 4 << 20)
    }

    @Test("pods that come, fill, evict, restart and go leave nothing behind")
    func churnedAway() throws {
        let index = try EventPrefixIndex(budget: 64 << 20)
        let shared = Self.prompt(3, blocks: 10)
        var sizes: [Int] = []
        for round in 0..<8 as Range<UInt64> {
            Self.churn(index, shared, seed: round, turns: 200)
            for holder in 1...6 as ClosedRange<UInt32> { index.remove(holder: holder) }
            while index.maintain(now: 1e9) {}
            #expect(index.statistics.trie.heldBlocks == 0 && index.statistics.trie.blocks == 0)
            #expect(index.statistics.sources == 0 && index.statistics.trie.duplicates == 0)
            sizes.append(index.statistics.trie.bytes - index.statistics.trie.freeBytes)
        }
        let (early, late) = (sizes[2], sizes[7])
        #expect(late <= early + 65_536, "\(sizes)")
    }
}
