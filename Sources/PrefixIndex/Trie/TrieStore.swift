// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

/// What became of the blocks of one store.
package struct StoreOutcome: Sendable, Hashable {
    /// Blocks that the lane holds now and did not before.
    package var added = 0
    /// Blocks that it held already: further copies, where copies are counted.
    package var repeated = 0
    /// Blocks left out because an equal text stands there under another engine hash.
    package var foreign = 0
    /// Blocks of equal text and equal engine hash found in the trie.
    package var shared = 0
    /// Blocks left out for want of room.
    package var refused = 0
    /// The parent is not known; nothing was stored.
    package var isOrphan = false

    package init() {}

    package static func += (a: inout StoreOutcome, b: StoreOutcome) {
        a.added &+= b.added
        a.repeated &+= b.repeated
        a.foreign &+= b.foreign
        a.shared &+= b.shared
        a.refused &+= b.refused
        a.isOrphan = a.isOrphan || b.isOrphan
    }
}

/// Where a walk through the trie stands: behind a block, or at the root.
struct TriePlace {
    var chunk: Chunk?
    /// Position of the last block passed; -1 in front of the chunk's first.
    var position: Int

    static var root: TriePlace { TriePlace(chunk: nil, position: 0) }

    /// The place behind a block.
    static func behind(_ slot: UInt32, in memory: TrieMemory) -> TriePlace {
        let chunk = memory.chunk(of: slot)
        return TriePlace(chunk: chunk, position: TrieMemory.position(of: slot, in: chunk))
    }
}

/// The blocks of one step: as many of each as `count`.
@safe struct BlockRun {
    // Borrowed from the caller for one call.
    let locals: UnsafePointer<UInt64>
    let engine: UnsafePointer<UInt64>?
    let count: Int
    /// Joined to the first hash; 0 = none.
    let seed: UInt64

    /// The name of a block, where blocks have names.
    @inline(__always)
    func name(_ at: Int) -> BlockName { unsafe BlockName(raw: engine.map { unsafe $0[at] } ?? 0) }

    @inline(__always)
    func local(_ at: Int) -> UInt64 { unsafe at == 0 ? BlockHash.seeded(locals[0], by: seed) : locals[at] }
}

extension TrieWriter {
    /// Lets `lane` hold a chain of blocks behind `place`, and moves `place` behind the last one stored.
    /// The run has at most `maxStep` blocks, and `prepareStep` came before. Where blocks are `counted`, one that the lane
    /// holds already is a further copy of it.
    mutating func store(_ lane: UInt16, _ place: inout TriePlace, _ run: BlockRun, counted: Bool) -> StoreOutcome {
        entry.fetched = 0
        let outcome = storeAll(lane, &place, run, counted)
        settleSuspects(run)
        return outcome
    }

    @inline(__always)
    private mutating func storeAll(
        _ lane: UInt16,
        _ place: inout TriePlace,
        _ run: BlockRun,
        _ counted: Bool
    ) -> StoreOutcome {
        var outcome = StoreOutcome()
        for at in 0..<run.count { unsafe localBits[at] = UInt16(truncatingIfNeeded: run.local(at)) }
        if unsafe run.engine != nil {
            for at in 0..<run.count { unsafe engineBits[at] = run.name(at).fingerprint }
        }
        var at = 0
        while at < run.count {
            if let chunk = place.chunk {
                let matched = match(chunk, place.position &+ 1, run, at)
                if matched.foreign {
                    outcome.foreign &+= run.count &- at
                    return outcome
                }
                if matched.count > 0 {
                    guard take(chunk, lane, place.position &+ 1, matched.count, run, at, counted, &outcome) else {
                        outcome.refused &+= run.count &- at
                        return outcome
                    }
                    outcome.shared &+= matched.count
                    place.position &+= matched.count
                    at &+= matched.count
                    continue
                }
            }
            // A child is entered in front of its first block, which then matches.
            guard place.position >= 0 else {
                outcome.foreign &+= run.count &- at
                return outcome
            }
            let parent = place.chunk
            let tag = TrieMemory.tag(parent: parent?.id ?? 0, position: place.position, local: run.local(at))
            if let child = memory.child(of: parent, position: place.position, local: run.local(at), tag: tag) {
                if unsafe run.engine != nil, child.engineFingerprints.word8(0) != run.name(at).fingerprint {
                    outcome.foreign &+= run.count &- at
                    return outcome
                }
                place = TriePlace(chunk: child, position: -1)
                continue
            }
            guard extend(lane, &place, run, &at, tag, &outcome) else {
                outcome.refused &+= run.count &- at
                return outcome
            }
        }
        return outcome
    }

