// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Builds a trie from its part of a snapshot. Nothing in the bytes is believed: what does not fit together is refused, and
/// the trie is thrown away by the caller.
extension TrieWriter {
    /// The trie must be new. `isOpen` says which lanes the snapshot's owner has opened.
    mutating func readSnapshot(_ reader: inout ByteReader, isOpen: (UInt16) -> Bool) throws(SnapshotError) {
        let chunks = try reader.count(upTo: TrieMemory.maxSlabs * 4_096)
        let most = chunks * Chunk.maxCapacity
        var shapes = ByteReader(try reader.section(upTo: chunks * 24 + 1))
        var owners = ByteReader(try reader.section(upTo: 1 << 32))
        var tags = ByteReader(try reader.section(upTo: chunks * 4))
        var texts = ByteReader(try reader.section(upTo: most * 2))
        var engines = ByteReader(try reader.section(upTo: most))
        var keys = ByteReader(try reader.section(upTo: most * 3))
        let ids = try readChunks(chunks, &shapes, &tags, &texts)
        try link(ids)
        prepareStep()
        engine.reserve(engines.left)
        for id in ids {
            let chunk = memory.chunk(of: id)
            try readHolders(chunk, &owners, isOpen)
            try readKeys(chunk, &keys, &engines)
        }
        guard shapes.left == 0, owners.left == 0, tags.left == 0, texts.left == 0, engines.left == 0, keys.left == 0
        else {
            throw .contradictory("columns of different lengths")
        }
        try readDuplicates(&reader)
        try readTwins(&reader)
    }

    private mutating func readChunks(
        _ count: Int,
        _ shapes: inout ByteReader,
        _ tags: inout ByteReader,
        _ texts: inout ByteReader
    ) throws(SnapshotError) -> [UInt32] {
        var ids: [UInt32] = []
        ids.reserveCapacity(count)
        var last = 0
        for _ in 0..<count {
            let id = last + 4 * (try shapes.count(upTo: 1 << TrieMemory.slotBits))
            guard id > last, id < memory.slabCount * TrieMemory.slotsPerSlab else { throw .tooLarge }
            let sizeClass = UInt32(try shapes.fixed(UInt8.self))
            let length = Int(try shapes.fixed(UInt8.self))
            let position = Int(try shapes.fixed(UInt8.self))
            let parent = Int64(id) - ZigZag.decode(try shapes.varint())
            guard sizeClass < 4, length <= 4 << sizeClass, position < Chunk.maxCapacity, parent >= 0, parent < 1 << 27,
                let chunk = slabs.restore(UInt32(id), sizeClass)
            else { throw .contradictory("chunk \(id)") }
            guard bytes <= budget else { throw .tooLarge }
            chunk.base.set32(Chunk.Offset.parent, UInt32(parent))
            chunk.base.set32(Chunk.Offset.tag, try tags.fixed(UInt32.self))
            chunk.setChildPositions(0)
            chunk.clearChildren()
            chunk.base.set16(Chunk.Offset.holderCount, 0)
            chunk.setShape(length: length, parentPosition: position, flags: Chunk.Flag.used)
            unsafe try texts.lend(2 * length) { text in
                for at in 0..<length {
                    let value = unsafe text.loadUnaligned(fromByteOffset: 2 &* at, as: UInt16.self)
                    chunk.fingerprints.set16(2 &* at, UInt16(littleEndian: value))
                }
            }
            ids.append(UInt32(id))
            last = id
        }
        slabs.finishRestoring()
        return ids
    }

    /// Hangs each chunk below its parent, and makes sure that all lead to the root.
    private mutating func link(_ ids: [UInt32]) throws(SnapshotError) {
        for id in ids {
            let chunk = memory.chunk(of: id)
            let parent = chunk.parent == 0 ? nil : memory.chunk(of: chunk.parent)
            if let parent {
                guard parent.id == chunk.parent, parent.flags & Chunk.Flag.used != 0,
                    chunk.parentPosition < parent.length
                else { throw .contradictory("the parent of chunk \(id)") }
            }
            prepareStep()
            guard link(chunk, below: parent, position: chunk.parentPosition) else { throw .tooLarge }
        }
        // Marks on what is known to lead to the root, so that each chunk is walked over once.
        var isRooted = [Bool](repeating: false, count: slabs.slabCount * TrieMemory.slotsPerSlab / 4)
        for id in ids {
            var path: [UInt32] = []
            var at = id
            while at != 0, !isRooted[Int(at / 4)] {
                guard path.count <= ids.count else { throw .contradictory("a chunk that is its own ancestor") }
                path.append(at)
                at = memory.chunk(of: at).parent
            }
            for passed in path { isRooted[Int(passed / 4)] = true }
        }
    }

