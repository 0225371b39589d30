// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CIndexKernels

/// Hands out chunks from slabs of one size class each, and gives empty slabs back to the system.
struct SlabAllocator: ~Copyable {
    private struct Slab {
        /// Chunks never used yet start here.
        var fresh: UInt32 = 0
        var used: UInt32 = 0
        /// Number + 1 of the first freed chunk, whose parent field names the next; 0 = none.
        var free: UInt32 = 0
        /// Neighbours among the slabs of this class with room; -1 ends the list.
        var next: Int32 = -1
        var previous: Int32 = -1
        var isListed = false
        var isAssigned = false
    }

    private let memory: TrieMemory
    private var slabs: [Slab] = []
    private var emptySlabs: [Int32] = []
    /// First slab with room, per class.
    private var withRoom: [Int32] = [-1, -1, -1, -1]
    private var pageBytes = 0
    private(set) var chunkCount = 0
    /// Bytes of freed chunks in slabs that are kept.
    private(set) var freeBytes = 0
    /// Freed chunks in slabs that are kept, per class.
    private var freeChunks = [0, 0, 0, 0]
    /// False: only freed chunks may be used.
    var mayGrow = true

    init(memory: TrieMemory) {
        self.memory = memory
    }

    /// Slabs in use or used once: all chunks lie in the first `slabCount`.
    var slabCount: Int { slabs.count }
    var bytes: Int { pageBytes &+ slabs.count &* 32 }

    func fresh(inSlab slab: Int) -> Int { slabs[slab].isAssigned ? Int(slabs[slab].fresh) : 0 }

    /// A chunk of the class; under pressure of any class that has one, larger ones first. nil where there is none.
    mutating func allocate(_ wanted: UInt32) -> Chunk? {
        if freeChunks[Int(wanted)] > 0 { return takeFree(wanted) }
        if mayGrow, withRoom[Int(wanted)] >= 0 || !emptySlabs.isEmpty || slabs.count < memory.slabCount {
            return takeFresh(wanted)
        }
        for sizeClass in [wanted + 1, wanted + 2, wanted + 3] where sizeClass < 4 && freeChunks[Int(sizeClass)] > 0 {
            return takeFree(sizeClass)
        }
        for sizeClass in (0..<wanted).reversed() where freeChunks[Int(sizeClass)] > 0 { return takeFree(sizeClass) }
        return nil
    }

    private mutating func takeFree(_ sizeClass: UInt32) -> Chunk? {
        var number = Int(withRoom[Int(sizeClass)])
        while number >= 0, slabs[number].free == 0 { number = Int(slabs[number].next) }
        guard number >= 0 else { return nil }
        let index = slabs[number].free - 1
        slabs[number].free = chunk(number, index, sizeClass).parent
        freeChunks[Int(sizeClass)] &-= 1
        freeBytes &-= memory.stride(sizeClass)
        return hand(number, index, sizeClass)
    }

    private mutating func takeFresh(_ sizeClass: UInt32) -> Chunk {
        if withRoom[Int(sizeClass)] < 0 { addSlab(sizeClass) }
        let number = Int(withRoom[Int(sizeClass)])
        let index = slabs[number].fresh
        let stride = memory.stride(sizeClass)
        let before = (Int(index) &* stride &+ 4_095) / 4_096
        let after = (Int(index &+ 1) &* stride &+ 4_095) / 4_096
        pageBytes &+= (after &- before) &* 4_096
        slabs[number].fresh = index &+ 1
        return hand(number, index, sizeClass)
    }

    private mutating func hand(_ number: Int, _ index: UInt32, _ sizeClass: UInt32) -> Chunk {
        slabs[number].used &+= 1
        let perSlab = UInt32(TrieMemory.slotsPerSlab) >> (2 + sizeClass)
        if slabs[number].free == 0, slabs[number].fresh == perSlab { unlist(number, sizeClass) }
        chunkCount &+= 1
        return chunk(number, index, sizeClass)
    }

    mutating func release(_ chunk: Chunk) {
        let number = Int(chunk.id &>> 14)
        let index = (chunk.id & UInt32(TrieMemory.slotsPerSlab &- 1)) &>> (2 &+ chunk.sizeClass)
        chunk.base.set32(Chunk.Offset.parent, slabs[number].free)
        chunk.base.set16(Chunk.Offset.shape, 0)
        chunk.base.set16(Chunk.Offset.holderCount, 0)
        slabs[number].free = index &+ 1
        slabs[number].used &-= 1
        chunkCount &-= 1
        freeChunks[Int(chunk.sizeClass)] &+= 1
        freeBytes &+= memory.stride(chunk.sizeClass)
        if !slabs[number].isListed { list(number, chunk.sizeClass) }
        // Slab 0 stays: its first chunk stands for the root. The last one with room stays too, or one chunk that comes and
        // goes would map and unmap a slab each time.
        let isAlone = slabs[number].next < 0 && slabs[number].previous < 0
        if slabs[number].used == 0, number > 0, !isAlone { giveBack(number, chunk.sizeClass) }
    }

