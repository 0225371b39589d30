// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Reads a batch of KV events as vLLM and SGLang publish it: an array [time, events, data-parallel rank].
///
/// An event is a map with the key "type" (vLLM since #42892) or an array that begins with its type (before, and SGLang).
/// Fields that are not known are passed over, missing ones at the end too.
package struct KVEventDecoder {
    private var reader: MessagePackReader
    /// Events not yet read.
    package private(set) var eventsLeft: Int
    /// Seconds since 1970, as the engine's clock had it.
    package let time: Double

    /// For use while the payload is borrowed. Throws where it is no batch.
    package init(_ payload: UnsafeRawBufferPointer) throws(MessagePackError) {
        guard var reader = unsafe MessagePackReader(payload) else { throw .truncated }
        let fields = try reader.arrayCount()
        guard fields >= 2 else { throw .truncated }
        time = try reader.double()
        eventsLeft = try reader.arrayCount()
        self.reader = reader
    }

    /// The rank that a batch names behind its events; nil where it names none.
    package static func rank(_ payload: UnsafeRawBufferPointer) throws(MessagePackError) -> Int? {
        guard var reader = unsafe MessagePackReader(payload) else { throw .truncated }
        guard try reader.arrayCount() >= 3 else { return nil }
        try reader.skip()
        try reader.skip()
        if try reader.takeNil() { return nil }
        return try reader.count(upTo: maxRank)
    }

    /// The same for a batch in an array; nil too where it cannot be read.
    package static func rank(of payload: [UInt8]) -> Int? {
        unsafe (try? payload.withUnsafeBytes { unsafe try rank($0) }) ?? nil
    }

    /// The block sizes that a batch's stored events name, as far as it can be read.
    package static func blockSizes(of payload: [UInt8]) -> [Int] {
        var sizes: [Int] = []
        let event = KVEvent()
        unsafe payload.withUnsafeBytes { bytes in
            guard var decoder = unsafe try? KVEventDecoder(bytes) else { return }
            while (try? decoder.next(event)) == true {
                if event.kind == .stored, event.blockSize > 0 { sizes.append(event.blockSize) }
            }
        }
        return sizes
    }

    /// More ranks than any server has.
    static let maxRank = 65_535
    /// Tokens of a block: engines go to 1,024; more would only be a way to hash megabytes at once.
    static let maxBlockSize = 65_536
    /// Tokens, and blocks, of one event: twice the longest context of any model. A longer event ends its batch.
    static let maxTokens = 1 << 22
    static let maxHashes = 1 << 20

    /// Bytes of an adapter's name: the index remembers names, and a path is the longest that anybody gives.
    static let maxNameBytes = 4_096

    /// Fills `event` with the next one. False behind the last.
    package mutating func next(_ event: KVEvent) throws(MessagePackError) -> Bool {
        guard eventsLeft > 0 else { return false }
        eventsLeft -= 1
        event.reset()
        if try reader.isMapNext() { try readMap(event) } else { try readArray(event) }
        return true
    }

    private mutating func readMap(_ event: KVEvent) throws(MessagePackError) {
        for _ in 0..<(try reader.mapCount()) {
            let key = unsafe try reader.raw()
            switch unsafe KVEventField(key) {
            case .type: event.kind = unsafe Self.kind(try reader.raw())
            case let field?: try read(field, event)
            case nil: try reader.skip()
            }
        }
    }

    private static let storedFields: [KVEventField] = [
        .hashes, .parent, .tokens, .blockSize, .adapterNumber, .medium, .adapterName, .extraKeys, .group, .attention,
    ]
    private static let removedFields: [KVEventField] = [.hashes, .medium, .group]

    private mutating func readArray(_ event: KVEvent) throws(MessagePackError) {
        let count = try reader.arrayCount()
        guard count > 0 else { return }
        event.kind = unsafe Self.kind(try reader.raw())
        let fields =
            switch event.kind {
            case .stored: Self.storedFields
            case .removed: Self.removedFields
            case .cleared, .other: [KVEventField]()
            }
        for index in 0..<(count - 1) {
            if index < fields.count { try read(fields[index], event) } else { try reader.skip() }
        }
    }

    private mutating func read(_ field: KVEventField, _ event: KVEvent) throws(MessagePackError) {
        if try reader.takeNil() { return }
        switch field {
        case .type: try reader.skip()
        case .hashes: try readHashes(event)
        case .parent: event.parent = try readHash()
        case .tokens:
            let count = try reader.arrayCount()
            guard count <= Self.maxTokens else { throw .outOfRange }
            event.reserveTokens(count)
            event.tokenCount = 0
            unsafe try reader.tokens(count, to: event.tokenStart)
            event.tokenCount = count
        case .blockSize: event.blockSize = try reader.count(upTo: Self.maxBlockSize)
        case .adapterNumber:
            let number = try reader.integerBits()
            if event.adapter == nil { event.adapter = "lora:\(Int64(bitPattern: number))" }
        case .adapterName:
            let name = unsafe try reader.raw()
            guard name.count <= Self.maxNameBytes else { throw .outOfRange }
            event.adapter = unsafe String(decoding: name, as: UTF8.self)
        case .medium: event.tier = unsafe Self.tier(try reader.raw())
        case .extraKeys: try readExtraKeys(event)
        case .group: event.group = try reader.count(upTo: Self.maxRank)
        case .attention: event.attention = unsafe Self.attention(try reader.raw())
        }
    }

    private mutating func readHashes(_ event: KVEvent) throws(MessagePackError) {
        let count = try reader.arrayCount()
        guard count <= Self.maxHashes else { throw .outOfRange }
        event.reserveHashes(count)
        event.hashCount = 0
        let plain = unsafe reader.hashes(count, to: event.hashStart)
        for index in plain..<count { unsafe event.hashStart[index] = try readHash() }
        event.hashCount = count
    }

    /// An integer of either sign, or bytes, of which the last eight count: vLLM's integers are those of its bytes.
    @inline(__always)
    private mutating func readHash() throws(MessagePackError) -> UInt64 {
        guard try reader.isRawNext() else { return try reader.integerBits() }
        var hash: UInt64 = 0
        let bytes = unsafe try reader.raw()
        for index in max(bytes.count - 8, 0)..<bytes.count { hash = unsafe hash << 8 | UInt64(bytes[index]) }
        return hash
    }

    /// Per block nil or a list of what else its hash holds: strings, or pairs of a hash and an offset.
    private mutating func readExtraKeys(_ event: KVEvent) throws(MessagePackError) {
        event.extraKeys.removeAll(keepingCapacity: true)
        for block in 0..<(try reader.arrayCount()) {
            if try reader.takeNil() { continue }
            var seed: UInt64 = 0
            for _ in 0..<(try reader.arrayCount()) { try join(event, &seed) }
            if seed != 0 { event.extraKeys.append((block, seed)) }
        }
    }

    private mutating func join(_ event: KVEvent, _ seed: inout UInt64) throws(MessagePackError) {
        if try reader.isRawNext() {
            let bytes = unsafe try reader.raw()
            // The adapter stands in its own field; older engines repeat it here.
            if let adapter = event.adapter, unsafe Array(adapter.utf8) == Array(bytes) { return }
            seed = unsafe BlockHash.saltSeed(seed, bytes)
            return
        }
        // Anything else is told apart by its bytes.
        let start = unsafe reader.at
        try reader.skip()
        seed = unsafe BlockHash.saltSeed(seed, UnsafeRawBufferPointer(start: start, count: reader.at - start))
    }

    private static func kind(_ name: UnsafeRawBufferPointer) -> KVEvent.Kind {
        if unsafe name.elementsEqual("BlockStored".utf8) { return .stored }
        if unsafe name.elementsEqual("BlockRemoved".utf8) { return .removed }
        if unsafe name.elementsEqual("AllBlocksCleared".utf8) { return .cleared }
        return .other
    }

    /// Engines write GPU, CPU and STORAGE, in either case; other media are some kind of storage.
    private static func tier(_ name: UnsafeRawBufferPointer) -> CacheTier {
        guard let first = unsafe name.first else { return .gpu }
        switch first | 0x20 {
        case UInt8(ascii: "g"): return .gpu
        case UInt8(ascii: "c"): return .cpu
        default: return .storage
        }
    }

    private static func attention(_ name: UnsafeRawBufferPointer) -> KVEvent.AttentionKind {
        let full = ["full_attention", "mla_attention", "sink_full_attention"]
        return full.contains { unsafe name.elementsEqual($0.utf8) } ? .full : .other
    }
}

/// The fields of an event that the index uses.
enum KVEventField {
    case type, hashes, parent, tokens, blockSize, adapterNumber, adapterName, medium, extraKeys, group, attention

    /// By a map's key; told apart by length first.
    init?(_ key: UnsafeRawBufferPointer) {
        func matches(_ name: StaticString) -> Bool {
            unsafe key.elementsEqual(UnsafeBufferPointer(start: name.utf8Start, count: name.utf8CodeUnitCount))
        }
        switch key.count {
        case 4 where matches("type"): self = .type
        case 6 where matches("medium"): self = .medium
        case 7 where matches("lora_id"): self = .adapterNumber
        case 9 where matches("token_ids"): self = .tokens
        case 9 where matches("lora_name"): self = .adapterName
        case 9 where matches("group_idx"): self = .group
        case 10 where matches("block_size"): self = .blockSize
        case 10 where matches("extra_keys"): self = .extraKeys
        case 12 where matches("block_hashes"): self = .hashes
        case 17 where matches("parent_block_hash"): self = .parent
        case 18 where matches("kv_cache_spec_kind"): self = .attention
        default: return nil
        }
    }
}
