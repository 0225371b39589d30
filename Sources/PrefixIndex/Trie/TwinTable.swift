// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A block's name in a trie: 64 mixed bits of its engine hash. The table of engine hashes knows the first 24, the chunk the
/// next 8; the other 32 tell twins apart.
package struct BlockName: Sendable, Hashable {
    package var raw: UInt64

    @inline(__always) package init(raw: UInt64) { self.raw = raw }

    @inline(__always) package init(engineHash: UInt64) { raw = BlockHash.joined(0x7072_6566_6978, engineHash) }

    @inline(__always) var key: UInt32 { UInt32(truncatingIfNeeded: raw &>> 40) }
    @inline(__always) var fingerprint: UInt8 { UInt8(truncatingIfNeeded: raw &>> 32) }
    @inline(__always) var rest: UInt32 { UInt32(truncatingIfNeeded: raw) }
}

/// Blocks of equal first 32 bits of their names: all but the first of such twins are written down here with the rest.
///
/// Among n blocks there are about n²/2³³ twins: 100 in a million, 12,000 in ten. So the names in a trie are exact to 64 bits
/// for a few bytes in a thousand.
struct TwinTable: ~Copyable {
    private static let shardCount = 256
    /// As `DuplicateCounts`: measured on Linux at a dictionary's mean load.
    private static let bytesPerEntry = 24
    private static let bitCount = 1 << 16

    private var shards = [[UInt32: UInt32]](repeating: [:], count: shardCount)
    /// One bit for some of the bits of each twin's name: most names are seen to have none by one look.
    private var bits = [UInt64](repeating: 0, count: bitCount / 64)
    private(set) var count = 0

    var bytes: Int { count &* Self.bytesPerEntry }

    private static func shard(_ slot: UInt32) -> Int { Int((slot &* 0x9E37_79B9) >> 24) }

    @inline(__always)
    func mayHave(_ name: BlockName) -> Bool {
        guard count > 0 else { return false }
        let bit = Int(truncatingIfNeeded: name.raw &>> 32) & (Self.bitCount &- 1)
        return bits[bit / 64] & (1 &<< UInt64(bit % 64)) != 0
    }

    mutating func insert(_ name: BlockName, at slot: UInt32) {
        if shards[Self.shard(slot)].updateValue(name.rest, forKey: slot) == nil { count += 1 }
        let bit = Int(truncatingIfNeeded: name.raw &>> 32) & (Self.bitCount &- 1)
        bits[bit / 64] |= 1 &<< UInt64(bit % 64)
    }

    mutating func remove(_ slot: UInt32) {
        if shards[Self.shard(slot)].removeValue(forKey: slot) != nil { count -= 1 }
    }

    /// The rest of the name of a block that was not the first of its twins.
    func rest(_ slot: UInt32) -> UInt32? { shards[Self.shard(slot)][slot] }

    /// All that is written down, sorted by slot.
    var entries: [(slot: UInt32, rest: UInt32)] {
        shards.flatMap { $0.map { ($0.key, $0.value) } }.sorted { $0.0 < $1.0 }
    }
}
