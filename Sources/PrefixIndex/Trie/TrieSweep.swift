// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A walk through the whole trie in small steps. It takes out what dead lanes held, what has grown too old, and under
/// pressure the coldest chunks; then the table entries that led there; then it frees the chunks.
struct TrieSweep {
    enum Phase: Equatable {
        case idle
        /// Counts blocks in leaf chunks by age, to find how cold is cold enough.
        case survey(slab: Int, index: Int)
        case chunks(slab: Int, index: Int)
        case entries(key: UInt32)
        case release(slab: Int, index: Int)
    }

    var phase = Phase.idle
    /// Lanes that were dead when the walk began: free when it ends.
    var dying: [UInt16] = []
    /// Lanes that died since.
    var dead: [UInt16] = []
    /// Blocks to evict, 0 = none, and those evicted in this walk.
    var goal = 0
    var evicted = 0
    /// Blocks in leaf chunks by age, and the age from which on they go.
    var ages = [Int](repeating: 0, count: 256)
    var threshold = 256
    /// Held blocks of a lane of mean size.
    var meanLaneBlocks = 1

    var isIdle: Bool { phase == .idle }
}

extension TrieWriter {
    /// A share of the blocks goes at a time: the walk costs the same for few or many.
    private static var evictionShare: Int { 8 }

    /// Begins a walk where none is under way and there is a reason.
    mutating func beginSweepIfNeeded() {
        guard sweep.isIdle else { return }
        let isFull = usedBytes &+ Self.stepReserve > budget &- budget / Self.evictionShare
        guard isFull || hasExpired || !sweep.dead.isEmpty else { return }
        hasExpired = false
        sweep.dying = sweep.dead
        sweep.dead = []
        sweep.evicted = 0
        sweep.goal = isFull ? max(liveBlocks / Self.evictionShare, 1) : 0
        sweep.threshold = 256
        for age in 0..<256 { sweep.ages[age] = 0 }
        sweep.meanLaneBlocks = max(heldBlocks / max(activeLanes, 1), 1)
        sweep.phase = isFull ? .survey(slab: 0, index: 0) : .chunks(slab: 0, index: 0)
    }

    /// The share of the sweep that a store of `blocks` blocks bears. A walk takes about one unit of work per 6 blocks in the
    /// trie, and in a keyed one at least 65,536 for its table. Where room may get short it must end before an eighth of the
    /// budget is stored; else what is gone may stay longer, or until `maintain` has been called often enough.
    mutating func pace(blocks: Int) {
        if storedInEra > budget / (32 * 12) {
            storedInEra = 0
            memory.era = memory.era &+ 1
        }
        beginSweepIfNeeded()
        if !sweep.isIdle { stepSweep(work: sweep.goal > 0 || usedBytes > budget / 2 ? 4 &* blocks : blocks) }
    }

    /// Bytes in use, free ones not counted: what is measured against the budget when entries must go.
    var usedBytes: Int {
        bytes &- slabs.freeBytes &- holders.freeBytes &- children.freeBytes &- (memory.isKeyed ? engine.freeBytes : 0)
    }

    /// Goes on with the walk: `work` chunks or table lines.
    mutating func stepSweep(work: Int) {
        var left = work
        while left > 0 {
            switch sweep.phase {
            case .idle:
                return
            case .survey(let slab, let index):
                left &-= visit(
                    slab,
                    index,
                    left,
                    next: { .survey(slab: $0, index: $1) },
                    end: .chunks(slab: 0, index: 0)
                ) {
                    writer,
                    chunk in
                    writer.survey(chunk)
                }
                if case .chunks = sweep.phase { chooseThreshold() }
            case .chunks(let slab, let index):
                let end = memory.isKeyed ? TrieSweep.Phase.entries(key: 0) : .release(slab: Int.max, index: 0)
                left &-= visit(slab, index, left, next: { .chunks(slab: $0, index: $1) }, end: end) { writer, chunk in
                    writer.clean(chunk)
                }
            case .entries(let key):
                let memory = memory
                let next = engine.sweep(from: key) { slot in
                    !memory.isHeld(slot)
                }
                left &-= 32
                sweep.phase = next.map { .entries(key: $0) } ?? .release(slab: 0, index: 0)
            case .release(let slab, let index):
                guard slab != Int.max else {
                    finishSweep()
                    continue
                }
                let end = TrieSweep.Phase.release(slab: Int.max, index: 0)
                left &-= visit(slab, index, left, next: { .release(slab: $0, index: $1) }, end: end) { writer, chunk in
                    writer.settle(chunk)
                }
            }
        }
    }

    private mutating func finishSweep() {
        for lane in sweep.dying {
            memory.lanes.setState(lane, .free)
            if lane % TrieMemory.lanesPerHolder == 0 { freeHolders.append(lane) }
        }
        sweep.dying = []
        evictedBlocks &+= sweep.evicted
        sweep.phase = .idle
    }

