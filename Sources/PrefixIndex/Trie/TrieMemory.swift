// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

/// What readers of a trie may look into, and how slots become addresses.
///
/// A slab has 16,384 slots and chunks of one size class. Slots are 27 bits: 134 M blocks in one trie.
struct TrieMemory: Sendable {
    static let slotsPerSlab = 16_384
    static let slotBits = 27
    static let maxSlabs = (1 << slotBits) / slotsPerSlab
    /// Address space of a slab: what its smallest, most numerous chunks need (4,096 of 48 bytes).
    static let slabStride = 4_096 * 48
    static let laneCount = 65_536
    /// A holder has one lane per tier, side by side.
    static let lanesPerHolder: UInt16 = 4

    /// With engine fingerprints and a table of engine hashes; without, blocks cannot be removed one by one.
    let isKeyed: Bool
    let slabs: SharedRegion
    let slabCount: Int
    /// One byte per slab: its size class.
    let sizeClasses: SharedRegion
    let holders: SharedRegion
    let children: LineTableMemory
    /// Only the writer looks into it.
    let engine: LineTableMemory
    let lanes: LaneTable
    /// u8 present era; then one byte for every 32 slots: the era of their last touch. Apart from the chunks, because readers
    /// write it: a late reader may mark something else warm, and can do no other harm.
    let eras: SharedRegion

    /// `isKeyed`: with engine hashes. `budget`: bytes that the trie never exceeds; no part of it needs more address space.
    init(isKeyed: Bool, budget: Int, owner: MemoryOwner) throws(IndexMemoryError) {
        self.isKeyed = isKeyed
        slabCount = min(Self.maxSlabs, budget / (Self.slotsPerSlab * 2) + 16)
        slabs = try owner.reserve(slabCount * Self.slabStride)
        sizeClasses = try owner.reserve(slabCount)
        holders = try owner.reserve(budget)
        children = try LineTableMemory(minDepth: Self.childTableDepth, budget: budget, owner: owner)
        engine = try LineTableMemory(
            minDepth: isKeyed ? Self.engineTableDepth : 1,
            budget: isKeyed ? budget : 0,
            owner: owner
        )
        lanes = try LaneTable(owner: owner)
        eras = try owner.reserve(Self.eraHeader + slabCount * Self.slotsPerSlab / 32)
    }

    private static let eraHeader = 64

    /// Coldness is counted in eras: one ends with every 1/32 of the budget that is stored.
    var era: UInt8 {
        get { eras.start.word8(0) }
        nonmutating set { eras.start.set8(0, newValue) }
    }

    @inline(__always)
    func era(of chunk: Chunk) -> UInt8 { eras.start.word8(Self.eraHeader &+ Int(chunk.id &>> 5)) }

    /// Marks a chunk as used in this era.
    @inline(__always)
    func touch(_ chunk: Chunk) {
        let era = era
        if self.era(of: chunk) != era { eras.start.set8(Self.eraHeader &+ Int(chunk.id &>> 5), era) }
    }

    /// 24-bit keys: with the 8 bits in the chunk, an engine hash is known by 32 bits.
    private static let engineTableDepth = 11
    /// There are fewer chunks than blocks by far, and a chunk knows its own tag: a small table to start with.
    private static let childTableDepth = 8

    @inline(__always)
    func sizeClass(of slot: UInt32) -> UInt32 {
        UInt32(sizeClasses.start.word8(Int(slot &>> 14))) & 3
    }

    /// Bytes of a chunk; a multiple of 8, so that fingerprints can be read as words.
    @inline(__always)
    func stride(_ sizeClass: UInt32) -> Int {
        let perFour = isKeyed ? 12 : 8
        return (Chunk.headerBytes &+ perFour &<< Int(sizeClass) &+ 7) & ~7
    }

    /// The chunk that a slot lies in. Slots beyond the last slab lead to slab 0, whose first chunk is nobody's.
    @inline(__always)
    func chunk(of slot: UInt32) -> Chunk {
        let slab = Int(slot &>> 14) < slabCount ? slot &>> 14 : 0
        let sizeClass = UInt32(sizeClasses.start.word8(Int(slab))) & 3
        let inSlab = slot & UInt32(Self.slotsPerSlab &- 1)
        let index = Int(inSlab &>> (2 &+ sizeClass))
        let base = slabs.start + (Int(slab) &* Self.slabStride &+ index &* stride(sizeClass))
        return Chunk(base: base, id: slot & ~((4 &<< sizeClass) &- 1), sizeClass: sizeClass)
    }

    /// The part of a block's name that its chunk keeps.
    @inline(__always)
    func engineFingerprint(of slot: UInt32) -> UInt8 {
        let chunk = chunk(of: slot)
        return chunk.engineFingerprints.word8(Self.position(of: slot, in: chunk))
    }

    @inline(__always)
    func prefetchEngineFingerprint(of slot: UInt32) {
        let chunk = chunk(of: slot)
        unsafe ix_prefetch((chunk.engineFingerprints + Self.position(of: slot, in: chunk)).raw)
    }

