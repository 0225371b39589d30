// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A run of up to 4, 8, 16 or 32 consecutive blocks of one chain, in shared memory.
///
///     0  u32 version (sequence lock)      16 u64 holder word, or the first word's index of the holder list
///     4  u32 parent chunk (0 = root)      24 u16 number of holders
///     8  u32 tag of (parent, position,    26 u16 length (6 bits), parent position (5), flags (5)
///            first block)                 28 u32 child chunks; bit 31: has twins
///     12 u32 positions with children
///     32 u16 text fingerprints[capacity]: low bits of the local hashes
///        u8  engine fingerprints[capacity], where the trie is fed by events
///
/// A chunk is named by the number of its first slot; a block by its slot. A holder word is
/// mask of held positions << 32 | lane << 16 | age.
///
/// The child chunks: of one that never had a sibling the name, with bit 30 set; else their number, and the table of children
/// knows them. Most chunks of a long chain have one child, so most of a trie needs no table.
struct Chunk {
    let base: SharedPointer
    let id: UInt32
    /// 0…3: capacity 4, 8, 16, 32.
    let sizeClass: UInt32

    static let headerBytes = 32
    static let maxCapacity = 32
    private static let twinMark: UInt32 = 1 << 31
    private static let onlyMark: UInt32 = 1 << 30

    enum Offset {
        static let version = 0, parent = 4, tag = 8, childPositions = 12, holder = 16, holderCount = 24, shape = 26
        static let children = 28, fingerprints = 32
    }

    /// Marks in the shape word.
    enum Flag {
        /// A position below the length is held by nobody.
        static let hasDead: UInt16 = 1
        /// The side table counts further copies of some of its blocks.
        static let hasDuplicates: UInt16 = 2
        /// Entries of dead positions may still stand in the table of engine hashes.
        static let stale: UInt16 = 4
        /// Unlinked, and waiting until no entry leads here any more.
        static let quarantined: UInt16 = 8
        /// In use: tells chunks from free memory.
        static let used: UInt16 = 16
    }

    @inline(__always) var capacity: Int { 4 &<< Int(sizeClass) }
    @inline(__always) var parent: UInt32 { base.word32(Offset.parent) }
    @inline(__always) var tag: UInt32 { base.word32(Offset.tag) }
    @inline(__always) var childPositions: UInt32 { base.word32(Offset.childPositions) }
    @inline(__always) var holderCount: Int { Int(base.word16(Offset.holderCount)) }
    @inline(__always) var holderWord: UInt64 { base.word64(Offset.holder) }
    @inline(__always) var shape: UInt16 { base.word16(Offset.shape) }
    @inline(__always) var length: Int { Int(shape & 63) }
    @inline(__always) var parentPosition: Int { Int((shape &>> 6) & 31) }
    @inline(__always) var flags: UInt16 { shape &>> 11 }
    @inline(__always) var hasChildren: Bool { base.word32(Offset.children) & ~Self.twinMark != 0 }
    /// The one child that is not in the table of children, if it has such a one. What is in the table is seen by those who
    /// see that there is none.
    @inline(__always) var onlyChild: UInt32? {
        let word = base.acquire32(Offset.children)
        return word & Self.onlyMark != 0 ? word & ~(Self.twinMark | Self.onlyMark) : nil
    }
    /// Some of its blocks are in the table of twins.
    @inline(__always) var hasTwins: Bool { base.word32(Offset.children) & Self.twinMark != 0 }
    @inline(__always) var fingerprints: SharedPointer { base + Offset.fingerprints }
    @inline(__always) var engineFingerprints: SharedPointer { base + (Offset.fingerprints &+ 2 &* capacity) }
    @inline(__always) var version: SharedPointer { base }

    @inline(__always) func slot(_ position: Int) -> UInt32 { id &+ UInt32(truncatingIfNeeded: position) }

    // MARK: - For the writer

    /// Child chunks that the table of children knows.
    var tabledChildren: UInt32 {
        let word = base.word32(Offset.children) & ~Self.twinMark
        return word & Self.onlyMark != 0 ? 0 : word
    }

    func setTabledChildren(_ count: UInt32) { setChildren(count) }
    func setOnlyChild(_ child: UInt32) { setChildren(child | Self.onlyMark) }

    private func setChildren(_ word: UInt32) {
        base.release32(Offset.children, word | (base.word32(Offset.children) & Self.twinMark))
    }

    func markTwins() { base.set32(Offset.children, base.word32(Offset.children) | Self.twinMark) }
    func clearChildren() { base.set32(Offset.children, 0) }

    func setShape(length: Int, parentPosition: Int, flags: UInt16) {
        base.set16(Offset.shape, UInt16(length) | UInt16(parentPosition) &<< 6 | flags &<< 11)
    }

    func setLength(_ length: Int) { base.set16(Offset.shape, shape & ~63 | UInt16(length)) }
    func insertFlags(_ flags: UInt16) { base.set16(Offset.shape, shape | flags &<< 11) }
    func removeFlags(_ flags: UInt16) { base.set16(Offset.shape, shape & ~(flags &<< 11)) }
    func setChildPositions(_ positions: UInt32) { base.set32(Offset.childPositions, positions) }

    /// Bits of `count` positions from `first` on.
    @inline(__always)
    static func bits(from first: Int, count: Int) -> UInt32 {
        let low: UInt32 = count >= 32 ? .max : (1 &<< UInt32(count)) &- 1
        return low &<< UInt32(first)
    }
}

/// A holder of a chunk's blocks, in one word.
struct HolderWord {
    var raw: UInt64

    @inline(__always) init(raw: UInt64) { self.raw = raw }
    @inline(__always) init(mask: UInt32, lane: UInt16, age: UInt16) {
        raw = UInt64(mask) &<< 32 | UInt64(lane) &<< 16 | UInt64(age)
    }

    @inline(__always) var mask: UInt32 { UInt32(truncatingIfNeeded: raw &>> 32) }
    @inline(__always) var lane: UInt16 { UInt16(truncatingIfNeeded: raw &>> 16) }
    @inline(__always) var age: UInt16 { UInt16(truncatingIfNeeded: raw) }
}
