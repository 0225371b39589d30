// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Synchronization

/// What a holder has of a prompt's start.
package struct HeldPrefix: Sendable, Hashable {
    package var holder: UInt32
    /// Blocks from the first on, without a hole.
    package var blocks: Int

    package init(holder: UInt32, blocks: Int) {
        self.holder = holder
        self.blocks = blocks
    }
}

/// Which pod was sent which prompts: an index that learns from routing, for pods that publish no KV events.
///
/// It cannot hear of evictions, so it models them: per holder, what has not been sent again while the holder's capacity in
/// tokens went by counts no more (least recently used, in steps of an eighth). Lookups run beside learning and never wait.
package final class ApproximatePrefixIndex: Sendable {
    /// Tokens a holder is taken to cache until its engine says: 31,250 blocks of 16, what llm-d's approximate index keeps.
    package static let defaultCapacityTokens = 500_000
    /// Steps in which a holder forgets.
    private static let ages: UInt16 = 8

    private struct Holder {
        var lane: UInt16
        var capacityTokens: Int
        /// The share of the capacity that prompts seem to have: the engine's answers tell.
        var share = 1.0
        var feedback = HitFeedback()
        /// Tokens learned or refreshed since its last ageing.
        var tokensOfAge = 0.0
    }

    private struct Learned {
        var holders: [UInt32: Holder] = [:]
    }

    private let trie: ChunkTrie
    private let learned = Mutex(Learned())
    private let names: HolderNames
    private let lookups = Mutex<[TrieLookup]>([])
    private let lookupCount = Atomic<Int>(0)
    private let hitCount = Atomic<Int>(0)
    private let hitBlocks = Atomic<Int>(0)

    /// `budget`: bytes, never exceeded.
    package init(budget: Int) throws(IndexMemoryError) {
        trie = try ChunkTrie(isKeyed: false, budget: budget)
        names = try HolderNames()
    }

    /// `holder` will hold this prompt: called at dispatch, so that siblings of a cold prompt find each other.
    package func learn(_ keys: PrefixKeys, holder: UInt32) {
        guard !keys.hashes.isEmpty else { return }
        learned.withLock { learned in
            guard let lane = open(holder, &learned) else { return }
            let before = trie.refreshedBlocks
            let outcome = unsafe keys.hashes.withUnsafeBufferPointer {
                unsafe trie.store(lane, after: nil, engine: nil, locals: $0, seed: Self.seed(keys), counted: false)
            }
            let blocks = outcome.added + trie.refreshedBlocks - before
            guard blocks > 0, var entry = learned.holders[holder] else { return }
            entry.tokensOfAge += Double(blocks) * keys.tokensPerBlock
            let tokensPerAge = Double(entry.capacityTokens) * entry.share / Double(Self.ages)
            if entry.tokensOfAge >= tokensPerAge {
                // A prompt longer than an age is one touch, and leaves one age behind.
                entry.tokensOfAge = 0
                trie.age(lane, keeping: Self.ages)
            }
            learned.holders[holder] = entry
        }
    }

    /// Replaces `result` by what each holder has of the prompt, sorted by holder; those that have nothing are left out.
    package func holders(of keys: PrefixKeys, into result: inout [HeldPrefix]) {
        result.removeAll(keepingCapacity: true)
        guard !keys.hashes.isEmpty, let lookup = takeLookup() else { return }
        trie.find(keys.hashes, seed: Self.seed(keys), lookup)
        for place in 0..<lookup.count {
            let match = lookup[place]
            guard let holder = names.holder(ofLane: match.lane) else { continue }
            result.append(HeldPrefix(holder: holder, blocks: match.blocks))
        }
        lookups.withLock { $0.append(lookup) }
        result.sort { $0.holder < $1.holder }
        lookupCount.add(1, ordering: .relaxed)
        if let most = result.map(\.blocks).max() {
            hitCount.add(1, ordering: .relaxed)
            hitBlocks.add(most, ordering: .relaxed)
        }
    }

    /// Tokens that the holder's engine can cache, where it says so (blocks × block size).
    package func setCapacity(tokens: Int, holder: UInt32) {
        guard tokens > 0 else { return }
        learned.withLock { learned in
            guard open(holder, &learned) != nil else { return }
            learned.holders[holder]?.capacityTokens = tokens
        }
    }

    /// A request to the holder has ended, whose prompt was expected to have `predicted` tokens cached. Where clearly less was
    /// found, the holder forgets faster than was believed: less is kept of it from now on; where all is found, more again.
    /// `reported`: nil where the answer did not say.
    package func ended(holder: UInt32, promptTokens: Int, predicted: Int, reported: Int?) {
        learned.withLock { learned in
            guard var entry = learned.holders[holder] else { return }
            entry.feedback.ended(promptTokens: promptTokens, predicted: predicted, reported: reported)
            if let reported { Self.adjust(&entry, predicted: predicted, found: reported) }
            learned.holders[holder] = entry
        }
    }

    private static func adjust(_ entry: inout Holder, predicted: Int, found: Int) {
        guard predicted > 0 else { return }
        entry.share = found < predicted / 2 ? max(leastShare, entry.share * shrink) : min(1, entry.share + growth)
    }

    /// Requests were preempted on the holder: their blocks were taken for others, which the cache was then too.
    package func observePreemptions(holder: UInt32, count: Int) {
        guard count > 0 else { return }
        learned.withLock { learned in
            guard let share = learned.holders[holder]?.share else { return }
            learned.holders[holder]?.share = max(Self.leastShare, share * Self.shrink)
        }
    }

    /// The engine's counters of tokens looked up and found in its prefix cache. Counters that fall are a restart: what the
    /// holder had is forgotten.
    /// - Returns: true where they fell.
    @discardableResult
    package func observe(holder: UInt32, queries: Double, hits: Double) -> Bool {
        let hasRestarted = learned.withLock { learned in
            guard var entry = learned.holders[holder] else { return false }
            let news = entry.feedback.observe(queries: queries, hits: hits)
            if case .compared(let predicted, let found) = news {
                Self.adjust(&entry, predicted: predicted, found: found)
            }
            learned.holders[holder] = entry
            return news == .restarted
        }
        if hasRestarted { remove(holder: holder) }
        return hasRestarted
    }

    /// How far the index is to be believed of a holder, 0…1, and what that rests on. nil for a holder that it does not know.
    package func feedback(holder: UInt32) -> HitFeedback? { learned.withLock { $0.holders[holder]?.feedback } }

    /// `trust` of that alone; 1 for a holder that is not known.
    package func trust(holder: UInt32) -> Double { learned.withLock { $0.holders[holder]?.feedback.trust ?? 1 } }

    /// The same of all holders together: what metrics show.
    package var feedbacks: [HitFeedback] { learned.withLock { $0.holders.values.map(\.feedback) } }

    /// Additive growth, multiplicative fall: a cache that is smaller than believed is found out within a few answers, one
    /// that has room again within some tens.
    private static let shrink = 0.8
    private static let growth = 0.02
    private static let leastShare = 1.0 / 16

    /// The holder is gone, or has lost its cache: it answers no more until it learns again.
    package func remove(holder: UInt32) {
        learned.withLock { learned in
            guard let entry = learned.holders.removeValue(forKey: holder) else { return }
            trie.closeHolder(entry.lane)
        }
    }

    /// Forgets everything.
    package func clear() {
        learned.withLock { learned in
            for holder in learned.holders.keys.sorted() {
                if let lane = learned.holders[holder]?.lane { trie.closeHolder(lane) }
            }
            learned.holders = [:]
        }
    }

    /// Clears away a part of what is gone or too old. To be called now and then, as from a timer.
    /// - Returns: true while there is more to do.
    package func maintain() -> Bool { learned.withLock { _ in trie.maintain() } }

    package var statistics: PrefixIndexStatistics {
        let (sizes, holders) = learned.withLock { learned in (trie.statistics, learned.holders.count) }
        return PrefixIndexStatistics(
            trie: sizes,
            holders: holders,
            lookups: lookupCount.load(ordering: .relaxed),
            hits: hitCount.load(ordering: .relaxed),
            hitBlocks: hitBlocks.load(ordering: .relaxed)
        )
    }

    /// Keys of tokens are not seeded with the model; here nobody knows better than the request.
    private static func seed(_ keys: PrefixKeys) -> UInt64 {
        keys.kind == .text
            ? 0 : BlockHash.joined(UInt64(keys.tokensPerBlock), BlockHash.seed(model: keys.model, cacheSalt: nil))
    }

    private func open(_ holder: UInt32, _ learned: inout Learned) -> UInt16? {
        if let known = learned.holders[holder] { return known.lane }
        guard let lane = trie.openHolder() else { return nil }
        names.set(holder, forLane: lane)
        learned.holders[holder] = Holder(lane: lane, capacityTokens: Self.defaultCapacityTokens)
        return lane
    }

    private func takeLookup() -> TrieLookup? {
        if let idle = lookups.withLock({ $0.popLast() }) { return idle }
        return try? TrieLookup()
    }
}

/// Sizes and use of a prefix index.
package struct PrefixIndexStatistics: Sendable, Hashable {
    package var trie: TrieStatistics
    package var holders: Int
    package var lookups: Int
    /// Lookups that found a holder, and the sum of the longest prefixes found.
    package var hits: Int
    package var hitBlocks: Int
}

/// The owner's names of holders, by lane: read beside the writer.
final class HolderNames: Sendable {
    private let owner = MemoryOwner()
    private let region: SharedRegion

    init() throws(IndexMemoryError) {
        region = try owner.reserve(4 * TrieMemory.laneCount / Int(TrieMemory.lanesPerHolder))
    }

    func set(_ holder: UInt32, forLane lane: UInt16) {
        region.start.set32(4 * Int(lane / TrieMemory.lanesPerHolder), holder &+ 1)
    }

    /// nil for a lane that nobody has used.
    func holder(ofLane lane: UInt16) -> UInt32? {
        let stored = region.start.word32(4 * Int(lane / TrieMemory.lanesPerHolder))
        return stored == 0 ? nil : stored &- 1
    }
}
