// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Writes batches of KV events as vLLM 0.32 does: events as maps, hashes as unsigned integers.
package struct KVEventEncoder: Sendable {
    private var events: [UInt8] = []
    private var count = 0

    package init() {}

    package var isEmpty: Bool { count == 0 }

    /// Blocks that were filled, in order behind `parent`; `tokens` are those of all blocks together.
    package mutating func stored(
        _ hashes: [UInt64],
        parent: UInt64?,
        tokens: [UInt32],
        blockSize: Int,
        tier: CacheTier = .gpu,
        adapter: String? = nil,
        cacheSalt: String? = nil
    ) {
        count += 1
        let isSalted = parent == nil && cacheSalt != nil
        map(isSalted ? 11 : 10)
        string("type")
        string("BlockStored")
        string("block_hashes")
        array(hashes.count)
        for hash in hashes { integer(hash) }
        string("parent_block_hash")
        if let parent { integer(parent) } else { null() }
        string("token_ids")
        array(tokens.count)
        for token in tokens { integer(UInt64(token)) }
        string("block_size")
        integer(UInt64(max(blockSize, 0)))
        string("lora_id")
        null()
        string("medium")
        string(tier.name.uppercased())
        string("lora_name")
        if let adapter { string(adapter) } else { null() }
        if isSalted, let cacheSalt {
            string("extra_keys")
            array(hashes.count)
            for block in 0..<hashes.count {
                if block == 0 {
                    array(1)
                    string(cacheSalt)
                } else {
                    null()
                }
            }
        }
        string("group_idx")
        integer(0)
        string("kv_cache_spec_kind")
        string("full_attention")
    }

    /// Blocks that were evicted.
    package mutating func removed(_ hashes: [UInt64], tier: CacheTier = .gpu) {
        count += 1
        map(4)
        string("type")
        string("BlockRemoved")
        string("block_hashes")
        array(hashes.count)
        for hash in hashes { integer(hash) }
        string("medium")
        string(tier.name.uppercased())
        string("group_idx")
        integer(0)
    }

    /// The cache was reset.
    package mutating func cleared() {
        count += 1
        map(1)
        string("type")
        string("AllBlocksCleared")
    }

    /// The payload of a batch with all events since the last one, which are then forgotten.
    package mutating func batch(time: Double, rank: Int = 0) -> [UInt8] {
        let body = events
        let total = count
        events = []
        count = 0
        array(3)
        events.append(0xCB)
        big(time.bitPattern)
        array(total)
        events += body
        integer(UInt64(max(rank, 0)))
        defer { events = [] }
        return events
    }

    /// The middle frame of a message: the batch's number, eight bytes in network order.
    package static func sequenceFrame(_ number: UInt64) -> [UInt8] {
        (0..<8).map { UInt8(truncatingIfNeeded: number >> (56 - 8 * UInt64($0))) }
    }

    private mutating func big<Value: FixedWidthInteger>(_ value: Value) {
        for shift in stride(from: Value.bitWidth - 8, through: 0, by: -8) {
            events.append(UInt8(truncatingIfNeeded: value >> Value(shift)))
        }
    }

    private mutating func null() { events.append(0xC0) }

    private mutating func integer(_ value: UInt64) {
        switch value {
        case 0...0x7F: events.append(UInt8(value))
        case 0x80...0xFF: events += [0xCC, UInt8(value)]
        case 0x100...0xFFFF:
            events.append(0xCD)
            big(UInt16(value))
        case 0x1_0000...0xFFFF_FFFF:
            events.append(0xCE)
            big(UInt32(value))
        default:
            events.append(0xCF)
            big(value)
        }
    }

    private mutating func array(_ count: Int) {
        switch count {
        case 0...15: events.append(0x90 | UInt8(count))
        case 16...0xFFFF:
            events.append(0xDC)
            big(UInt16(count))
        default:
            events.append(0xDD)
            big(UInt32(truncatingIfNeeded: count))
        }
    }

    private mutating func map(_ count: Int) { events.append(0x80 | UInt8(count)) }

    private mutating func string(_ text: String) {
        let bytes = Array(text.utf8)
        switch bytes.count {
        case 0...31: events.append(0xA0 | UInt8(bytes.count))
        case 32...0xFF: events += [0xD9, UInt8(bytes.count)]
        case 0x100...0xFFFF:
            events.append(0xDA)
            big(UInt16(bytes.count))
        default:
            events.append(0xDB)
            big(UInt32(truncatingIfNeeded: bytes.count))
        }
        events += bytes
    }
}
