// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

/// The one writer of a chunk trie: see docs/prefix-index.md for the structure.
///
/// A chain of blocks is cut in chunks. A branch hangs below the block where it leaves: chunks are never split and never
/// moved, so a block keeps its slot for life, and the table of engine hashes can name it.
@safe struct TrieWriter: ~Copyable {
    // Safe: steps are at most as long as the arrays of bits.
    let memory: TrieMemory
    var budget: Int
    let reservedBudget: Int
    var slabs: SlabAllocator
    var holders: HolderArena
    var children: LineTable
    /// Engine hash → slot. Empty where the trie is not keyed.
    var engine: LineTable
    var duplicates = DuplicateCounts()
    var twins = TwinTable()
    /// Keys of a chunk from a snapshot, on their way into the table.
    var pendingKeys: [(position: Int, key: UInt32)] = []
    var entry = EntryStep()
    var sweep = TrieSweep()
    /// (lane, block) pairs held, by lane.
    private let laneBlocksRegion: SharedRegion
    var heldBlocks = 0
    /// Lanes that hold something.
    var activeLanes = 0
    /// Blocks held by somebody.
    var liveBlocks = 0
    var storedInEra = 0
    /// First lanes of holders that were closed and whose blocks are all out.
    var freeHolders: [UInt16] = []
    /// First lane of the next holder that is new.
    var nextHolder: UInt16 = 0
    /// Some lane's blocks have grown too old since the last walk began.
    var hasExpired = false
    var evictedBlocks = 0
    /// Blocks held already that were stored again and were of an older age.
    var refreshedBlocks = 0
    /// Of the blocks at hand, the bits that chunks keep.
    let localBits: UnsafeMutablePointer<UInt16>
    let engineBits: UnsafeMutablePointer<UInt8>

    /// Longer stores are cut: what one step may allocate is bounded by it.
    static let maxStep = 512
    /// What one step can allocate at worst: a page for each block in both tables, and a small chunk for each block.
    static let stepReserve = maxStep * (2 * LineTableMemory.pageBytes + 64) + 65_536

    init(memory: TrieMemory, budget: Int, owner: MemoryOwner) throws(IndexMemoryError) {
        self.memory = memory
        self.budget = budget
        reservedBudget = budget
        slabs = SlabAllocator(memory: memory)
        holders = HolderArena(region: memory.holders)
        children = LineTable(memory: memory.children, isShared: true)
        engine = LineTable(memory: memory.engine, isShared: false)
        laneBlocksRegion = try owner.reserve(4 * TrieMemory.laneCount)
        unsafe localBits = .allocate(capacity: Self.maxStep + 8)
        unsafe localBits.initialize(repeating: 0, count: Self.maxStep + 8)
        unsafe engineBits = .allocate(capacity: Self.maxStep)
        unsafe engineBits.initialize(repeating: 0, count: Self.maxStep)
    }

    deinit {
        unsafe localBits.deallocate()
        unsafe engineBits.deallocate()
    }

    @inline(__always)
    var laneBlocks: UnsafeMutablePointer<UInt32> {
        unsafe laneBlocksRegion.start.raw.assumingMemoryBound(to: UInt32.self)
    }

    /// Bytes made resident so far, free ones among them included.
    var bytes: Int {
        slabs.bytes &+ holders.bytes &+ children.bytes &+ (memory.isKeyed ? engine.bytes : 0) &+ duplicates.bytes
            &+ twins.bytes
    }

    /// To be called before a step: from here on only freed memory is used, unless a whole step fits into the budget.
    mutating func prepareStep() {
        let mayGrow = bytes &+ Self.stepReserve <= budget
        slabs.mayGrow = mayGrow
        holders.mayGrow = mayGrow
        children.mayGrow = mayGrow
        engine.mayGrow = mayGrow
    }

    // MARK: - Holders