    /// How many blocks from `at` on stand in the chunk from `first` on. Foreign where two in a row have equal text and
    /// different engine hashes: one alone is more likely a twin of 16 bits, and a branch.
    @inline(__always)
    private func match(_ chunk: Chunk, _ first: Int, _ run: BlockRun, _ at: Int) -> (count: Int, foreign: Bool) {
        let most = min(chunk.length &- first, run.count &- at)
        guard most > 0 else { return (0, false) }
        let texts = unsafe ix_equal_run16_own((chunk.fingerprints + 2 &* first).raw, localBits + at, UInt32(most))
        guard texts > 0, unsafe run.engine != nil else { return (Int(texts), false) }
        let known = unsafe ix_equal_run8(
            (chunk.engineFingerprints + first).raw.assumingMemoryBound(to: UInt8.self),
            engineBits + at,
            texts
        )
        return (Int(known), texts >= known &+ 2)
    }

    /// Lets the lane hold blocks that stand in the trie.
    @inline(__always)
    private mutating func take(
        _ chunk: Chunk,
        _ lane: UInt16,
        _ first: Int,
        _ count: Int,
        _ run: BlockRun,
        _ at: Int,
        _ counted: Bool,
        _ outcome: inout StoreOutcome
    ) -> Bool {
        let bits = Chunk.bits(from: first, count: count)
        let dead = chunk.flags & Chunk.Flag.hasDead != 0 ? bits & ~memory.heldMask(chunk) : 0
        guard dead == 0 || revive(chunk, dead, first, run, at) else { return false }
        guard let repeated = hold(chunk, lane, bits, isLocked: false) else { return false }
        liveBlocks &+= dead.nonzeroBitCount
        memory.touch(chunk)
        outcome.added &+= count &- repeated.nonzeroBitCount
        outcome.repeated &+= repeated.nonzeroBitCount
        if counted, repeated != 0, duplicates.bytes < budget / 16 {
            chunk.insertFlags(Chunk.Flag.hasDuplicates)
            var left = repeated
            while left != 0 {
                duplicates.increment(chunk.slot(left.trailingZeroBitCount), lane)
                left &= left &- 1
            }
        }
        return true
    }

    /// Blocks come back that nobody held: their engine hashes must lead here again. False where there is no room.
    private mutating func revive(_ chunk: Chunk, _ dead: UInt32, _ first: Int, _ run: BlockRun, _ at: Int) -> Bool {
        guard unsafe run.engine != nil else { return true }
        // A chunk in which nobody holds anything takes its first holder without memory, one with holders may need a list:
        // then entries that lead to a dead block would be left behind.
        guard chunk.holderCount == 0 || holders.mayGrow else { return false }
        var left = dead
        while left != 0 {
            let position = left.trailingZeroBitCount
            let name = run.name(at &+ position &- first)
            let slot = chunk.slot(position)
            if engine.memory.first(name.key, where: { $0 == slot }) == nil, !enter(name, chunk, position) {
                chunk.insertFlags(Chunk.Flag.stale)
                return false
            }
            left &= left &- 1
        }
        return true
    }

    /// Writes new blocks from `at` on: behind the last of a chunk with room, or into a new chunk.
    private mutating func extend(
        _ lane: UInt16,
        _ place: inout TriePlace,
        _ run: BlockRun,
        _ at: inout Int,
        _ tag: UInt32,
        _ outcome: inout StoreOutcome
    ) -> Bool {
        let target: Chunk
        let first: Int
        if let chunk = place.chunk, place.position &+ 1 == chunk.length, chunk.length < chunk.capacity {
            target = chunk
            first = chunk.length
        } else {
            let sizeClass = Self.sizeClass(for: run.count &- at, behind: place, isFirst: at == 0)
            guard let chunk = makeChild(of: place.chunk, position: place.position, tag: tag, sizeClass: sizeClass)
            else {
                return false
            }
            target = chunk
            first = 0
        }
        let count = min(target.capacity &- first, run.count &- at)
        engine.approach(run, at, &entry)
        SequenceLock.enter(target.version)
        guard hold(target, lane, Chunk.bits(from: first, count: count), isLocked: true) != nil else {
            SequenceLock.leave(target.version)
            return false
        }
        for index in 0..<count {
            unsafe target.fingerprints.set16(2 &* (first &+ index), localBits[at &+ index])
        }
        if unsafe run.engine != nil {
            for index in 0..<count { unsafe target.engineFingerprints.set8(first &+ index, engineBits[at &+ index]) }
        }
        target.setLength(first &+ count)
        SequenceLock.leave(target.version)
        memory.touch(target)
        liveBlocks &+= count
        outcome.added &+= count
        place = TriePlace(chunk: target, position: first &+ count &- 1)
        if unsafe run.engine != nil {
            let entered = enterAll(target, first, count, run, at)
            if entered < count {
                settleSuspects(run)
                undo(lane, target, from: first &+ entered, count: count &- entered, &outcome)
                at &+= entered
                return false
            }
        }
        at &+= count
        storedInEra &+= count
        return true
    }

