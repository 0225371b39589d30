// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

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
    // Safe: lanes are 16 bits, and both arrays have 65,536 places; `bits` is indexed below its capacity.
    /// Blocks held, by lane; zero between lookups.
    let depths: UnsafeMutablePointer<UInt32>
    /// The lanes whose depth is not zero, in ascending order.
    let lanes: UnsafeMutablePointer<UInt16>
    var laneCount = 0
    /// Of each block of the prompt, the bits that chunks keep.
    private(set) var bits: UnsafeMutablePointer<UInt16>
    private var capacity = 1_024
    private let region: SharedRegion
    /// Lookups begun again because the writer changed what was read, and those given up for it.
    package internal(set) var retries = 0
    package internal(set) var abandoned = 0

    /// Vector compares read whole words behind the last block.
    private static let padding = 8

    package init() throws(IndexMemoryError) {
        region = try SharedRegion(capacity: 6 * TrieMemory.laneCount)
        unsafe depths = unsafe region.start.raw.assumingMemoryBound(to: UInt32.self)
        unsafe lanes = unsafe (region.start + 4 * TrieMemory.laneCount).raw.assumingMemoryBound(to: UInt16.self)
        unsafe bits = .allocate(capacity: capacity + Self.padding)
    }

    deinit { unsafe bits.deallocate() }

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

    func clear() {
        for at in 0..<laneCount { unsafe depths[Int(lanes[at])] = 0 }
        laneCount = 0
    }
}