    /// Adds positions to what a lane holds. `isLocked`: the caller is inside the chunk's lock.
    /// - Returns: those of the positions that it held before; nil where there was no room and nothing was done.
    @inline(__always)
    mutating func hold(_ chunk: Chunk, _ lane: UInt16, _ bits: UInt32, isLocked: Bool) -> UInt32? {
        let holderCount = chunk.holderCount
        let age = memory.lanes.age(lane)
        var before: UInt32 = 0
        if holderCount == 0 {
            if !isLocked { SequenceLock.enter(chunk.version) }
            chunk.base.set64(Chunk.Offset.holder, HolderWord(mask: bits, lane: lane, age: age).raw)
            chunk.base.set16(Chunk.Offset.holderCount, 1)
            if !isLocked { SequenceLock.leave(chunk.version) }
        } else if holderCount == 1, HolderWord(raw: chunk.holderWord).lane == lane {
            let old = HolderWord(raw: chunk.holderWord)
            before = old.mask
            if old.age != age { refreshedBlocks &+= (before & bits).nonzeroBitCount }
            chunk.base.set64(Chunk.Offset.holder, HolderWord(mask: before | bits, lane: lane, age: age).raw)
        } else {
            let word = HolderWord(mask: bits, lane: lane, age: age)
            guard let old = holdInList(chunk, holderCount, word, isLocked: isLocked) else { return nil }
            before = old
        }
        let added = (bits & ~before).nonzeroBitCount
        count(added, of: lane)
        return before & bits
    }

    private mutating func holdInList(_ chunk: Chunk, _ count: Int, _ word: HolderWord, isLocked: Bool) -> UInt32? {
        let list = memory.holderList(chunk, count)
        let at = TrieMemory.lowerBound(list, count, word.lane)
        if at < count {
            let old = HolderWord(raw: list.word64(8 &* at))
            if old.lane == word.lane {
                if old.age != word.age { refreshedBlocks &+= (old.mask & word.mask).nonzeroBitCount }
                list.set64(8 &* at, HolderWord(mask: old.mask | word.mask, lane: word.lane, age: word.age).raw)
                return old.mask
            }
        }
        guard count < TrieMemory.laneCount - 1 else { return nil }
        var grown: UInt64?
        if count == 1 || HolderArena.capacity(for: count) == count {
            guard let index = holders.allocate(for: count &+ 1) else { return nil }
            grown = index
        }
        if !isLocked { SequenceLock.enter(chunk.version) }
        if let grown {
            let target = memory.holderList(at: grown)
            for index in 0..<at { target.set64(8 &* index, list.word64(8 &* index)) }
            for index in at..<count { target.set64(8 &* (index &+ 1), list.word64(8 &* index)) }
            target.set64(8 &* at, word.raw)
            if count > 1 { holders.release(chunk.holderWord, count: count) }
            chunk.base.set64(Chunk.Offset.holder, grown)
        } else {
            var index = count
            while index > at {
                list.set64(8 &* index, list.word64(8 &* (index &- 1)))
                index &-= 1
            }
            list.set64(8 &* at, word.raw)
        }
        chunk.base.set16(Chunk.Offset.holderCount, UInt16(truncatingIfNeeded: count &+ 1))
        if !isLocked { SequenceLock.leave(chunk.version) }
        return 0
    }

    @inline(__always)
    private mutating func count(_ change: Int, of lane: UInt16) {
        let old = unsafe Int(laneBlocks[Int(lane)])
        let new = old &+ change
        unsafe laneBlocks[Int(lane)] = UInt32(truncatingIfNeeded: new)
        heldBlocks &+= change
        if old == 0, new != 0 { activeLanes &+= 1 }
        if old != 0, new == 0 { activeLanes &-= 1 }
    }

    /// From a snapshot: a holder as it was. Lanes come in ascending order.
    mutating func restoreHolder(_ chunk: Chunk, _ word: HolderWord) -> Bool {
        guard hold(chunk, word.lane, word.mask, isLocked: false) != nil else { return false }
        let count = chunk.holderCount
        memory.holderList(chunk, count).set64(8 &* (count &- 1), word.raw)
        return true
    }

