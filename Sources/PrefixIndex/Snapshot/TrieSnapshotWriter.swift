// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One trie's part of a snapshot: columns over all chunks, in the order of their slots.
///
/// Slots are kept as they are, because the tags of chunks are hashes of them. The columns of topology and holders repeat
/// and go through lz4; fingerprints and keys are random and stay raw: 2 + 1 + 3 bytes per block, and 4 per chunk.
extension TrieWriter {
    /// To be called while no walk is under way: no chunk waits to be freed then.
    func writeSnapshot(_ writer: inout ByteWriter) {
        var shapes = ByteWriter()
        var owners = ByteWriter()
        var tags = ByteWriter()
        var texts = ByteWriter()
        var engines = ByteWriter()
        var keys = ByteWriter()
        let keyOfSlot = unsafe engineKeys()
        defer { unsafe keyOfSlot.deallocate() }
        var chunks = 0
        var last: UInt32 = 0
        forEachChunk { chunk in
            chunks += 1
            shapes.varint((chunk.id &- last) / 4)
            last = chunk.id
            shapes.bytes += [UInt8(chunk.sizeClass), UInt8(chunk.length), UInt8(chunk.parentPosition)]
            shapes.varint(ZigZag.encode(Int64(chunk.id) - Int64(chunk.parent)))
            tags.fixed(chunk.tag)
            writeHolders(chunk, &owners)
            let held = memory.heldMask(chunk)
            for position in 0..<chunk.length {
                texts.fixed(chunk.fingerprints.word16(2 &* position))
                // Of blocks that nobody holds too: they come back under the same hash.
                engines.bytes.append(chunk.engineFingerprints.word8(position))
                guard held & (1 &<< UInt32(position)) != 0 else { continue }
                let key = unsafe keyOfSlot[Int(chunk.slot(position))]
                keys.bytes.append(UInt8(truncatingIfNeeded: key))
                keys.bytes.append(UInt8(truncatingIfNeeded: key &>> 8))
                keys.bytes.append(UInt8(truncatingIfNeeded: key &>> 16))
            }
        }
        writer.varint(chunks)
        writer.section(shapes.bytes, compress: true)
        writer.section(owners.bytes, compress: true)
        writer.section(tags.bytes, compress: false)
        writer.section(texts.bytes, compress: false)
        writer.section(engines.bytes, compress: false)
        writer.section(keys.bytes, compress: false)
        writer.varint(duplicates.count)
        for shard in 0..<DuplicateCounts.shardCount {
            for entry in duplicates.entries(inShard: shard) {
                writer.varint(entry.slot)
                writer.varint(entry.lane)
                writer.varint(entry.copies)
            }
        }
        let pairs = twins.entries
        writer.varint(pairs.count)
        for twin in pairs {
            writer.varint(twin.slot)
            unsafe writer.varint(keyOfSlot[Int(twin.slot)])
            writer.fixed(twin.rest)
        }
    }

    /// Lanes in ascending order, as differences; a mask only where it is not all of the chunk.
    private func writeHolders(_ chunk: Chunk, _ writer: inout ByteWriter) {
        let count = chunk.holderCount
        writer.varint(count)
        guard count > 0 else { return }
        let list = memory.holderList(chunk, count)
        let all = Chunk.bits(from: 0, count: chunk.length)
        var last: UInt16 = 0
        for at in 0..<count {
            let word = HolderWord(raw: list.word64(8 &* at))
            let isWhole = word.mask == all
            writer.varint(UInt32(word.lane &- last) << 1 | (isWhole ? 0 : 1))
            if !isWhole { writer.varint(word.mask) }
            writer.varint(word.age)
            last = word.lane
        }
    }

    private func forEachChunk(_ body: (Chunk) -> Void) {
        for slab in 0..<slabs.slabCount {
            let sizeClass = memory.sizeClass(of: UInt32(slab) &<< 14)
            for index in 0..<slabs.fresh(inSlab: slab) {
                let chunk = memory.chunk(of: UInt32(slab) &<< 14 &+ UInt32(index) &<< (2 &+ sizeClass))
                if chunk.id != 0, chunk.flags & Chunk.Flag.used != 0 { body(chunk) }
            }
        }
    }

    /// The table's keys by slot; 0 where none leads there.
    private func engineKeys() -> UnsafeMutablePointer<UInt32> {
        let keys = UnsafeMutablePointer<UInt32>.allocate(capacity: slabs.slabCount * TrieMemory.slotsPerSlab)
        unsafe keys.initialize(repeating: 0, count: slabs.slabCount * TrieMemory.slotsPerSlab)
        engine.forEach { key, slot in unsafe keys[Int(slot)] = key }
        return unsafe keys
    }
}

/// Small numbers of either sign as small numbers.
enum ZigZag {
    static func encode(_ value: Int64) -> UInt64 { UInt64(bitPattern: value &<< 1 ^ value &>> 63) }
    static func decode(_ value: UInt64) -> Int64 { Int64(bitPattern: value &>> 1) ^ -Int64(bitPattern: value & 1) }
}
