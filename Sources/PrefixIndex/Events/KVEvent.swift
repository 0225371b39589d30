// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Where a block lies.
package enum CacheTier: UInt8, Sendable, Hashable, Codable, CaseIterable, Comparable {
    case gpu = 0
    case cpu = 1
    case storage = 2

    package static func < (a: CacheTier, b: CacheTier) -> Bool { a.rawValue < b.rawValue }

    package var name: String {
        switch self {
        case .gpu: "gpu"
        case .cpu: "cpu"
        case .storage: "storage"
        }
    }
}

/// Values of an engine's event that the index uses. One such value is filled again and again, so that a batch costs no
/// allocation per event.
///
/// `@unchecked Sendable`: owned by one reader of batches, which one thread at a time uses. `@safe`: the buffers are written up
/// to their capacity by `reserve…` and read up to their count.
@safe package final class KVEvent: @unchecked Sendable {
    package enum Kind: Sendable, Hashable {
        case stored, removed, cleared
        /// A type that this version does not know.
        case other
    }

    package internal(set) var kind = Kind.other
    /// Engine hashes, as 64 bits: of longer ones the last eight bytes.
    package var hashes: UnsafeBufferPointer<UInt64> { unsafe UnsafeBufferPointer(start: hashStart, count: hashCount) }
    /// Hash of the block before the first; nil at the start of a prompt.
    package internal(set) var parent: UInt64?
    /// Token ids of all blocks.
    package var tokens: UnsafeBufferPointer<UInt32> { unsafe UnsafeBufferPointer(start: tokenStart, count: tokenCount) }
    package internal(set) var blockSize = 0
    package internal(set) var tier = CacheTier.gpu
    /// The adapter's name, or its number where only that is told.
    package internal(set) var adapter: String?
    package internal(set) var group = 0
    /// nil where not told.
    package internal(set) var attention: AttentionKind?
    /// Blocks with extra keys and what they say; sorted by block, mostly empty.
    package internal(set) var extraKeys: [(block: Int, seed: UInt64)] = []

    /// What a cache group's layers attend to. Only groups that keep the whole prompt say what a prefix hit is.
    package enum AttentionKind: Sendable, Hashable {
        case full, other
    }

    var hashStart: UnsafeMutablePointer<UInt64>
    var hashCount = 0
    private var hashCapacity = 256
    var tokenStart: UnsafeMutablePointer<UInt32>
    var tokenCount = 0
    private var tokenCapacity = 8_192

    package init() {
        unsafe hashStart = .allocate(capacity: hashCapacity)
        unsafe tokenStart = .allocate(capacity: tokenCapacity)
    }

    deinit {
        unsafe hashStart.deallocate()
        unsafe tokenStart.deallocate()
    }

    func reset() {
        kind = .other
        hashCount = 0
        tokenCount = 0
        parent = nil
        blockSize = 0
        tier = .gpu
        adapter = nil
        group = 0
        attention = nil
        extraKeys.removeAll(keepingCapacity: true)
    }

    /// Room for `count` hashes: at most as many as the event has bytes, so bounded by the size of a frame.
    func reserveHashes(_ count: Int) {
        guard count > hashCapacity else { return }
        unsafe hashStart.deallocate()
        hashCapacity = count
        unsafe hashStart = .allocate(capacity: count)
    }

    func reserveTokens(_ count: Int) {
        guard count > tokenCapacity else { return }
        unsafe tokenStart.deallocate()
        tokenCapacity = count
        unsafe tokenStart = .allocate(capacity: count)
    }
}