    /// Takes positions from what a lane holds.
    mutating func drop(_ chunk: Chunk, _ lane: UInt16, _ bits: UInt32) {
        let holderCount = chunk.holderCount
        guard holderCount > 0 else { return }
        let list = memory.holderList(chunk, holderCount)
        let at = TrieMemory.lowerBound(list, holderCount, lane)
        guard at < holderCount else { return }
        let word = HolderWord(raw: list.word64(8 &* at))
        guard word.lane == lane else { return }
        let gone = (word.mask & bits).nonzeroBitCount
        count(-gone, of: lane)
        let left = word.mask & ~bits
        if left != 0 {
            list.set64(8 &* at, HolderWord(mask: left, lane: lane, age: word.age).raw)
        } else {
            removeHolder(chunk, holderCount, at)
        }
    }

    private mutating func removeHolder(_ chunk: Chunk, _ count: Int, _ at: Int) {
        SequenceLock.enter(chunk.version)
        if count == 2 {
            let index = chunk.holderWord
            chunk.base.set64(Chunk.Offset.holder, memory.holderList(at: index).word64(8 &* (1 &- at)))
            holders.release(index, count: 2)
        } else if count > 2 {
            let list = memory.holderList(at: chunk.holderWord)
            for place in at..<(count &- 1) { list.set64(8 &* place, list.word64(8 &* (place &+ 1))) }
            shortenList(chunk, from: count)
        }
        chunk.base.set16(Chunk.Offset.holderCount, UInt16(truncatingIfNeeded: count &- 1))
        SequenceLock.leave(chunk.version)
    }

    /// Moves a list that has lost a word to one of its size; where there is none, its end is cut off.
    private mutating func shortenList(_ chunk: Chunk, from count: Int) {
        guard HolderArena.capacity(for: count &- 1) != HolderArena.capacity(for: count) else { return }
        let old = chunk.holderWord
        guard let smaller = holders.allocate(for: count &- 1) else {
            holders.shorten(old, from: count, to: count &- 1)
            return
        }
        let list = memory.holderList(at: old)
        let target = memory.holderList(at: smaller)
        for place in 0..<(count &- 1) { target.set64(8 &* place, list.word64(8 &* place)) }
        chunk.base.set64(Chunk.Offset.holder, smaller)
        holders.release(old, count: count)
    }

    // MARK: - Chunks

    /// Makes an empty chunk below `parent`. nil where there is no room.
    mutating func makeChild(of parent: Chunk?, position: Int, tag: UInt32, sizeClass: UInt32) -> Chunk? {
        guard let chunk = slabs.allocate(sizeClass) else { return nil }
        SequenceLock.enter(chunk.version)
        chunk.base.set32(Chunk.Offset.parent, parent?.id ?? 0)
        chunk.base.set32(Chunk.Offset.tag, tag)
        chunk.setChildPositions(0)
        chunk.clearChildren()
        chunk.base.set16(Chunk.Offset.holderCount, 0)
        chunk.setShape(length: 0, parentPosition: position, flags: Chunk.Flag.used)
        SequenceLock.leave(chunk.version)
        guard link(chunk, below: parent, position: position) else {
            slabs.release(chunk)
            return nil
        }
        return chunk
    }

    /// Lets a chunk be found below `parent`, nil for the root. False where there is no room.
    mutating func link(_ chunk: Chunk, below parent: Chunk?, position: Int) -> Bool {
        guard let parent else { return children.insert(memory.childKey(tag: chunk.tag), slot: chunk.id) }
        if !parent.hasChildren {
            parent.setOnlyChild(chunk.id)
        } else if let only = parent.onlyChild {
            let key = memory.childKey(tag: memory.chunk(of: only).tag)
            guard children.insert(key, slot: only) else { return false }
            guard children.insert(memory.childKey(tag: chunk.tag), slot: chunk.id) else {
                _ = children.remove(key, slot: only)
                return false
            }
            parent.setTabledChildren(2)
        } else {
            guard children.insert(memory.childKey(tag: chunk.tag), slot: chunk.id) else { return false }
            parent.setTabledChildren(parent.tabledChildren &+ 1)
        }
        parent.setChildPositions(parent.childPositions | 1 &<< UInt32(position))
        return true
    }

