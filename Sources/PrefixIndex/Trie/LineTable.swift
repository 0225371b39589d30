// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

/// The writer's side of a line table.
@safe struct LineTable: ~Copyable {
    // Safe: the scratch is used below its capacity, which is that of the largest partition.
    private typealias Memory = LineTableMemory
    private typealias Offset = LineTableMemory.Offset

    let memory: LineTableMemory
    /// Readers look into it: changes are bracketed by the partitions' locks.
    private let isShared: Bool
    private(set) var count = 0
    /// False: only pages that came back may be used.
    var mayGrow = true
    private(set) var depth: Int
    private var partitionCount: Int
    /// Pages handed out so far, and those of them that came back (a list through their first four bytes; 0 ends it).
    private var pagesTouched = 1
    private var freePage = 0
    private var freePageCount = 0
    /// A partition's entries on their way: key << 32 | slot.
    private let scratch: UnsafeMutablePointer<UInt64>
    private let pageStarts: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private static let scratchCapacity =
        LineTableMemory.maxPagesPerPartition * LineTableMemory.linesPerPage * LineTableMemory.entriesPerLine

    init(memory: LineTableMemory, isShared: Bool) {
        self.memory = memory
        self.isShared = isShared
        depth = memory.minDepth
        unsafe scratch = .allocate(capacity: Self.scratchCapacity)
        unsafe pageStarts = .allocate(capacity: LineTableMemory.maxPagesPerPartition)
        unsafe pageStarts.initialize(repeating: nil, count: LineTableMemory.maxPagesPerPartition)
        partitionCount = 1 << memory.minDepth
        let directory = memory.directory.start
        for number in 0..<partitionCount {
            let partition = memory.partition(UInt32(number))
            partition.set8(Offset.depth, UInt8(memory.minDepth))
            partition.set32(Offset.prefix, UInt32(number) << UInt32(memory.keyBits - memory.minDepth))
            directory.set32(4 * (partitionCount + number), UInt32(number))
        }
        directory.release32(0, UInt32(memory.minDepth))
    }

    deinit {
        unsafe scratch.deallocate()
        unsafe pageStarts.deallocate()
    }

    /// Bytes made resident so far.
    var bytes: Int {
        partitionCount &* Memory.partitionBytes &+ pagesTouched &* Memory.pageBytes &+ (8 << depth)
    }

    /// Bytes of pages that came back.
    var freeBytes: Int { freePageCount &* Memory.pageBytes }

    private var pagesLeft: Int { freePageCount &+ (mayGrow ? memory.pageCapacity &- pagesTouched : 0) }

    /// Brings the line of `key` nearer, for an insertion or search to come.
    @inline(__always)
    func prefetch(_ key: UInt32) {
        let partition = memory.partition(memory.directory.start.word32(memory.directoryOffset(key, depth: depth)))
        let lines = Int(partition.word8(Offset.pages)) &* Memory.linesPerPage
        guard lines > 0 else { return }
        let home = memory.home(key, depth: Int(partition.word8(Offset.depth)), lines: lines)
        unsafe ix_prefetch(memory.line(home, of: partition).raw)
    }

    /// Calls `body` with each slot stored under `key`.
    @inline(__always)
    func forEachSlot(_ key: UInt32, _ body: (UInt32) -> Void) {
        _ = memory.first(key) { slot in
            body(slot)
            return false
        }
    }

    /// False where no place could be made: the table is full, or too many keys share their first 18 bits.
    @inline(__always)
    mutating func insert(_ key: UInt32, slot: UInt32) -> Bool { insert(key, slot: slot) { _ in } }

    /// The same for a row of names and slots, in a table that no reader looks into.
    /// - Returns: how many were entered before a partition was full, or the suspects too many.
    @inline(__always)
    mutating func enter(_ run: BlockRun, from first: Int, count: Int, slot: UInt32, _ step: inout EntryStep) -> Int {
        guard let names = unsafe run.engine else { return 0 }
        var table = unsafe view
        let done = unsafe Int(
            ix_table_enter(
                &table,
                names,
                UInt32(truncatingIfNeeded: first),
                UInt32(truncatingIfNeeded: count),
                UInt32(truncatingIfNeeded: run.count),
                &step.fetched,
                slot,
                step.suspects,
                &step.suspected,
                UInt32(EntryStep.maxSuspects)
            )
        )
        self.count &+= done
        return done
    }

