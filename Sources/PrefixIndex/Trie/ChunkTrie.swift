// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Who holds which chains of blocks: one writer, any number of readers beside it that never wait.
///
/// Holders are *lanes*, numbers that the owner gives out. The byte budget is never exceeded: when it is nearly used up, the
/// coldest chunks go, in small steps that ride on the stores.
package final class ChunkTrie: @unchecked Sendable {
    // Sendable: `memory` is constant and leads to atomic words. `writer` is touched only by methods that change the trie or
    // look at its statistics; their caller makes sure that one thread at a time is in them (a Mutex, or one thread).
    private let owner: MemoryOwner
    private let memory: TrieMemory
    private var writer: TrieWriter

    /// Under this many bytes the fixed parts leave no room for blocks.
    package static let minBudget = 2 << 20

    /// An empty trie. Keyed: blocks have engine hashes, by which they are found and removed. The budget is in bytes, at least
    /// `minBudget`. Throws where the system refuses address space.
    package init(isKeyed: Bool, budget: Int) throws(IndexMemoryError) {
        let budget = max(budget, Self.minBudget)
        owner = MemoryOwner()
        memory = try TrieMemory(isKeyed: isKeyed, budget: budget, owner: owner)
        writer = try TrieWriter(memory: memory, budget: budget, owner: owner)
    }

    // MARK: - For readers

    /// Fills `lookup`, the calling thread's own, with what each live lane holds of the chain. From any thread.
    /// `seed` is joined to the first hash; 0 = none.
    package func find(_ hashes: [UInt64], seed: UInt64 = 0, _ lookup: TrieLookup) {
        unsafe hashes.withUnsafeBufferPointer { hashes in
            guard let hashes = unsafe PromptHashes(hashes, seed: seed) else { return lookup.forget() }
            // The reader holds addresses only; the owner of what they lead to must outlive it.
            withExtendedLifetime(owner) { TrieReader(memory: memory).find(hashes, lookup) }
        }
    }

    // MARK: - For the writer

    /// A new holder's first lane; its others follow. nil where 16,384 holders are open or not yet cleared away.
    package func openHolder() -> UInt16? {
        let first: UInt16
        if let free = writer.freeHolders.popLast() {
            first = free
        } else if Int(writer.nextHolder) + Int(TrieMemory.lanesPerHolder) < TrieMemory.laneCount {
            first = writer.nextHolder
            writer.nextHolder += TrieMemory.lanesPerHolder
        } else {
            return nil
        }
        for lane in first..<(first + TrieMemory.lanesPerHolder) {
            memory.lanes.setAge(lane, 0)
            memory.lanes.setOldest(lane, 0)
            memory.lanes.setState(lane, .live)
        }
        return first
    }

    /// Forgets all that a holder holds: at once for lookups; the memory comes back in small steps.
    package func closeHolder(_ first: UInt16) {
        for lane in first..<(first + TrieMemory.lanesPerHolder) where memory.lanes.state(lane) == .live {
            memory.lanes.setState(lane, .dead)
            writer.sweep.dead.append(lane)
        }
    }

    /// Lets a lane hold a chain of blocks.
    ///
    /// `parent` names the block before the first, nil at the start of a prompt; it is looked for among the blocks of the
    /// lane's holder, in all its tiers. `engine` names the blocks (`BlockName`), as many as `locals`, and is nil where the trie
    /// is not keyed. `seed` is joined to the first hash of a prompt; 0 = none. Where blocks are `counted`, one that the lane
    /// holds already is a further copy of it, removed apart.
    package func store(
        _ lane: UInt16,
        after parent: BlockName?,
        engine: UnsafeBufferPointer<UInt64>?,
        locals: UnsafeBufferPointer<UInt64>,
        seed: UInt64 = 0,
        counted: Bool
    ) -> StoreOutcome {
        var outcome = StoreOutcome()
        guard memory.lanes.state(lane) == .live, let start = locals.baseAddress else { return outcome }
        guard unsafe (engine != nil) == memory.isKeyed, unsafe engine.map({ $0.count == locals.count }) ?? true else {
            return outcome
        }
        var place = TriePlace.root
        if let parent {
            let first = lane & ~(TrieMemory.lanesPerHolder - 1)
            guard
                let slot = memory.locate(
                    parent,
                    lanes: first,
                    through: first | (TrieMemory.lanesPerHolder - 1),
                    writer.twins
                )
            else {
                outcome.isOrphan = true
                return outcome
            }
            place = .behind(slot, in: memory)
            // Engines keep the parents of what they store: in a time of doubt, a new block confirms all before it.
            if memory.lanes.oldest(lane) != memory.lanes.age(lane) { memory.refresh(lane, behind: place) }
        }
        var at = 0
        while at < locals.count {
            let count = min(TrieWriter.maxStep, locals.count - at)
            let run = unsafe BlockRun(
                locals: start + at,
                engine: engine?.baseAddress.map { unsafe $0 + at },
                count: count,
                seed: at == 0 && parent == nil ? seed : 0
            )
            writer.prepareStep()
            let step = writer.store(lane, &place, run, counted: counted)
            outcome += step
            writer.pace(blocks: count)
            at += count
            guard step.foreign == 0, step.refused == 0 else { break }
        }
        return outcome
    }

    /// Brings nearer what `remove` will touch.
    @inline(__always)
    package func prefetch(_ name: BlockName) { writer.prefetch(name) }

    /// Takes one copy of a block from a lane. False where the lane does not hold it.
    package func remove(_ lane: UInt16, _ name: BlockName) -> Bool {
        guard memory.lanes.state(lane) == .live else { return false }
        return writer.remove(lane, name)
    }

    /// Lets a lane hold a block that another tier of the same holder, or else anybody, holds: engines name blocks that move
    /// between tiers by their hash alone.
    package func hold(_ lane: UInt16, _ name: BlockName, counted: Bool) -> StoreOutcome {
        var outcome = StoreOutcome()
        let first = lane & ~(TrieMemory.lanesPerHolder - 1)
        guard memory.lanes.state(lane) == .live,
            let slot = memory.locate(name, lanes: first, through: first | (TrieMemory.lanesPerHolder - 1), writer.twins)
        else {
            outcome.isOrphan = true
            return outcome
        }
        writer.prepareStep()
        return writer.hold(lane, slot: slot, counted: counted)
    }

    /// Blocks stored again that were of an older age, since the start.
    package var refreshedBlocks: Int { writer.refreshedBlocks }

    /// Blocks that a lane holds, those not yet cleared away included.
    package func blocks(of lane: UInt16) -> Int { unsafe Int(writer.laneBlocks[Int(lane)]) }

    /// Ages all that a lane holds by one; what it stores from now on is young. Beyond `keeping` ages it counts no more.
    package func age(_ lane: UInt16, keeping: UInt16) {
        let age = memory.lanes.age(lane) &+ 1
        memory.lanes.setAge(lane, age)
        if Int16(truncatingIfNeeded: age &- keeping &- memory.lanes.oldest(lane)) > 0 {
            memory.lanes.setOldest(lane, age &- keeping)
            writer.hasExpired = true
        }
    }

    /// What a lane holds that is older than its present age is gone, for lookups of an unkeyed trie at once, else when it has
    /// been cleared away.
    package func expire(_ lane: UInt16) {
        memory.lanes.setOldest(lane, memory.lanes.age(lane))
        writer.hasExpired = true
    }

    /// Bytes that this trie may make resident from now on, at most those it was made with: tries can share a budget.
    package func setBudget(_ bytes: Int) { writer.budget = min(max(bytes, 0), writer.reservedBudget) }

    package var bytes: Int { writer.bytes }

    /// Clears away what is closed, expired or too cold, in steps of some tenths of a millisecond. To be called now and then
    /// where few stores come.
    /// - Returns: true while there is more to do.
    package func maintain(work: Int = 512) -> Bool {
        writer.beginSweepIfNeeded()
        writer.stepSweep(work: work)
        return !writer.sweep.isIdle || !writer.sweep.dead.isEmpty
    }

    // MARK: - Snapshots

    /// Writes all that live holders hold. What is dead is cleared away first.
    func writeSnapshot(_ bytes: inout ByteWriter) {
        while maintain(work: 65_536) {}
        writer.writeSnapshot(&bytes)
    }

    /// Fills a new trie. `holders` are the first lanes of those that are open, and the ages of their lanes.
    func readSnapshot(_ reader: inout ByteReader, holders: [RestoredHolder]) throws(SnapshotError) {
        var open = Set<UInt16>()
        for holder in holders {
            guard holder.lane % TrieMemory.lanesPerHolder == 0, open.insert(holder.lane).inserted else {
                throw .contradictory("holder \(holder.lane)")
            }
            for (offset, ages) in holder.ages.enumerated() {
                let lane = holder.lane + UInt16(offset)
                memory.lanes.setAge(lane, ages.age)
                memory.lanes.setOldest(lane, ages.oldest)
                memory.lanes.setState(lane, .live)
            }
        }
        writer.nextHolder = open.max().map { $0 + TrieMemory.lanesPerHolder } ?? 0
        writer.freeHolders = stride(from: 0, to: writer.nextHolder, by: Int(TrieMemory.lanesPerHolder))
            .filter { !open.contains($0) }
        try writer.readSnapshot(&reader) { open.contains($0 & ~(TrieMemory.lanesPerHolder - 1)) }
    }

    /// The ages of a holder's lanes.
    func ages(ofHolder first: UInt16) -> RestoredHolder {
        let lanes = first..<(first + TrieMemory.lanesPerHolder)
        return RestoredHolder(lane: first, ages: lanes.map { (memory.lanes.age($0), memory.lanes.oldest($0)) })
    }

    package var statistics: TrieStatistics {
        TrieStatistics(
            bytes: writer.bytes,
            freeBytes: writer.bytes - writer.usedBytes,
            budget: writer.budget,
            chunks: writer.slabs.chunkCount,
            blocks: writer.liveBlocks,
            heldBlocks: writer.heldBlocks,
            duplicates: writer.duplicates.count,
            twins: writer.twins.count,
            evictedBlocks: writer.evictedBlocks
        )
    }
}

/// Sizes of a trie.
package struct TrieStatistics: Sendable, Hashable {
    /// Memory made resident, free parts included; never above `budget`.
    package var bytes: Int
    package var freeBytes: Int
    package var budget: Int
    package var chunks: Int
    /// Different blocks held by somebody.
    package var blocks: Int
    /// (holder, block) pairs.
    package var heldBlocks: Int
    /// Blocks of which a lane holds further copies.
    package var duplicates: Int
    /// Blocks told apart from others by the rest of their names.
    package var twins: Int
    /// Blocks given up for want of room, since the start.
    package var evictedBlocks: Int
}

/// An open holder in a snapshot.
struct RestoredHolder {
    var lane: UInt16
    var ages: [(age: UInt16, oldest: UInt16)]
}