    /// Lets the names of new blocks lead to them.
    /// - Returns: how many found a place.
    @inline(__always)
    private mutating func enterAll(_ chunk: Chunk, _ first: Int, _ count: Int, _ run: BlockRun, _ at: Int) -> Int {
        let known = entry.suspected
        var entered = 0
        while true {
            let slot = chunk.slot(first &+ entered)
            entered &+= engine.enter(run, from: at &+ entered, count: count &- entered, slot: slot, &entry)
            guard entered < count else { break }
            if entry.isFull {
                settleSuspects(run)
            } else if !engine.makeRoom(for: run.name(at &+ entered).key) {
                break
            }
        }
        if known < entry.suspected {
            for index in Int(known)..<Int(entry.suspected) {
                unsafe memory.prefetchEngineFingerprint(of: entry.suspects[index].other)
            }
        }
        return entered
    }

    /// Writes down which of the step's blocks have a twin.
    private mutating func settleSuspects(_ run: BlockRun) {
        var noted: UInt32 = 0
        for index in 0..<Int(entry.suspected) {
            let suspect = unsafe entry.suspects[index]
            let name = run.name(Int(suspect.name))
            guard suspect.slot != noted, memory.engineFingerprint(of: suspect.other) == name.fingerprint else {
                continue
            }
            noted = suspect.slot
            let chunk = memory.chunk(of: suspect.slot)
            noteTwin(name, chunk, TrieMemory.position(of: suspect.slot, in: chunk))
        }
        entry.suspected = 0
    }

    /// The same for one block.
    mutating func enter(_ name: BlockName, _ chunk: Chunk, _ position: Int) -> Bool {
        var hasTwin = false
        engine.forEachSlot(name.key) { other in
            if memory.engineFingerprint(of: other) == name.fingerprint { hasTwin = true }
        }
        guard engine.insert(name.key, slot: chunk.slot(position)) else { return false }
        if hasTwin { noteTwin(name, chunk, position) }
        return true
    }

    private mutating func noteTwin(_ name: BlockName, _ chunk: Chunk, _ position: Int) {
        // Beyond this share of the budget a removal may meet the wrong twin: hashes made to collide, not chance.
        guard twins.bytes < budget / 32 else { return }
        twins.insert(name, at: chunk.slot(position))
        chunk.markTwins()
    }

    /// Positions of a chunk that no name leads to any more.
    mutating func forgetTwins(_ chunk: Chunk, _ positions: UInt32) {
        guard chunk.hasTwins else { return }
        var left = positions
        while left != 0 {
            twins.remove(chunk.slot(left.trailingZeroBitCount))
            left &= left &- 1
        }
    }

    /// A block whose engine hash found no place could never be removed: it and those behind it are not kept.
    private mutating func undo(
        _ lane: UInt16,
        _ chunk: Chunk,
        from first: Int,
        count: Int,
        _ outcome: inout StoreOutcome
    ) {
        drop(chunk, lane, Chunk.bits(from: first, count: count))
        chunk.insertFlags(Chunk.Flag.hasDead)
        liveBlocks &-= count
        forgetTwins(chunk, Chunk.bits(from: first, count: count))
        outcome.added &-= count
        tidy(chunk)
    }

    /// The smallest class that takes the blocks. A chain that grows block by block gets larger chunks as it goes.
    private static func sizeClass(for blocks: Int, behind place: TriePlace, isFirst: Bool) -> UInt32 {
        var wanted: UInt32 = blocks > 16 ? 3 : blocks > 8 ? 2 : blocks > 4 ? 1 : 0
        if isFirst, let chunk = place.chunk, place.position &+ 1 == chunk.capacity {
            wanted = max(wanted, min(chunk.sizeClass &+ 1, 3))
        }
        return wanted
    }
}
