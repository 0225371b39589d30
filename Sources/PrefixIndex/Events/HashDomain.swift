// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The publishers whose engines give equal blocks equal hashes share one trie. Engines of another build, seed or algorithm
/// hash differently: their blocks go to a trie of their own.
struct HashDomain: Sendable {
    let trie: ChunkTrie
    let names: LaneNames
    /// Block sizes in use, in units; sorted.
    var factors: [Int] = []

    /// A fleet's block sizes are few; each costs a lookup.
    static let maxFactors = 4

    init(budget: Int) throws(IndexMemoryError) {
        trie = try ChunkTrie(isKeyed: true, budget: budget)
        names = try LaneNames()
    }
}

/// Who stands behind a lane: read beside the writer.
final class LaneNames: Sendable {
    struct Name {
        var holder: UInt32
        var rank: Int
        /// Tokens per block.
        var blockSize: Int
        /// How many groups of the publisher are indexed: a hit must be one in each.
        var groups: Int
        var isDoubtful: Bool
    }

    /// u64 holder << 32 | rank << 16 | units per block, then u64 groups | doubt << 8, per holder's lanes.
    private let owner = MemoryOwner()
    private let region: SharedRegion

    init() throws(IndexMemoryError) {
        region = try owner.reserve(16 * TrieMemory.laneCount / Int(TrieMemory.lanesPerHolder))
    }

    func set(_ name: Name, forLane lane: UInt16) {
        let place = region.start + 16 * Int(lane / TrieMemory.lanesPerHolder)
        place.set64(
            0,
            UInt64(name.holder) << 32 | UInt64(UInt16(truncatingIfNeeded: name.rank)) << 16
                | UInt64(UInt16(truncatingIfNeeded: name.blockSize))
        )
        place.set64(8, UInt64(UInt8(truncatingIfNeeded: name.groups)) | (name.isDoubtful ? 0x100 : 0))
    }

    func name(ofLane lane: UInt16) -> Name {
        let place = region.start + 16 * Int(lane / TrieMemory.lanesPerHolder)
        let name = place.word64(0)
        let state = place.word64(8)
        return Name(
            holder: UInt32(truncatingIfNeeded: name >> 32),
            rank: Int(UInt16(truncatingIfNeeded: name >> 16)),
            blockSize: Int(UInt16(truncatingIfNeeded: name)),
            groups: Int(UInt8(truncatingIfNeeded: state)),
            isDoubtful: state & 0x100 != 0
        )
    }
}
