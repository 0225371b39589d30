// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// How full a partition of a line table becomes, and how it grows and shrinks.
enum LineTableSizes {
    /// Filled to 91 %: beyond that, probing becomes long.
    @inline(__always)
    static func limit(pages: Int) -> Int { (pages &* fillOf64) &>> 6 }

    /// Entries of 64 pages of 48 when filled.
    static let fillOf64 = 2_796

    /// Pages of a partition that has outgrown `pages`. Each growth moves all entries of the partition: from 8 pages to a split
    /// at 16 an entry is moved 6 times; with one page at a time it would be 13 times, for a tenth less room.
    static func grown(_ pages: Int) -> Int {
        switch pages {
        case ..<6: pages &+ 1
        case ..<8: 8
        case ..<11: 11
        case ..<14: 14
        default: LineTableMemory.maxPagesPerPartition
        }
    }

    /// Shrinks below 55 %, so that a page that comes back is not needed again at once.
    static func shrinkLimit(pages: Int) -> Int { pages > 1 ? pages &* 26 : 0 }

    /// The least pages that take `entries` and one more.
    static func pages(for entries: Int) -> Int {
        guard entries > 0 else { return 0 }
        var pages = max(1, entries &* 64 / fillOf64)
        while limit(pages: pages) <= entries { pages &+= 1 }
        return min(pages, LineTableMemory.maxPagesPerPartition)
    }
}
