// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

/// What one lane holds of a prompt's start.
package struct LaneMatch: Sendable, Hashable {
    package var lane: UInt16
    /// Blocks held from the first on, without a hole.
    package var blocks: Int

    package init(lane: UInt16, blocks: Int) {
        self.lane = lane
        self.blocks = blocks
    }
}

/// Room for lookups and for what the last one found, owned by the thread that looks up. Not for two threads at a time.
@safe package final class TrieLookup: @unchecked Sendable {
    // Sendable: handed from thread to thread by a pool behind a Mutex, and used by one at a time.
    // Safe: lanes are 16 bits, and the arrays by lane have 65,536 places; `bits` is indexed below its capacity.
    /// The lanes that hold the first block and how many blocks each, and those of them that hold all so far. Behind a
    /// pointer: a property's accesses would be checked one by one.
    let front: UnsafeMutablePointer<ix_front>
    /// The chunk that the last prompt began in: mostly the next one does too.
    private let first: UnsafeMutablePointer<UInt32>
    /// Of each block of the prompt, the bits that chunks keep.
    private(set) var bits: UnsafeMutablePointer<UInt16>
    private var capacity = 1_024
    private let owner = MemoryOwner()
    /// Lookups begun again because the writer changed what was read, and those given up for it.
    package internal(set) var retries = 0
    package internal(set) var abandoned = 0

    /// Vector compares read whole words behind the last block.
    private static let padding = 8
    /// The arrays begin at different offsets in their pages: loads from one would wait for stores to the other.
    private static let skew = 1_024

    package init() throws(IndexMemoryError) {
        let start = try owner.reserve(16 * TrieMemory.laneCount + 4 * Self.skew).start
        let depths = start + (8 * TrieMemory.laneCount + Self.skew)
        let lanes = start + (12 * TrieMemory.laneCount + 2 * Self.skew)
        let places = start + (14 * TrieMemory.laneCount + 3 * Self.skew)
        unsafe front = .allocate(capacity: 1)
        unsafe front.initialize(
            to: ix_front(
                want: start.raw.assumingMemoryBound(to: UInt64.self),
                place: places.raw.assumingMemoryBound(to: UInt16.self),
                lanes: lanes.raw.assumingMemoryBound(to: UInt16.self),
                depths: depths.raw.assumingMemoryBound(to: UInt32.self),
                found: 0,
                first: 0,
                end: 0,
                level: 0,
                is_whole: 0
            )
        )
        unsafe bits = .allocate(capacity: capacity + Self.padding)
        unsafe first = .allocate(capacity: 1)
        unsafe first.initialize(to: 0)
    }

    deinit {
        unsafe first.deallocate()
        unsafe bits.deallocate()
        unsafe front.deallocate()
    }

    /// How many lanes were found.
    @inline(__always)
    package var count: Int { unsafe Int(front.pointee.found) }

    /// What was found, sorted by lane. The place must be below `count`.
    @inline(__always)
    package subscript(_ place: Int) -> LaneMatch {
        precondition(place >= 0 && place < count)
        return unsafe LaneMatch(lane: front.pointee.lanes[place], blocks: Int(front.pointee.depths[place]))
    }

    @inline(__always)
    var firstChunk: UInt32 {
        get { unsafe first.pointee }
        set { unsafe first.pointee = newValue }
    }

    func forget() {
        unsafe front.pointee.found = 0
        unsafe front.pointee.first = 0
        unsafe front.pointee.end = 0
    }

    /// Leaves out lanes that are not wanted.
    func keep(_ isWanted: (UInt16) -> Bool) {
        let front = unsafe front
        var kept = 0
        for place in 0..<count where unsafe isWanted(front.pointee.lanes[place]) {
            unsafe front.pointee.lanes[kept] = unsafe front.pointee.lanes[place]
            unsafe front.pointee.depths[kept] = unsafe front.pointee.depths[place]
            kept &+= 1
        }
        unsafe front.pointee.found = UInt32(truncatingIfNeeded: kept)
    }

    func load(_ hashes: PromptHashes) {
        if hashes.count > capacity {
            unsafe bits.deallocate()
            capacity = hashes.count
            unsafe bits = .allocate(capacity: capacity + Self.padding)
        }
        unsafe hashes.writeBits(to: bits)
        let end = unsafe bits + hashes.count
        for at in 0..<Self.padding { unsafe end[at] = 0 }
    }
}
