// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

/// A hash table of 40-bit entries: 13 bits of a key, 27 bits of a slot number. The key's first bits (11 of 24, in the larger
/// of the two tables of a trie) are said by the place. It cannot tell equal keys apart: whoever asks checks what the slot
/// says.
///
/// Twelve entries make a line of 64 bytes; a *partition* has 4 to 64 lines in pages of four and grows by one page at a time,
/// then splits in two. A directory of 2^depth partition numbers finds it by the key's first bits (extendible hashing,
/// Fagin et al. 1979). So no step moves more than one partition's entries, however large the table is.
///
///     line       u16 h[12]: 13 key bits | slot bits 26…24; u16 low[12], u8 middle[12]: slot bits 15…0, 23…16;
///                u8 count; u8 passed: entries that found the line full and went on
///     partition  u32 version; u8 depth, pages; u16 entries; u32 prefix; u16 pageLow[16]; u8 pageHigh[16]
///
/// One writer; readers are safe through the partition's version.
struct LineTableMemory: Sendable {
    /// Bits of a key that an entry holds.
    static let storedBits = 13
    /// Bits of the key that are left to choose one of 64 lines.
    static let homeBits = 6
    static let partitionBytes = 64
    static let lineBytes = 64
    static let linesPerPage = 4
    static let pageBytes = linesPerPage * lineBytes
    static let entriesPerLine = 12
    static let maxPagesPerPartition = 16

    enum Offset {
        static let version = 0, depth = 4, pages = 5, entries = 6, prefix = 8, pageLow = 12, pageHigh = 44
        static let low = 24, middle = 48, count = 60, passed = 61
    }

    let minDepth: Int
    /// Where no partition is split any more: with 18, 2^18 partitions hold 187 M entries.
    let maxDepth: Int
    let keyBits: Int
    /// One directory per depth, at offset 4 × 2^depth, and the present depth in front of them.
    let directory: SharedRegion
    let partitions: SharedRegion
    let pages: SharedRegion

    /// `minDepth`: partitions of an empty table, as a power of two; the more, the longer are the keys. `budget`: bytes that
    /// the table never exceeds.
    init(minDepth: Int, budget: Int, owner: MemoryOwner) throws(IndexMemoryError) {
        self.minDepth = minDepth
        keyBits = minDepth + Self.storedBits
        maxDepth = keyBits - Self.homeBits
        directory = try owner.reserve(8 << maxDepth)
        partitions = try owner.reserve(Self.partitionBytes << maxDepth)
        pages = try owner.reserve(min(max(budget, 1 << 20), Self.pageBytes << 24))
    }

    @inline(__always)
    var depth: Int {
        Int(directory.start.acquire32(0))
    }

    /// Where the directory of `depth` keeps the partition number of `key`.
    @inline(__always)
    func directoryOffset(_ key: UInt32, depth: Int) -> Int {
        4 &* ((1 &<< depth) &+ Int(key &>> UInt32(truncatingIfNeeded: keyBits &- depth)))
    }

    @inline(__always)
    func partition(_ number: UInt32) -> SharedPointer {
        partitions.start + Int(number & ((1 &<< UInt32(maxDepth)) &- 1)) &* Self.partitionBytes
    }

    @inline(__always)
    func page(_ at: Int, of partition: SharedPointer) -> Int {
        Int(partition.word16(Offset.pageLow &+ at &* 2)) | Int(partition.word8(Offset.pageHigh &+ at)) &<< 16
    }

    /// A reader may see a page number of which half is old: it must not lead outside.
    @inline(__always)
    func line(_ index: Int, of partition: SharedPointer) -> SharedPointer {
        let page = min(page(index &>> 2, of: partition), pageCapacity &- 1)
        return pages.start + (page &* Self.pageBytes &+ (index & 3) &* Self.lineBytes)
    }

    @inline(__always)
    var pageCapacity: Int { pages.capacity / Self.pageBytes }

    /// The line where a key's probing starts, in a partition of `lines` lines.
    @inline(__always)
    func home(_ key: UInt32, depth: Int, lines: Int) -> Int {
        let bits = keyBits &- depth
        return ((Int(key) & ((1 &<< bits) &- 1)) &* lines) &>> bits
    }

    @inline(__always)
    static func pattern(_ key: UInt32) -> UInt16 { UInt16(truncatingIfNeeded: (key & 0x1FFF) &<< 3) }

    @inline(__always)
    static func slot(_ entry: Int, in line: SharedPointer) -> UInt32 {
        UInt32(line.word16(entry &* 2) & 7) &<< 24 | UInt32(line.word8(Offset.middle &+ entry)) &<< 16
            | UInt32(line.word16(Offset.low &+ entry &* 2))
    }

    /// Calls `check` with the slots stored under `key` until it says true. For the writer.
    @inline(__always)
    func first(_ key: UInt32, where check: (UInt32) -> Bool) -> UInt32? {
        let partition = partition(directory.start.word32(directoryOffset(key, depth: depth)))
        return search(key, in: partition, check)
    }

    /// The same for readers, beside the writer. nil in `answer` where nothing is found; `stable` false where the writer
    /// was in the way, and the answer means nothing.
    @inline(__always)
    func read(_ key: UInt32, where check: (UInt32) -> Bool) -> (answer: UInt32?, stable: Bool) {
        let depth = depth
        let place = directoryOffset(key, depth: depth)
        let number = directory.start.word32(place)
        let partition = partition(number)
        guard let version = SequenceLock.begin(partition) else { return (nil, false) }
        let pages = Int(partition.word8(Offset.pages))
        guard pages <= Self.maxPagesPerPartition else { return (nil, false) }
        let found = search(key, in: partition, check)
        guard SequenceLock.holds(partition, since: version) else { return (nil, false) }
        // A key that moved to a sibling in a split is missed through an old directory entry.
        if found == nil, self.depth != depth || directory.start.word32(place) != number { return (nil, false) }
        return (found, true)
    }

    @inline(__always)
    private func search(
        _ key: UInt32,
        in partition: SharedPointer,
        _ check: (UInt32) -> Bool
    ) -> UInt32? {
        let lines = Int(partition.word8(Offset.pages)) &* Self.linesPerPage
        guard lines > 0 else { return nil }
        var index = home(key, depth: Int(partition.word8(Offset.depth)), lines: lines)
        let pattern = Self.pattern(key)
        for _ in 0..<lines {
            let line = line(index, of: partition)
            var matches = unsafe ix_line_matches(line.raw, pattern)
            if matches != 0 {
                matches &= (1 &<< UInt32(line.word8(Offset.count))) &- 1
                while matches != 0 {
                    let slot = Self.slot(matches.trailingZeroBitCount, in: line)
                    if check(slot) { return slot }
                    matches &= matches &- 1
                }
            }
            if line.word8(Offset.passed) == 0 { return nil }
            index = index &+ 1 == lines ? 0 : index &+ 1
        }
        return nil
    }
}