    /// Brings near what entering the names from `first` on will touch.
    @inline(__always)
    func approach(_ run: BlockRun, _ first: Int, _ step: inout EntryStep) {
        guard let names = unsafe run.engine else { return }
        var table = unsafe view
        unsafe ix_table_approach(
            &table,
            names,
            UInt32(truncatingIfNeeded: first),
            UInt32(truncatingIfNeeded: run.count),
            &step.fetched
        )
    }

    /// The table as the kernels see it, until it changes.
    private var view: ix_table {
        unsafe ix_table(
            directory: (memory.directory.start + 4 &* (1 &<< depth)).raw.assumingMemoryBound(to: CChar.self),
            partitions: memory.partitions.start.raw.assumingMemoryBound(to: CChar.self),
            pages: memory.pages.start.raw.assumingMemoryBound(to: CChar.self),
            depth: UInt32(truncatingIfNeeded: depth),
            key_bits: UInt32(truncatingIfNeeded: memory.keyBits),
            fill: UInt32(LineTableSizes.fillOf64)
        )
    }

    @inline(__always)
    private mutating func insert(_ key: UInt32, slot: UInt32, others: (UInt32) -> Void) -> Bool {
        var partition = memory.partition(memory.directory.start.word32(memory.directoryOffset(key, depth: depth)))
        if Int(partition.word16(Offset.entries)) >= LineTableSizes.limit(pages: Int(partition.word8(Offset.pages))) {
            guard makeRoom(for: key) else { return false }
            partition = memory.partition(memory.directory.start.word32(memory.directoryOffset(key, depth: depth)))
        }
        enter(partition)
        place(key, slot: slot, in: partition, others)
        partition.set16(Offset.entries, partition.word16(Offset.entries) &+ 1)
        leave(partition)
        count &+= 1
        return true
    }

    /// Gives an empty table the pages that so many entries will need, as far as its first partitions reach.
    mutating func reserve(_ entries: Int) {
        guard count == 0, mayGrow, entries / 16 < memory.pageCapacity &- pagesTouched else { return }
        let each = Double(entries) / Double(partitionCount)
        // Entries are spread evenly: partitions differ by the square root of their number.
        let pages = LineTableSizes.pages(for: Int(each + 1.5 * each.squareRoot()))
        for number in 0..<partitionCount {
            let partition = memory.partition(UInt32(number))
            guard partition.word8(Offset.pages) == 0 else { continue }
            enter(partition)
            rebuild(partition, 0..<0, pages: pages)
            leave(partition)
        }
    }

    /// Removes the entry that says `slot` under `key`. False where there is none.
    mutating func remove(_ key: UInt32, slot: UInt32) -> Bool {
        let partition = memory.partition(memory.directory.start.word32(memory.directoryOffset(key, depth: depth)))
        let pages = Int(partition.word8(Offset.pages))
        guard pages > 0 else { return false }
        enter(partition)
        let found = take(key, slot: slot, from: partition, lines: pages &* Memory.linesPerPage)
        if found { partition.set16(Offset.entries, partition.word16(Offset.entries) &- 1) }
        leave(partition)
        guard found else { return false }
        count &-= 1
        if Int(partition.word16(Offset.entries)) < LineTableSizes.shrinkLimit(pages: pages) { shrink(partition) }
        return true
    }