    // MARK: - From a snapshot

    /// Takes a certain chunk; ids come in ascending order. nil where it lies askew or in a slab of another class.
    mutating func restore(_ id: UInt32, _ sizeClass: UInt32) -> Chunk? {
        let number = Int(id &>> 14)
        let inSlab = id & UInt32(TrieMemory.slotsPerSlab &- 1)
        guard number < memory.slabCount, inSlab % (4 &<< sizeClass) == 0 else { return nil }
        while slabs.count <= number { slabs.append(Slab()) }
        if !slabs[number].isAssigned {
            slabs[number].isAssigned = true
            memory.sizeClasses.start.set8(number, UInt8(sizeClass))
            if number == 0 {
                slabs[0].fresh = 1
                slabs[0].used = 1
                pageBytes &+= 4_096
            }
        }
        guard memory.sizeClass(of: id) == sizeClass else { return nil }
        let index = inSlab &>> (2 &+ sizeClass)
        guard index >= slabs[number].fresh else { return nil }
        // Those passed over are free.
        for free in slabs[number].fresh..<index {
            let chunk = chunk(number, free, sizeClass)
            chunk.base.set32(Chunk.Offset.parent, slabs[number].free)
            slabs[number].free = free &+ 1
            freeChunks[Int(sizeClass)] &+= 1
            freeBytes &+= memory.stride(sizeClass)
        }
        let stride = memory.stride(sizeClass)
        let before = (Int(slabs[number].fresh) &* stride &+ 4_095) / 4_096
        let after = (Int(index &+ 1) &* stride &+ 4_095) / 4_096
        pageBytes &+= (after &- before) &* 4_096
        slabs[number].fresh = index &+ 1
        slabs[number].used &+= 1
        chunkCount &+= 1
        return chunk(number, index, sizeClass)
    }

    /// Enters the slabs with room, and those without chunks.
    mutating func finishRestoring() {
        for number in slabs.indices {
            guard slabs[number].isAssigned else {
                emptySlabs.append(Int32(number))
                continue
            }
            let sizeClass = memory.sizeClass(of: UInt32(number) &<< 14)
            let perSlab = UInt32(TrieMemory.slotsPerSlab) >> (2 + sizeClass)
            if slabs[number].free != 0 || slabs[number].fresh < perSlab { list(number, sizeClass) }
        }
    }

    private func chunk(_ slab: Int, _ index: UInt32, _ sizeClass: UInt32) -> Chunk {
        memory.chunk(of: UInt32(slab) &<< 14 &+ index &<< (2 &+ sizeClass))
    }

    private mutating func addSlab(_ sizeClass: UInt32) {
        let number: Int
        if let empty = emptySlabs.popLast() {
            number = Int(empty)
        } else {
            number = slabs.count
            slabs.append(Slab())
        }
        slabs[number] = Slab(isAssigned: true)
        memory.sizeClasses.start.set8(number, UInt8(sizeClass))
        if number == 0 {
            // Chunk 0 is the root's name.
            slabs[0].fresh = 1
            slabs[0].used = 1
            pageBytes &+= 4_096
        }
        list(number, sizeClass)
    }

    private mutating func giveBack(_ number: Int, _ sizeClass: UInt32) {
        unlist(number, sizeClass)
        let bytes = (Int(slabs[number].fresh) &* memory.stride(sizeClass) &+ 4_095) & ~4_095
        unsafe ix_discard((memory.slabs.start + number &* TrieMemory.slabStride).raw, bytes)
        pageBytes &-= bytes
        freeBytes &-= Int(slabs[number].fresh) &* memory.stride(sizeClass)
        freeChunks[Int(sizeClass)] &-= Int(slabs[number].fresh)
        slabs[number] = Slab()
        emptySlabs.append(Int32(number))
    }

    private mutating func list(_ number: Int, _ sizeClass: UInt32) {
        let head = withRoom[Int(sizeClass)]
        slabs[number].next = head
        slabs[number].previous = -1
        slabs[number].isListed = true
        if head >= 0 { slabs[Int(head)].previous = Int32(number) }
        withRoom[Int(sizeClass)] = Int32(number)
    }

    private mutating func unlist(_ number: Int, _ sizeClass: UInt32) {
        let slab = slabs[number]
        if slab.previous >= 0 {
            slabs[Int(slab.previous)].next = slab.next
        } else {
            withRoom[Int(sizeClass)] = slab.next
        }
        if slab.next >= 0 { slabs[Int(slab.next)].previous = slab.previous }
        slabs[number].isListed = false
        slabs[number].next = -1
        slabs[number].previous = -1
    }
}