    /// The child chunk that the table of children does not know, if there is one.
    @inline(__always)
    func onlyChild(of chunk: Chunk) -> Chunk? {
        guard let only = chunk.onlyChild else { return nil }
        // A long chain's chunks mostly lie in a row: then the address is known before this chunk has come from memory.
        let next = chunk.id &+ UInt32(truncatingIfNeeded: chunk.capacity)
        if only == next, next & UInt32(Self.slotsPerSlab &- 1) != 0 {
            return Chunk(base: chunk.base + stride(chunk.sizeClass), id: next, sizeClass: chunk.sizeClass)
        }
        return self.chunk(of: only)
    }

    @inline(__always)
    func prefetch(_ chunk: Chunk) {
        unsafe ix_prefetch(chunk.base.raw)
        unsafe ix_prefetch((chunk.base + 64).raw)
    }

    /// Brings nearer the chunks behind this one that a chain of so many more blocks mostly lies in. Fetches are cheap and
    /// harmless where it does not.
    @inline(__always)
    func prefetchRow(from chunk: Chunk, blocks: Int) {
        let bytes = min(stride(chunk.sizeClass) &* (blocks / chunk.capacity &+ 1), Self.rowBytes)
        var offset = 64
        while offset < bytes {
            unsafe ix_prefetch((chunk.base + offset).raw)
            offset &+= 64
        }
    }

    /// What lies this far behind a chunk that is being looked at arrives in time.
    @inline(__always)
    func prefetchAhead(of chunk: Chunk) {
        unsafe ix_prefetch((chunk.base + Self.rowBytes).raw)
        unsafe ix_prefetch((chunk.base + (Self.rowBytes &+ 64)).raw)
    }

    /// Four chunks of 32 blocks.
    private static let rowBytes = 512
    static let rowBlocks = 128

    /// A block's position in its chunk.
    @inline(__always)
    static func position(of slot: UInt32, in chunk: Chunk) -> Int { Int(slot &- chunk.id) }

    /// Identifies a chunk's first block below its parent, with the 16 fingerprint bits: 48 bits in all, because 32 alone
    /// lost blocks among 80,000 siblings of one system prompt.
    @inline(__always)
    static func tag(parent: UInt32, position: Int, local: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: BlockHash.joined(UInt64(parent) &<< 5 | UInt64(position), local) &>> 32)
    }

    @inline(__always)
    func childKey(tag: UInt32) -> UInt32 { tag &>> UInt32(truncatingIfNeeded: 32 &- children.keyBits) }
}

/// What readers must know of a lane: whether it answers, and which age is young.
struct LaneTable: Sendable {
    enum State: UInt8 {
        case free = 0
        case live = 1
        /// Cleared; its blocks are being taken out and answer no more.
        case dead = 2
    }

    /// u8 states[65,536], then u16 ages[65,536], then u16 oldest[65,536], then u32 number of dead lanes.
    let region: SharedRegion

    init(owner: MemoryOwner) throws(IndexMemoryError) {
        region = try owner.reserve(5 * TrieMemory.laneCount + 4)
    }

    @inline(__always)
    func state(_ lane: UInt16) -> State { State(rawValue: region.start.word8(Int(lane))) ?? .free }

    func setState(_ lane: UInt16, _ state: State) {
        let change = (state == .dead ? 1 : 0) - (self.state(lane) == .dead ? 1 : 0)
        region.start.set8(Int(lane), state.rawValue)
        let place = 5 &* TrieMemory.laneCount
        region.start.set32(place, region.start.word32(place) &+ UInt32(truncatingIfNeeded: change))
    }

    /// Some lane answers no more while chunks still name it.
    @inline(__always)
    var hasDead: Bool { region.start.word32(5 &* TrieMemory.laneCount) != 0 }

    /// The lane's present age: what it stores now bears it, and what bears an older one is older.
    @inline(__always)
    func age(_ lane: UInt16) -> UInt16 { region.start.word16(TrieMemory.laneCount &+ 2 &* Int(lane)) }

    func setAge(_ lane: UInt16, _ age: UInt16) { region.start.set16(TrieMemory.laneCount &+ 2 &* Int(lane), age) }

    /// Where the oldest ages that still count begin, one per lane.
    @inline(__always)
    var oldestAges: SharedPointer { region.start + 3 &* TrieMemory.laneCount }

    /// Blocks of an older age than this are as good as gone. Ages wrap round: older means less than half the circle behind.
    @inline(__always)
    func oldest(_ lane: UInt16) -> UInt16 { oldestAges.word16(2 &* Int(lane)) }

    func setOldest(_ lane: UInt16, _ age: UInt16) { oldestAges.set16(2 &* Int(lane), age) }

    /// True while a holder word counts.
    @inline(__always)
    func isValid(_ word: HolderWord) -> Bool {
        state(word.lane) == .live && Int16(truncatingIfNeeded: word.age &- oldest(word.lane)) >= 0
    }
}