    /// Drops the entries of one partition whose slot is dead.
    /// - Returns: the first key behind the partition, or nil behind the last one.
    mutating func sweep(from key: UInt32, isDead: (UInt32) -> Bool) -> UInt32? {
        let partition = memory.partition(memory.directory.start.word32(memory.directoryOffset(key, depth: depth)))
        let total = collect(partition)
        var kept = 0
        for at in 0..<total where unsafe !isDead(UInt32(truncatingIfNeeded: scratch[at])) {
            unsafe scratch[kept] = unsafe scratch[at]
            kept &+= 1
        }
        if kept != total {
            enter(partition)
            count &-= total &- kept
            rebuild(partition, 0..<kept, pages: LineTableSizes.pages(for: kept))
            leave(partition)
        }
        let next =
            partition.word32(Offset.prefix) &+ (1 &<< UInt32(memory.keyBits &- Int(partition.word8(Offset.depth))))
        return next >> UInt32(memory.keyBits) == 0 ? next : nil
    }

    /// Calls `body` with key and slot of each entry, in no order.
    func forEach(_ body: (_ key: UInt32, _ slot: UInt32) -> Void) {
        for number in 0..<partitionCount {
            let partition = memory.partition(UInt32(number))
            forEach(in: partition, body)
        }
    }

    @inline(__always)
    private func enter(_ partition: SharedPointer) {
        if isShared { SequenceLock.enter(partition) }
    }

    @inline(__always)
    private func leave(_ partition: SharedPointer) {
        if isShared { SequenceLock.leave(partition) }
    }

    // MARK: - One partition

    /// Without removals, looking for others passes the very lines that looking for room does.
    @inline(__always)
    private func place(_ key: UInt32, slot: UInt32, in partition: SharedPointer, _ others: (UInt32) -> Void) {
        let lines = Int(partition.word8(Offset.pages)) &* Memory.linesPerPage
        var index = memory.home(key, depth: Int(partition.word8(Offset.depth)), lines: lines)
        let pattern = Memory.pattern(key)
        var isPlaced = false
        for _ in 0..<lines {
            let line = memory.line(index, of: partition)
            let used = line.word8(Offset.count)
            var matches = unsafe ix_line_matches(line.raw, pattern) & ((1 &<< UInt32(used)) &- 1)
            while matches != 0 {
                others(Memory.slot(matches.trailingZeroBitCount, in: line))
                matches &= matches &- 1
            }
            let passed = line.word8(Offset.passed)
            if !isPlaced {
                if used < Memory.entriesPerLine {
                    write(key, slot, Int(used), line)
                    isPlaced = true
                } else if passed < 255 {
                    // At 255 the counter stands still and no longer falls: probing goes on, at the cost of a line.
                    line.set8(Offset.passed, passed &+ 1)
                }
            }
            if isPlaced, passed == 0 { return }
            index = index &+ 1 == lines ? 0 : index &+ 1
        }
    }

    @inline(__always)
    private func write(_ key: UInt32, _ slot: UInt32, _ at: Int, _ line: SharedPointer) {
        line.set16(at &* 2, Memory.pattern(key) | UInt16(truncatingIfNeeded: slot &>> 24))
        line.set16(Offset.low &+ at &* 2, UInt16(truncatingIfNeeded: slot))
        line.set8(Offset.middle &+ at, UInt8(truncatingIfNeeded: slot &>> 16))
        line.set8(Offset.count, UInt8(at &+ 1))
    }

    private func take(_ key: UInt32, slot: UInt32, from partition: SharedPointer, lines: Int) -> Bool {
        let home = memory.home(key, depth: Int(partition.word8(Offset.depth)), lines: lines)
        let pattern = Memory.pattern(key)
        var index = home
        for _ in 0..<lines {
            let line = memory.line(index, of: partition)
            let used = Int(line.word8(Offset.count))
            var matches = unsafe ix_line_matches(line.raw, pattern) & ((1 &<< UInt32(used)) &- 1)
            while matches != 0 {
                let at = matches.trailingZeroBitCount
                if Memory.slot(at, in: line) == slot {
                    line.set16(at &* 2, line.word16((used &- 1) &* 2))
                    line.set16(Offset.low &+ at &* 2, line.word16(Offset.low &+ (used &- 1) &* 2))
                    line.set8(Offset.middle &+ at, line.word8(Offset.middle &+ used &- 1))
                    line.set8(Offset.count, UInt8(used &- 1))
                    unpass(from: home, to: index, partition, lines)
                    return true
                }
                matches &= matches &- 1
            }
            if line.word8(Offset.passed) == 0 { return false }
            index = index &+ 1 == lines ? 0 : index &+ 1
        }
        return false
    }

