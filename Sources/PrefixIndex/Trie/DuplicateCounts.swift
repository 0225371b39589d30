// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Further copies of a block on one lane, beyond the first. Engines announce a second physical copy of a block like the
/// first, and the removal of each: the block is gone with the last.
///
/// Such copies are rare (2 to 3 % in captures), so they stand in a side table. It is cut in shards, so that no growth
/// moves more than one of them.
struct DuplicateCounts: ~Copyable {
    static let shardCount = 256
    /// Copies beyond this many are not told apart: no engine has as many.
    private static let limit: UInt16 = .max
    /// Bytes of an entry at a dictionary's mean load, as measured on Linux.
    private static let bytesPerEntry = 24

    private var shards = [[UInt64: UInt16]](repeating: [:], count: shardCount)
    private(set) var count = 0

    var bytes: Int { count &* Self.bytesPerEntry }

    private static func key(_ slot: UInt32, _ lane: UInt16) -> UInt64 { UInt64(slot) << 16 | UInt64(lane) }
    private static func shard(_ key: UInt64) -> Int { Int((key &* 0x9E37_79B9_7F4A_7C15) >> 56) }

    mutating func increment(_ slot: UInt32, _ lane: UInt16) {
        let key = Self.key(slot, lane)
        let old = shards[Self.shard(key)][key] ?? 0
        if old == 0 { count += 1 }
        if old < Self.limit { shards[Self.shard(key)][key] = old + 1 }
    }

    /// True when there was a further copy, which is now gone.
    mutating func decrement(_ slot: UInt32, _ lane: UInt16) -> Bool {
        let key = Self.key(slot, lane)
        guard let old = shards[Self.shard(key)][key] else { return false }
        if old > 1 {
            shards[Self.shard(key)][key] = old - 1
        } else {
            shards[Self.shard(key)][key] = nil
            count -= 1
        }
        return true
    }

    /// From a snapshot.
    mutating func set(_ slot: UInt32, _ lane: UInt16, _ copies: UInt16) {
        let key = Self.key(slot, lane)
        if shards[Self.shard(key)].updateValue(copies, forKey: key) == nil { count += 1 }
    }

    /// Forgets all copies of a block on a lane.
    mutating func remove(_ slot: UInt32, _ lane: UInt16) {
        let key = Self.key(slot, lane)
        if shards[Self.shard(key)].removeValue(forKey: key) != nil { count -= 1 }
    }

    func extraCopies(_ slot: UInt32, _ lane: UInt16) -> Int {
        let key = Self.key(slot, lane)
        return Int(shards[Self.shard(key)][key] ?? 0)
    }

    /// The copies counted in one shard, sorted by slot and lane.
    func entries(inShard shard: Int) -> [(slot: UInt32, lane: UInt16, copies: UInt16)] {
        shards[shard].sorted { $0.key < $1.key }.map {
            (UInt32(truncatingIfNeeded: $0.key >> 16), UInt16(truncatingIfNeeded: $0.key), $0.value)
        }
    }
}
