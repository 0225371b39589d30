// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

/// The local hashes of a prompt, borrowed for one lookup.
@safe struct PromptHashes {
    // Safe: indexed below `count` only.
    private let start: UnsafePointer<UInt64>
    private let first: UInt64
    let count: Int

    /// `seed`: of the first block, where the hashes themselves are not seeded; 0 = none. nil for an empty prompt.
    init?(_ hashes: UnsafeBufferPointer<UInt64>, seed: UInt64) {
        guard let start = hashes.baseAddress, hashes.count > 0 else { return nil }
        unsafe self.start = unsafe start
        count = hashes.count
        first = unsafe BlockHash.seeded(start.pointee, by: seed)
    }

    @inline(__always)
    subscript(at: Int) -> UInt64 { unsafe at == 0 ? first : start[at] }

    /// Of each hash the bits that chunks keep.
    @inline(__always)
    func writeBits(to bits: UnsafeMutablePointer<UInt16>) {
        unsafe ix_low_bits(start, UInt32(truncatingIfNeeded: count), bits)
        unsafe bits[0] = UInt16(truncatingIfNeeded: first)
    }
}

/// Lookups beside the writer, without a lock: what was read is checked against the versions, and the lookup begins again
/// where something changed meanwhile.
@safe struct TrieReader {
    // The pointers lead into regions that `memory` keeps alive.
    private let memory: TrieMemory
    private let holders: SharedPointer
    private let holderCapacity: Int
    /// Where ages matter, the oldest that count.
    private let oldestAges: UnsafePointer<UInt16>?

    /// A lookup that is disturbed this often in a row finds nothing: some microseconds, where a change takes 100 ns. It
    /// happens when the system takes the processor from the writer in the middle of a change; lookups do not wait for it.
    private static let maxAttempts = 32

    init(memory: TrieMemory) {
        self.memory = memory
        holders = memory.holders.start
        holderCapacity = memory.holders.capacity / 8
        unsafe oldestAges =
            unsafe memory.isKeyed
            ? nil : UnsafePointer(memory.lanes.oldestAges.raw.assumingMemoryBound(to: UInt16.self))
    }

    /// Fills the lookup with what each live lane holds of the chain, sorted by lane.
    func find(_ hashes: PromptHashes, _ lookup: TrieLookup) {
        lookup.load(hashes)
        for _ in 0..<Self.maxAttempts {
            lookup.forget()
            if walk(hashes, lookup) {
                if memory.lanes.hasDead { lookup.keep { memory.lanes.state($0) == .live } }
                return
            }
            lookup.retries &+= 1
        }
        lookup.forget()
        lookup.abandoned &+= 1
    }

    /// What a step found: where to go on.
    private enum Next {
        case end
        case child(Chunk, blocks: Int)
        case disturbed
    }

    /// False where the writer was in the way.
    private func walk(_ hashes: PromptHashes, _ lookup: TrieLookup) -> Bool {
        let first = hashes[0]
        let tag = TrieMemory.tag(parent: 0, position: 0, local: first)
        var chunk: Chunk
        let known = memory.chunk(of: lookup.firstChunk)
        if memory.isChild(known, of: 0, position: 0, local: first, tag: tag) {
            // Most prompts begin as others do.
            chunk = known
        } else {
            let (root, stable) = readChild(of: 0, position: 0, local: first, tag: tag, blocks: hashes.count)
            guard stable else { return false }
            guard let root else { return true }
            chunk = root
            lookup.firstChunk = chunk.id
        }
        var depth = 0
        var identity = (parent: UInt32(0), position: 0, tag: tag)
        while true {
            guard let version = SequenceLock.begin(chunk.version),
                memory.isChild(
                    chunk,
                    of: identity.parent,
                    position: identity.position,
                    local: hashes[depth],
                    tag: identity.tag
                )
            else { return false }
            let left = hashes.count &- depth
            let most = min(chunk.length, left)
            // The next chunk comes while this one is looked at, and of a long chain those behind it.
            let only = memory.onlyChild(of: chunk)
            if let only { prefetch(only, behind: chunk, blocks: left) }
            var matched = unsafe Int(ix_equal_run16(chunk.fingerprints.raw, lookup.bits + depth, UInt32(max(most, 0))))
            var next: Chunk?
            if matched > 0, depth &+ matched < hashes.count {
                switch follow(chunk, only, matched, depth, hashes, &identity) {
                case .end: break
                case .disturbed: return false
                case .child(let child, let blocks):
                    next = child
                    matched = blocks
                }
            }
            let goesOn = credit(chunk, depth, matched, lookup)
            guard SequenceLock.holds(chunk.version, since: version), let goesOn else { return false }
            memory.touch(chunk)
            depth &+= matched
            guard goesOn, let next else { break }
            chunk = next
        }
        unsafe ix_front_settle(lookup.front, UInt32(truncatingIfNeeded: depth))
        return true
    }