    private mutating func readHolders(
        _ chunk: Chunk,
        _ owners: inout ByteReader,
        _ isOpen: (UInt16) -> Bool
    ) throws(SnapshotError) {
        let count = try owners.count(upTo: TrieMemory.laneCount)
        let all = Chunk.bits(from: 0, count: chunk.length)
        prepareStep()
        var lane = 0
        for at in 0..<count {
            let packed = try owners.count(upTo: 2 * TrieMemory.laneCount)
            lane += packed / 2
            guard lane < TrieMemory.laneCount, at == 0 || packed > 1, isOpen(UInt16(lane)) else {
                throw .contradictory("the holders of chunk \(chunk.id)")
            }
            let mask = packed % 2 == 0 ? all : UInt32(truncatingIfNeeded: try owners.count(upTo: Int(UInt32.max)))
            let age = UInt16(truncatingIfNeeded: try owners.count(upTo: 65_535))
            guard mask != 0, mask & ~all == 0 else { throw .contradictory("a mask of chunk \(chunk.id)") }
            guard restoreHolder(chunk, HolderWord(mask: mask, lane: UInt16(lane), age: age)) else { throw .tooLarge }
        }
        guard count > 0 || chunk.hasChildren else { throw .contradictory("chunk \(chunk.id), which nobody holds") }
        let held = memory.heldMask(chunk)
        liveBlocks &+= held.nonzeroBitCount
        if held != all { chunk.insertFlags(Chunk.Flag.hasDead) }
        guard bytes <= budget else { throw .tooLarge }
    }

    /// The engine's part of each held block.
    private mutating func readKeys(
        _ chunk: Chunk,
        _ keys: inout ByteReader,
        _ engines: inout ByteReader
    ) throws(SnapshotError) {
        let held = memory.heldMask(chunk)
        pendingKeys.removeAll(keepingCapacity: true)
        var left = held
        var pending = pendingKeys
        unsafe try keys.lend(3 * held.nonzeroBitCount) { bytes in
            var at = 0
            while left != 0 {
                let key = unsafe UInt32(bytes[at]) | UInt32(bytes[at &+ 1]) &<< 8 | UInt32(bytes[at &+ 2]) &<< 16
                engine.prefetch(key)
                pending.append((left.trailingZeroBitCount, key))
                left &= left &- 1
                at &+= 3
            }
        }
        pendingKeys = pending
        unsafe try engines.lend(chunk.length) { bytes in
            for at in 0..<bytes.count { unsafe chunk.engineFingerprints.set8(at, bytes[at]) }
        }
        for name in pending {
            guard engine.insert(name.key, slot: chunk.slot(name.position)) else { throw .tooLarge }
        }
    }

    private mutating func readDuplicates(_ reader: inout ByteReader) throws(SnapshotError) {
        for _ in 0..<(try reader.count(upTo: reader.left)) {
            let slot = UInt32(try reader.count(upTo: memory.slabCount * TrieMemory.slotsPerSlab - 1))
            let lane = UInt16(try reader.count(upTo: TrieMemory.laneCount - 1))
            let copies = UInt16(try reader.count(upTo: 65_535))
            let chunk = memory.chunk(of: slot)
            let bit: UInt32 = 1 &<< UInt32(TrieMemory.position(of: slot, in: chunk))
            guard copies > 0, chunk.flags & Chunk.Flag.used != 0,
                memory.heldMask(chunk, lanes: lane, through: lane) & bit != 0
            else { throw .contradictory("copies of a block that is not held") }
            duplicates.set(slot, lane, copies)
            chunk.insertFlags(Chunk.Flag.hasDuplicates)
        }
    }

    private mutating func readTwins(_ reader: inout ByteReader) throws(SnapshotError) {
        for _ in 0..<(try reader.count(upTo: reader.left)) {
            let slot = UInt32(try reader.count(upTo: memory.slabCount * TrieMemory.slotsPerSlab - 1))
            let key = try reader.count(upTo: (1 << 24) - 1)
            let rest = try reader.fixed(UInt32.self)
            let chunk = memory.chunk(of: slot)
            let bit: UInt32 = 1 &<< UInt32(TrieMemory.position(of: slot, in: chunk))
            guard chunk.flags & Chunk.Flag.used != 0, memory.heldMask(chunk) & bit != 0 else {
                throw .contradictory("a twin that is not held")
            }
            let fingerprint = memory.engineFingerprint(of: slot)
            twins.insert(
                BlockName(raw: UInt64(key) &<< 40 | UInt64(fingerprint) &<< 32 | UInt64(rest)),
                at: slot
            )
            chunk.markTwins()
        }
    }
}
