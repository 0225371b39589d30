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

/// Room for lookups, owned by the thread that looks up. Not for two threads at a time.
@safe package final class TrieLookup: @unchecked Sendable {
    // Sendable: handed from thread to thread by a pool behind a Mutex, and used by one at a time.
    // Safe: lanes are 16 bits, and the arrays by lane have 65,536 places; `bits` is indexed below its capacity.
    /// The lanes that hold the first block, in ascending order, and how many blocks each.
    let lanes: UnsafeMutablePointer<UInt16>
    let depths: UnsafeMutablePointer<UInt32>
    var laneCount = 0
    /// Those of them that hold all so far. Behind a pointer: a property's accesses would be checked one by one.
    let front: UnsafeMutablePointer<ix_front>
    /// Of each block of the prompt, the bits that chunks keep.
    private(set) var bits: UnsafeMutablePointer<UInt16>
    private var capacity = 1_024
    private let owner = MemoryOwner()
    /// Reused for what is found.
    var matches: [LaneMatch] = []
    /// Lookups begun again because the writer changed what was read, and those given up for it.
    package internal(set) var retries = 0
    package internal(set) var abandoned = 0

    /// Vector compares read whole words behind the last block.
    private static let padding = 8

    package init() throws(IndexMemoryError) {
        let start = try owner.reserve(16 * TrieMemory.laneCount).start
        let wanted = unsafe start.raw.assumingMemoryBound(to: UInt64.self)
        unsafe depths = unsafe (start + 8 * TrieMemory.laneCount).raw.assumingMemoryBound(to: UInt32.self)
        unsafe lanes = unsafe (start + 12 * TrieMemory.laneCount).raw.assumingMemoryBound(to: UInt16.self)
        let places = unsafe (start + 14 * TrieMemory.laneCount).raw.assumingMemoryBound(to: UInt16.self)
        unsafe front = .allocate(capacity: 1)
        unsafe front.initialize(to: ix_front(want: wanted, place: places, depths: depths, count: 0, dropped: 0))
        unsafe bits = .allocate(capacity: capacity + Self.padding)
    }

    deinit {
        unsafe bits.deallocate()
        unsafe front.deallocate()
    }

    func load(_ hashes: PromptHashes) {
        if hashes.count > capacity {
            unsafe bits.deallocate()
            capacity = hashes.count
            unsafe bits = .allocate(capacity: capacity + Self.padding)
        }
        let bits = unsafe bits
        for at in 0..<hashes.count { unsafe bits[at] = UInt16(truncatingIfNeeded: hashes[at]) }
        for at in hashes.count..<(hashes.count + Self.padding) { unsafe bits[at] = 0 }
    }
}