    /// Finds the chunk behind `matched` blocks, which may be one less than matched: a block whose 16 bits are a twin's hangs
    /// below the block before it.
    @inline(__always)
    private func follow(
        _ chunk: Chunk,
        _ only: Chunk?,
        _ matched: Int,
        _ depth: Int,
        _ hashes: PromptHashes,
        _ identity: inout (parent: UInt32, position: Int, tag: UInt32)
    ) -> Next {
        let positions = chunk.childPositions
        var blocks = matched
        while blocks >= max(matched &- 1, 1) {
            let position = blocks &- 1
            if positions & (1 &<< UInt32(position)) != 0 {
                let local = hashes[depth &+ blocks]
                let tag = TrieMemory.tag(parent: chunk.id, position: position, local: local)
                identity = (chunk.id, position, tag)
                if let only {
                    if memory.isChild(only, of: chunk.id, position: position, local: local, tag: tag) {
                        return .child(only, blocks: blocks)
                    }
                } else {
                    let left = hashes.count &- depth &- blocks
                    let (child, stable) = readChild(
                        of: chunk.id,
                        position: position,
                        local: local,
                        tag: tag,
                        blocks: left
                    )
                    guard stable else { return .disturbed }
                    if let child { return .child(child, blocks: blocks) }
                }
            }
            blocks &-= 1
        }
        return .end
    }

    @inline(__always)
    private func readChild(
        of parent: UInt32,
        position: Int,
        local: UInt64,
        tag: UInt32,
        blocks: Int
    ) -> (Chunk?, Bool) {
        let memory = memory
        let (slot, stable) = memory.children.read(memory.childKey(tag: tag)) { slot in
            let chunk = memory.chunk(of: slot)
            memory.prefetchRow(from: chunk, blocks: blocks)
            return memory.isChild(chunk, of: parent, position: position, local: local, tag: tag)
        }
        return (slot.map { memory.chunk(of: $0) }, stable)
    }

    /// Brings nearer the only child of `chunk`, where `left` blocks are still to be found, and its list of holders. What is
    /// read there may be old or nobody's: it is only fetched.
    @inline(__always)
    private func prefetch(_ only: Chunk, behind chunk: Chunk, blocks left: Int) {
        memory.prefetch(only)
        if left > TrieMemory.rowBlocks { memory.prefetchAhead(of: chunk) }
        // Lists only become shorter along a chain.
        guard chunk.holderCount > Self.fewHolders else { return }
        let count = only.holderCount
        let index = only.holderWord
        guard count > Self.fewHolders, index < UInt64(holderCapacity) else { return }
        let list = holders + Int(index) &* 8
        var offset = 0
        while offset < min(8 &* count, Self.mostFetched) {
            unsafe ix_prefetch((list + offset).raw)
            offset &+= 64
        }
    }

    /// Shorter lists are one line or two.
    private static let fewHolders = 16
    /// The processor itself fetches what follows on this.
    private static let mostFetched = 1_024

    /// Takes out of the front who does not hold all of the matched blocks.
    /// - Returns: whether somebody does; nil where a list makes no sense, because it is being changed.
    @inline(__always)
    private func credit(_ chunk: Chunk, _ depth: Int, _ matched: Int, _ lookup: TrieLookup) -> Bool? {
        let count = chunk.holderCount
        var list = chunk.base + Chunk.Offset.holder
        if count > 1 {
            let index = chunk.holderWord
            guard index < UInt64(holderCapacity), Int(index) &+ count <= holderCapacity else { return nil }
            list = holders + Int(index) &* 8
        }
        if depth == 0 {
            return unsafe ix_front_start(lookup.front, list.raw, UInt32(count), oldestAges, UInt32(matched)) > 0
        }
        return unsafe ix_front_step(
            lookup.front,
            list.raw,
            UInt32(count),
            oldestAges,
            UInt32(truncatingIfNeeded: depth),
            UInt32(matched)
        ) > 0
    }
}
