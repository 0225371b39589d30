// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Locks
internal import Synchronization

/// What one rank of a pod, or a shared store, has of a prompt's start in one tier.
package struct TierMatch: Sendable, Hashable {
    package var holder: UInt32
    package var rank: Int
    package var tier: CacheTier
    /// All full blocks held from the start without a hole, before the rule that the last block is recomputed.
    package var tokens: Int
    /// Batches of this publisher were lost: what it says may no longer be true.
    package var isDoubtful: Bool

    package init(holder: UInt32, rank: Int, tier: CacheTier, tokens: Int, isDoubtful: Bool) {
        self.holder = holder
        self.rank = rank
        self.tier = tier
        self.tokens = tokens
        self.isDoubtful = isDoubtful
    }
}

/// The exact index: every block of every pod, as the engines' own events tell it.
///
/// Events come from one thread at a time; lookups from any, and never wait for them. Engine hashes are opaque. They are
/// expected to be equal for equal content; publishers whose hashes differ get a trie of their own when that is noticed.
package final class EventPrefixIndex: Sendable {
    private let writer: Guarded<EventWriter>
    /// What lookups need; changes only when a domain, a block size or an adapter is new.
    private let view: Mutex<EventView>
    private let lookups = Mutex<[TrieLookup]>([])
    package let unit: Int

    /// `budget`: bytes, never exceeded. `unit`: tokens of which every block size is a multiple; requests' keys are cut in it.
    package init(budget: Int, unit: Int = TokenKeyHasher.defaultTokensPerBlock) throws(IndexMemoryError) {
        self.unit = max(unit, 1)
        let first = try HashDomain(budget: max(budget, ChunkTrie.minBudget))
        writer = Guarded(EventWriter(first: first, budget: max(budget, ChunkTrie.minBudget), unit: max(unit, 1)))
        view = Mutex(EventView(domains: [first], adapters: []))
    }

    /// From what `snapshot` gave. `now` as in `doubt`. Throws where the bytes are damaged, of a later version, or too much.
    package init(snapshot: [UInt8], budget: Int, now: Double = 0) throws(SnapshotError) {
        let restored = try EventWriter(snapshot: snapshot, budget: max(budget, ChunkTrie.minBudget), now: now)
        let (domains, adapters) = (restored.domains, restored.adapters)
        unit = restored.unit
        writer = Guarded(restored)
        view = Mutex(EventView(domains: domains, adapters: adapters))
    }

    /// All that is held, in a compact format, with the owner's notes. Events wait meanwhile, lookups do not.
    package func snapshot(notes: [UInt8] = []) -> [UInt8] {
        writer.withLock { $0.snapshot(notes: Array(notes.prefix(SnapshotFormat.maxNotes))) }
    }

    /// What was written beside the snapshot that this index came from; empty for a new one.
    package var notes: [UInt8] { writer.withLock { $0.notes } }

    /// The publishers known, sorted.
    package var sources: [EventSourceID] { writer.withLock { $0.sources.keys.sorted() } }

    /// From now on changes are kept for `takeDelta`; to be called before the snapshot that a second picker begins with.
    package func recordChanges() {
        writer.withLock { writer in
            if writer.log == nil { writer.log = ChangeLog(first: writer.changes) }
        }
    }

    /// The changes since the last call. nil where so many were not taken that some are lost: then a snapshot is needed, and
    /// the next delta goes on from it.
    package func takeDelta() -> [UInt8]? {
        writer.withLock { writer in
            guard var log = writer.log else { return nil }
            let isWhole = !log.hasOverflown
            let delta = log.take(unit: writer.unit)
            writer.log = log
            return isWhole ? delta : nil
        }
    }

    /// Applies another picker's changes. Throws, and changes nothing, where they are damaged or do not follow on what this
    /// index has seen.
    package func apply(delta: [UInt8], now: Double) throws(SnapshotError) -> EventOutcome {
        let result: Result<EventOutcome, SnapshotError> = writer.withLock { writer in
            do throws(SnapshotError) {
                let outcome = try writer.apply(delta: delta, now: now)
                publish(&writer)
                return .success(outcome)
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// Applies a batch, as a message's last frame holds it. What comes before a malformed event stays applied.
    package func apply(_ payload: UnsafeRawBufferPointer, from source: EventSourceID) -> EventOutcome {
        writer.withLock { writer in
            let outcome = unsafe writer.apply(payload, from: source)
            publish(&writer)
            return outcome
        }
    }

    /// The same, for a batch in an array.
    package func apply(_ payload: [UInt8], from source: EventSourceID) -> EventOutcome {
        unsafe payload.withUnsafeBytes { unsafe apply($0, from: source) }
    }

    /// The engine has restarted, or said that its cache is empty.
    package func clear(_ source: EventSourceID) {
        writer.withLock { $0.clear(source) }
    }

    /// The pod is gone, with all its ranks.
    package func remove(holder: UInt32) {
        writer.withLock { $0.remove(holder: holder) }
    }

    /// Batches were lost at `now`, in any seconds that go on: the publisher's part is doubtful until it is confirmed or aged
    /// out.
    package func doubt(_ source: EventSourceID, now: Double) {
        writer.withLock { $0.doubt(source, now: now) }
    }

    /// Ages out what has been doubtful for long, and clears away a part of what is gone. To be called now and then.
    /// - Returns: true while there is more to clear away.
    package func maintain(now: Double) -> Bool {
        writer.withLock { $0.maintain(now: now) }
    }

    /// Replaces `result` by what each publisher has of the prompt, per tier, sorted; those that have nothing are left out.
    /// The keys must be of tokens and cut in this index's unit.
    package func matches(of keys: PrefixKeys, into result: inout [TierMatch]) {
        result.removeAll(keepingCapacity: true)
        guard keys.kind == .tokens, Int(keys.tokensPerBlock) == unit, !keys.hashes.isEmpty else { return }
        let view = view.withLock { $0 }
        let isAdapter = !view.adapters.isEmpty && (keys.model.map { view.adapters.contains($0) } ?? false)
        guard let lookup = lookups.withLock({ $0.popLast() }) ?? (try? TrieLookup()) else { return }
        let seed = isAdapter ? BlockHash.seed(model: keys.model, cacheSalt: nil) : 0
        for domain in view.domains {
            for factor in domain.factors {
                let hashes = factor == 1 ? keys.hashes : Self.folded(keys.hashes, by: factor)
                domain.trie.find(hashes, seed: seed, lookup)
                Self.collect(lookup, domain.names, factor * unit, into: &result)
            }
        }
        lookups.withLock { $0.append(lookup) }
        // Lanes mostly come in the order of their holders.
        for at in 1..<max(result.count, 1) where !Self.isOrdered(result[at - 1], result[at]) {
            result.sort { !Self.isOrdered($1, $0) }
            break
        }
    }

    private static func isOrdered(_ a: TierMatch, _ b: TierMatch) -> Bool {
        if a.holder != b.holder { return a.holder < b.holder }
        return a.rank != b.rank ? a.rank < b.rank : a.tier.rawValue <= b.tier.rawValue
    }

    package var statistics: EventIndexStatistics { writer.withLock { $0.statistics } }

    /// Hashes of blocks of `factor` units from those of the units.
    static func folded(_ hashes: [UInt64], by factor: Int) -> [UInt64] {
        (0..<(hashes.count / factor)).map { block in
            var hash = hashes[block * factor]
            for unit in 1..<factor { hash = BlockHash.joined(hash, hashes[block * factor + unit]) }
            return hash
        }
    }

    /// Lanes to publishers. A publisher with several groups has what all of them have.
    private static func collect(
        _ found: TrieLookup,
        _ names: LaneNames,
        _ blockSize: Int,
        into result: inout [TierMatch]
    ) {
        let start = result.count
        var groups: [(match: Int, seen: Int, needed: Int)] = []
        result.reserveCapacity(start + found.count)
        for place in 0..<found.count {
            let lane = found[place]
            let name = names.name(ofLane: lane.lane)
            guard name.blockSize == blockSize,
                let tier = CacheTier(rawValue: UInt8(lane.lane % TrieMemory.lanesPerHolder))
            else { continue }
            let match = TierMatch(
                holder: name.holder,
                rank: name.rank,
                tier: tier,
                tokens: lane.blocks * blockSize,
                isDoubtful: name.isDoubtful
            )
            guard name.groups > 1 else {
                result.append(match)
                continue
            }
            let same = groups.firstIndex {
                result[$0.match].holder == match.holder && result[$0.match].rank == match.rank
                    && result[$0.match].tier == match.tier
            }
            if let same {
                result[groups[same].match].tokens = min(result[groups[same].match].tokens, match.tokens)
                groups[same].seen += 1
            } else {
                groups.append((result.count, 1, name.groups))
                result.append(match)
            }
        }
        for group in groups where group.seen < group.needed { result[group.match].tokens = 0 }
        if !groups.isEmpty { result[start...].removeAll { $0.tokens == 0 } }
    }

    private func publish(_ writer: inout EventWriter) {
        guard writer.viewHasChanged else { return }
        writer.viewHasChanged = false
        let next = EventView(domains: writer.domains, adapters: writer.adapters)
        view.withLock { $0 = next }
    }
}

/// What lookups see of the index, replaced as a whole.
private final class EventView: Sendable {
    let domains: [HashDomain]
    let adapters: Set<String>

    init(domains: [HashDomain], adapters: Set<String>) {
        self.domains = domains
        self.adapters = adapters
    }
}

/// Sizes of an exact index, and what became of its events since the start.
package struct EventIndexStatistics: Sendable, Hashable {
    /// Summed over all hash domains.
    package var trie: TrieStatistics
    package var domains: Int
    package var sources: Int
    package var doubtfulSources: Int
    package var outcome: EventOutcome
}