    private func unpass(from home: Int, to end: Int, _ partition: SharedPointer, _ lines: Int) {
        var index = home
        while index != end {
            let line = memory.line(index, of: partition)
            let passed = line.word8(Offset.passed)
            if passed > 0, passed < 255 { line.set8(Offset.passed, passed &- 1) }
            index = index &+ 1 == lines ? 0 : index &+ 1
        }
    }

    private func forEach(in partition: SharedPointer, _ body: (UInt32, UInt32) -> Void) {
        let lines = Int(partition.word8(Offset.pages)) &* Memory.linesPerPage
        // The bits that all partitions imply; those below them stand in the entries.
        let high = partition.word32(Offset.prefix) & ~0x1FFF
        for index in 0..<lines {
            let line = memory.line(index, of: partition)
            for at in 0..<Int(line.word8(Offset.count)) {
                body(high | UInt32(line.word16(at &* 2) &>> 3), Memory.slot(at, in: line))
            }
        }
    }

    private func collect(_ partition: SharedPointer) -> Int {
        let count = Int(partition.word8(Offset.pages))
        findPages(of: partition, count)
        let high = partition.word32(Offset.prefix) & ~0x1FFF
        return unsafe Int(ix_table_collect(pageStarts, UInt32(count &* Memory.linesPerPage), high, scratch))
    }

    /// Fills `pageStarts`.
    private func findPages(of partition: SharedPointer, _ count: Int) {
        for at in 0..<count {
            let page = memory.pages.start + memory.page(at, of: partition) &* Memory.pageBytes
            unsafe pageStarts[at] = unsafe page.raw.assumingMemoryBound(to: CChar.self)
        }
    }

    /// Gives the partition `pages` pages (those it has, new ones, or fewer) and places these entries of the scratch anew.
    /// The caller holds the partition's lock and knows that the pages can be had.
    private mutating func rebuild(_ partition: SharedPointer, _ entries: Range<Int>, pages: Int) {
        let bits = setPages(pages, of: partition)
        unsafe ix_table_place(
            pageStarts,
            UInt32(pages &* Memory.linesPerPage),
            UInt32(bits),
            scratch + entries.lowerBound,
            UInt32(entries.count)
        )
        partition.set16(Offset.entries, UInt16(entries.count))
    }

    /// The same with `count` entries of the lines that `lift` copied: those whose first word is `value` under `mask`.
    private mutating func spread(
        _ partition: SharedPointer,
        lines: Int,
        pages: Int,
        count: Int,
        mask: UInt16 = 0,
        value: UInt16 = 0
    ) {
        let bits = setPages(pages, of: partition)
        unsafe ix_table_spread(
            scratch,
            UInt32(lines),
            pageStarts,
            UInt32(pages &* Memory.linesPerPage),
            UInt32(bits),
            mask,
            value
        )
        partition.set16(Offset.entries, UInt16(count))
    }

    /// Copies a partition's lines to the scratch. Gives how many there are.
    private func lift(_ partition: SharedPointer) -> Int {
        let pages = Int(partition.word8(Offset.pages))
        findPages(of: partition, pages)
        unsafe ix_table_lift(pageStarts, UInt32(pages &* Memory.linesPerPage), scratch)
        return pages &* Memory.linesPerPage
    }

    /// Gives the partition `pages` pages and fills `pageStarts`.
    /// - Returns: the bits of its keys that choose a line.
    private mutating func setPages(_ pages: Int, of partition: SharedPointer) -> Int {
        var have = Int(partition.word8(Offset.pages))
        while have > pages {
            have &-= 1
            release(page: memory.page(have, of: partition))
        }
        while have < pages {
            setPage(have, allocatePage(), of: partition)
            have &+= 1
        }
        partition.set8(Offset.pages, UInt8(pages))
        findPages(of: partition, pages)
        return memory.keyBits &- Int(partition.word8(Offset.depth))
    }

