// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels
internal import CXXHash

/// How one block becomes one local hash.
///
/// Blocks are hashed without their predecessors (the index chains them by position), so only the first block of a
/// prompt needs to tell model and cache salt apart: everything behind it hangs below it.
enum BlockHash {
    /// XXH3-64 of a block's bytes.
    @inline(__always)
    static func bytes(_ start: UnsafeRawPointer, count: Int) -> UInt64 {
        unsafe xxh3_64(start, count)
    }

    /// XXH3-64 of a block's token ids, as little-endian words.
    @inline(__always)
    static func tokens(_ start: UnsafePointer<UInt32>, count: Int) -> UInt64 {
        unsafe xxh3_64(start, count &* 4)
    }

    /// XXH3-64 of each of several blocks of `size` token ids.
    @inline(__always)
    static func tokens(_ start: UnsafePointer<UInt32>, size: Int, blocks: Int, to hashes: UnsafeMutablePointer<UInt64>)
    {
        unsafe xxh3_64_blocks(start, size &* 4, blocks, hashes)
    }

    /// XXH3-64 of each of several blocks of `size` bytes.
    static func bytes(_ start: UnsafeRawPointer, size: Int, blocks: Int, to hashes: UnsafeMutablePointer<UInt64>) {
        guard unsafe ix_hash_blocks(start, size, blocks, hashes) == 0 else { return }
        unsafe xxh3_64_blocks(start, size, blocks, hashes)
    }

    /// Joins `next` to `hash`, order-sensitive: a block of several units is hashed as the fold of its units, and a first
    /// block as the fold of its seed and its content. Murmur3's finalizer over a rotated sum.
    @inline(__always)
    static func joined(_ hash: UInt64, _ next: UInt64) -> UInt64 {
        var z = (hash &* 0x9E37_79B9_7F4A_7C15) ^ ((next << 31) | (next >> 33))
        z = (z ^ (z >> 33)) &* 0xFF51_AFD7_ED55_8CCD
        z = (z ^ (z >> 33)) &* 0xC4CE_B9FE_1A85_EC53
        return z ^ (z >> 33)
    }

    /// XXH3-64 of a name, by its UTF-8 bytes.
    static func name(_ text: String) -> UInt64 {
        var copy = text
        return copy.withUTF8 { bytes in
            guard let start = bytes.baseAddress else { return xxh3_64(nil, 0) }
            return unsafe xxh3_64(start, bytes.count)
        }
    }

    /// Seed for what must not be mixed with the rest: a model or adapter, and the cache salt of a tenant.
    /// 0 = neither, which leaves the first block's hash as it is.
    static func seed(model: String?, cacheSalt: String?) -> UInt64 {
        var seed: UInt64 = 0
        if let model, !model.isEmpty { seed = joined(1, name(model)) }
        if let cacheSalt, !cacheSalt.isEmpty {
            var copy = cacheSalt
            seed = copy.withUTF8 { unsafe saltSeed(seed, UnsafeRawBufferPointer($0)) }
        }
        return seed
    }

    /// Joins one more thing that a block's hash holds besides its tokens.
    static func saltSeed(_ seed: UInt64, _ bytes: UnsafeRawBufferPointer) -> UInt64 {
        guard let start = bytes.baseAddress else { return seed }
        return unsafe joined(joined(seed, 2), xxh3_64(start, bytes.count))
    }

    /// The hash of a first block under `seed`.
    @inline(__always)
    static func seeded(_ hash: UInt64, by seed: UInt64) -> UInt64 {
        seed == 0 ? hash : joined(seed, hash)
    }
}