    /// Calls `body` with some chunks of one slab and sets the phase behind them. Gives the work done.
    private mutating func visit(
        _ slab: Int,
        _ index: Int,
        _ work: Int,
        next: (Int, Int) -> TrieSweep.Phase,
        end: TrieSweep.Phase,
        _ body: (inout TrieWriter, Chunk) -> Void
    ) -> Int {
        guard slab < slabs.slabCount else {
            sweep.phase = end
            return 1
        }
        let fresh = slabs.fresh(inSlab: slab)
        let sizeClass = memory.sizeClass(of: UInt32(slab) &<< 14)
        let last = min(index &+ work, fresh)
        sweep.phase = last >= fresh ? next(slab &+ 1, 0) : next(slab, last)
        guard index < last else { return 1 }
        for at in index..<last {
            let chunk = memory.chunk(of: UInt32(slab) &<< 14 &+ UInt32(at) &<< (2 &+ sizeClass))
            if chunk.flags & Chunk.Flag.used != 0, chunk.id != 0 { body(&self, chunk) }
        }
        return last &- index
    }

    /// Coldness of a chunk, 0…255: eras since its last touch, times the share of the pod that holds it, so that of two
    /// equally cold chunks that of the greater holder goes first. `mutating` only so that the writer is not copied.
    private mutating func coldness(_ chunk: Chunk) -> Int {
        guard chunk.holderCount > 0 else { return 255 }
        let list = memory.holderList(chunk, chunk.holderCount)
        let lane = HolderWord(raw: list.word64(0)).lane
        let share = unsafe min(max(Int(laneBlocks[Int(lane)]) / sweep.meanLaneBlocks, 1), 8)
        return min(Int(memory.era &- memory.era(of: chunk)) &* share &+ share, 255)
    }

    private mutating func survey(_ chunk: Chunk) {
        guard !chunk.hasChildren, chunk.holderCount > 0 else { return }
        sweep.ages[coldness(chunk)] &+= chunk.length
    }

    /// The greatest coldness such that enough blocks are at least as cold; never more than half of all leaves go.
    private mutating func chooseThreshold() {
        let all = sweep.ages.reduce(0, &+)
        sweep.goal = min(sweep.goal, max(all / 2, 1))
        var sum = 0
        var age = 255
        while age > 0 {
            sum &+= sweep.ages[age]
            if sum >= sweep.goal { break }
            age &-= 1
        }
        sweep.threshold = age
    }

    private mutating func clean(_ chunk: Chunk) {
        let before = memory.heldMask(chunk)
        dropInvalid(chunk)
        if sweep.goal > sweep.evicted, !chunk.hasChildren, chunk.holderCount > 0, coldness(chunk) >= sweep.threshold {
            sweep.evicted &+= memory.heldMask(chunk).nonzeroBitCount
            dropAll(chunk)
        }
        let lost = before & ~memory.heldMask(chunk)
        if lost != 0 {
            liveBlocks &-= lost.nonzeroBitCount
            forgetTwins(chunk, lost)
            chunk.insertFlags(memory.isKeyed ? Chunk.Flag.hasDead | Chunk.Flag.stale : Chunk.Flag.hasDead)
        }
        if lost != 0 || chunk.holderCount == 0 { tidy(chunk) }
    }

    private mutating func dropInvalid(_ chunk: Chunk) {
        var at = chunk.holderCount &- 1
        while at >= 0, chunk.holderCount > 0 {
            let list = memory.holderList(chunk, chunk.holderCount)
            let word = HolderWord(raw: list.word64(8 &* at))
            if !memory.lanes.isValid(word) { release(chunk, word) }
            at &-= 1
        }
    }

    private mutating func dropAll(_ chunk: Chunk) {
        while chunk.holderCount > 0 {
            let count = chunk.holderCount
            let list = memory.holderList(chunk, count)
            release(chunk, HolderWord(raw: list.word64(8 &* (count &- 1))))
        }
    }

    private mutating func release(_ chunk: Chunk, _ word: HolderWord) {
        if chunk.flags & Chunk.Flag.hasDuplicates != 0 {
            var left = word.mask
            while left != 0 {
                duplicates.remove(chunk.slot(left.trailingZeroBitCount), word.lane)
                left &= left &- 1
            }
        }
        drop(chunk, word.lane, word.mask)
    }

    /// No entry leads to dead positions any more: they may be used again.
    private mutating func settle(_ chunk: Chunk) {
        guard chunk.flags & Chunk.Flag.stale != 0 else { return }
        chunk.removeFlags(Chunk.Flag.stale)
        if chunk.flags & Chunk.Flag.quarantined != 0 {
            SequenceLock.enter(chunk.version)
            chunk.setShape(length: 0, parentPosition: 0, flags: 0)
            SequenceLock.leave(chunk.version)
            slabs.release(chunk)
        } else {
            tidy(chunk)
        }
    }
}