    private func setPage(_ at: Int, _ page: Int, of partition: SharedPointer) {
        partition.set16(Offset.pageLow &+ at &* 2, UInt16(truncatingIfNeeded: page))
        partition.set8(Offset.pageHigh &+ at, UInt8(truncatingIfNeeded: page &>> 16))
    }

    private mutating func shrink(_ partition: SharedPointer) {
        let total = collect(partition)
        enter(partition)
        // Three quarters full: far from both limits.
        rebuild(partition, 0..<total, pages: LineTableSizes.pages(for: total &+ total / 4))
        leave(partition)
    }

    // MARK: - Growth

    /// Lets a key's partition take one more. False where the table is full, or too many keys share their first bits.
    mutating func makeRoom(for key: UInt32) -> Bool {
        while true {
            let partition = memory.partition(memory.directory.start.word32(memory.directoryOffset(key, depth: depth)))
            let pages = Int(partition.word8(Offset.pages))
            if Int(partition.word16(Offset.entries)) < LineTableSizes.limit(pages: pages) { return true }
            guard pagesLeft > Memory.maxPagesPerPartition else { return false }
            if pages < Memory.maxPagesPerPartition {
                let lines = lift(partition)
                enter(partition)
                let count = Int(partition.word16(Offset.entries))
                spread(partition, lines: lines, pages: LineTableSizes.grown(pages), count: count)
                leave(partition)
                return true
            }
            guard split(partition) else { return false }
        }
    }

    private mutating func split(_ partition: SharedPointer) -> Bool {
        let old = Int(partition.word8(Offset.depth))
        guard old < memory.maxDepth else { return false }
        if old == depth { doubleDirectory() }
        let lines = lift(partition)
        let total = Int(partition.word16(Offset.entries))
        // Of the 13 bits of a key that an entry holds, the first that does not choose the partition.
        let bit = UInt16(1) << UInt16(3 + memory.keyBits - 1 - old)
        let upper = unsafe Int(ix_table_count(scratch, UInt32(lines), bit))
        let lower = total &- upper
        let number = UInt32(partitionCount)
        partitionCount &+= 1
        let sibling = memory.partition(number)
        let prefix = partition.word32(Offset.prefix) | UInt32(1) << UInt32(memory.keyBits - 1 - old)
        enter(partition)
        enter(sibling)
        sibling.set8(Offset.depth, UInt8(old + 1))
        sibling.set32(Offset.prefix, prefix)
        sibling.set8(Offset.pages, 0)
        partition.set8(Offset.depth, UInt8(old + 1))
        spread(partition, lines: lines, pages: LineTableSizes.pages(for: lower), count: lower, mask: bit, value: 0)
        spread(sibling, lines: lines, pages: LineTableSizes.pages(for: upper), count: upper, mask: bit, value: bit)
        let first = memory.directoryOffset(prefix, depth: depth)
        for entry in 0..<(1 << (depth - old - 1)) { memory.directory.start.set32(first &+ 4 &* entry, number) }
        leave(sibling)
        leave(partition)
        return true
    }

    private mutating func doubleDirectory() {
        let directory = memory.directory.start
        let size = 1 << depth
        for at in 0..<size {
            let number = directory.word32(4 &* (size &+ at))
            directory.set32(4 &* (2 &* size &+ 2 &* at), number)
            directory.set32(4 &* (2 &* size &+ 2 &* at &+ 1), number)
        }
        depth += 1
        directory.release32(0, UInt32(depth))
    }

    private mutating func allocatePage() -> Int {
        if freePage != 0 {
            let page = freePage
            freePage = Int((memory.pages.start + page &* Memory.pageBytes).word32(0))
            freePageCount &-= 1
            return page
        }
        pagesTouched &+= 1
        return pagesTouched &- 1
    }

    private mutating func release(page: Int) {
        (memory.pages.start + page &* Memory.pageBytes).set32(0, UInt32(freePage))
        freePage = page
        freePageCount &+= 1
    }
}