    /// Shortens a chunk whose last blocks nobody holds, and frees it when nothing hangs on it, and its parents alike.
    mutating func tidy(_ first: Chunk) {
        var chunk = first
        while true {
            trim(chunk)
            guard chunk.holderCount == 0, !chunk.hasChildren, chunk.flags & Chunk.Flag.quarantined == 0 else {
                return
            }
            let parentID = chunk.parent
            unlink(chunk)
            guard parentID != 0 else { return }
            chunk = memory.chunk(of: parentID)
        }
    }

    /// `mutating` only so that the writer is not copied (ChunkHolders.swift).
    private mutating func trim(_ chunk: Chunk) {
        // While entries of dead positions may remain, those positions must not get other contents.
        guard chunk.flags & Chunk.Flag.hasDead != 0, chunk.flags & Chunk.Flag.stale == 0 else { return }
        let kept = memory.heldMask(chunk) | chunk.childPositions
        let length = 32 &- kept.leadingZeroBitCount
        if length < chunk.length {
            SequenceLock.enter(chunk.version)
            chunk.setLength(length)
            SequenceLock.leave(chunk.version)
        }
        if memory.heldMask(chunk) == Chunk.bits(from: 0, count: chunk.length) { chunk.removeFlags(Chunk.Flag.hasDead) }
    }

    /// Takes a chunk without holders and children out of the trie.
    private mutating func unlink(_ chunk: Chunk) {
        let parentID = chunk.parent
        let parent = parentID == 0 ? nil : memory.chunk(of: parentID)
        if parent?.onlyChild == nil { _ = children.remove(memory.childKey(tag: chunk.tag), slot: chunk.id) }
        if let parent {
            let left = parent.onlyChild == nil ? parent.tabledChildren &- 1 : 0
            parent.setTabledChildren(left)
            if left == 0 {
                parent.setChildPositions(0)
                parent.insertFlags(Chunk.Flag.hasDead)
            }
        }
        let mustWait = chunk.flags & Chunk.Flag.stale != 0
        SequenceLock.enter(chunk.version)
        chunk.setShape(
            length: mustWait ? chunk.length : 0,
            parentPosition: 0,
            flags: mustWait ? chunk.flags | Chunk.Flag.quarantined : 0
        )
        chunk.base.set32(Chunk.Offset.parent, UInt32.max)
        SequenceLock.leave(chunk.version)
        if !mustWait { slabs.release(chunk) }
    }
}

extension TrieMemory {
    /// The chunk that starts with this block below `parent`'s `position`; position 0 of chunk 0 is the root.
    @inline(__always)
    func child(of parent: Chunk?, position: Int, local: UInt64, tag: UInt32) -> Chunk? {
        if let parent {
            guard parent.childPositions & (1 &<< UInt32(position)) != 0 else { return nil }
            if let only = parent.onlyChild {
                let child = self.chunk(of: only)
                return isChild(child, of: parent.id, position: position, local: local, tag: tag) ? child : nil
            }
        }
        let parentID = parent?.id ?? 0
        guard
            let slot = children.first(
                childKey(tag: tag),
                where: {
                    isChild(self.chunk(of: $0), of: parentID, position: position, local: local, tag: tag)
                }
            )
        else { return nil }
        return self.chunk(of: slot)
    }

    /// True when `chunk` hangs below this position and starts with this block.
    @inline(__always)
    func isChild(_ chunk: Chunk, of parent: UInt32, position: Int, local: UInt64, tag: UInt32) -> Bool {
        chunk.tag == tag && chunk.parent == parent && chunk.fingerprints.word16(0) == UInt16(truncatingIfNeeded: local)
            && chunk.parentPosition == position && chunk.flags & Chunk.Flag.used != 0
    }
}
