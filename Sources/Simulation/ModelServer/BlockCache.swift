// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The blocks of KV cache that a model server could reuse, by hash: those that running jobs hold, counted by reference,
/// and the unreferenced rest in order of last use. Open addressing with linear probing; slots are stable.
package struct BlockCache: Sendable {
    private struct Entry: Sendable {
        var hash: UInt64
        var references: Int32
        /// Neighbours in the list of unreferenced blocks; `newer` links free slots.
        var newer: Int32
        var older: Int32
    }

    private static let none: Int32 = -1

    private var entries: [Entry] = []
    private var table: [Int32]
    private var shift: UInt64
    private var free = none
    private var newest = none
    private var oldest = none
    /// Blocks that nobody uses, in cache until their memory is wanted.
    package private(set) var unreferenced = 0
    /// Blocks held by jobs.
    package private(set) var referenced = 0

    /// A block that entered the cache or left it.
    struct Change: Sendable {
        var hash: UInt64
        var isStored: Bool
    }

    /// Changes are written down, in order, until they are forgotten.
    var keepsChanges = false
    private(set) var changes: [Change] = []

    package init() {
        table = Array(repeating: Self.none, count: 64)
        shift = 64 - 6
    }

    package var count: Int { referenced + unreferenced }

    private func home(_ hash: UInt64) -> Int { Int(truncatingIfNeeded: (hash &* 0x9E37_79B9_7F4A_7C15) >> shift) }

    /// The block's slot, nil where it is not cached.
    package func find(_ hash: UInt64) -> Int32? {
        let mask = table.count - 1
        var place = home(hash)
        while true {
            let slot = table[place]
            if slot == Self.none { return nil }
            if entries[Int(slot)].hash == hash { return slot }
            place = (place + 1) & mask
        }
    }

    /// How many of the first blocks are cached without a hole.
    package func match(_ hashes: [UInt64], limit: Int) -> Int {
        let bound = min(limit, hashes.count)
        var matched = 0
        while matched < bound, find(hashes[matched]) != nil { matched += 1 }
        return matched
    }

    package func isReferenced(_ slot: Int32) -> Bool { entries[Int(slot)].references > 0 }

    /// Adds a block that is not cached yet, with one reference.
    package mutating func insert(_ hash: UInt64) -> Int32 {
        if count * 2 >= table.count { grow() }
        let slot: Int32
        let entry = Entry(hash: hash, references: 1, newer: Self.none, older: Self.none)
        if free == Self.none {
            slot = Int32(entries.count)
            entries.append(entry)
        } else {
            slot = free
            free = entries[Int(slot)].newer
            entries[Int(slot)] = entry
        }
        place(slot, hash)
        referenced += 1
        if keepsChanges { changes.append(Change(hash: hash, isStored: true)) }
        return slot
    }

    package mutating func retain(_ slot: Int32) {
        let index = Int(slot)
        if entries[index].references == 0 {
            unlink(index)
            unreferenced -= 1
            referenced += 1
        }
        entries[index].references += 1
    }

    /// - Returns: true when nobody holds the block any more.
    @discardableResult
    package mutating func release(_ slot: Int32) -> Bool {
        let index = Int(slot)
        entries[index].references -= 1
        guard entries[index].references == 0 else { return false }
        entries[index].older = newest
        entries[index].newer = Self.none
        if newest == Self.none { oldest = slot } else { entries[Int(newest)].newer = slot }
        newest = slot
        referenced -= 1
        unreferenced += 1
        return true
    }

    /// Forgets the unreferenced block that was used longest ago.
    package mutating func evictOldest() -> UInt64? {
        guard oldest != Self.none else { return nil }
        let slot = oldest
        let hash = entries[Int(slot)].hash
        unlink(Int(slot))
        unreferenced -= 1
        erase(hash)
        entries[Int(slot)].newer = free
        free = slot
        if keepsChanges { changes.append(Change(hash: hash, isStored: false)) }
        return hash
    }

    mutating func forgetChanges() { changes.removeAll(keepingCapacity: true) }

    private mutating func unlink(_ index: Int) {
        let (newer, older) = (entries[index].newer, entries[index].older)
        if newer == Self.none { newest = older } else { entries[Int(newer)].older = older }
        if older == Self.none { oldest = newer } else { entries[Int(older)].newer = newer }
    }

    private mutating func place(_ slot: Int32, _ hash: UInt64) {
        let mask = table.count - 1
        var place = home(hash)
        while table[place] != Self.none { place = (place + 1) & mask }
        table[place] = slot
    }

    /// Deletes by shifting back, so that no tombstones pile up (Knuth, volume 3, 6.4, algorithm R).
    private mutating func erase(_ hash: UInt64) {
        let mask = table.count - 1
        var hole = home(hash)
        while entries[Int(table[hole])].hash != hash { hole = (hole + 1) & mask }
        var probe = hole
        while true {
            probe = (probe + 1) & mask
            let slot = table[probe]
            guard slot != Self.none else { break }
            let wanted = home(entries[Int(slot)].hash)
            // The entry may fill the hole unless its home lies cyclically after the hole.
            if (probe - wanted) & mask >= (probe - hole) & mask {
                table[hole] = slot
                hole = probe
            }
        }
        table[hole] = Self.none
    }

    private mutating func grow() {
        let live = table.filter { $0 != Self.none }
        table = Array(repeating: Self.none, count: table.count * 2)
        shift -= 1
        for slot in live { place(slot, entries[Int(slot)].hash) }
    }
}
