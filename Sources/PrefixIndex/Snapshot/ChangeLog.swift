// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Changes of an exact index since they were last taken, for a second picker: 16 bytes per stored block, 9 per removed one.
///
///     body     varint unit, varint number of the first change, varint count, then the changes
///     change   u8 kind; then, as the kind needs: varint holder, varint rank, varint group, u8 tier, names, texts
struct ChangeLog {
    enum Kind: UInt8 {
        case store = 1
        case move = 2
        case remove = 3
        case clear = 4
        case removeHolder = 5
        case doubt = 6
        /// The engine said that its cache is empty.
        case empty = 7
        /// The publisher's hashes belong to another domain.
        case domain = 8
    }

    /// Of these changes.
    private(set) var count: UInt64 = 0
    private(set) var first: UInt64
    private var writer = ByteWriter()
    /// So much was not taken that the rest was dropped: a snapshot is needed.
    private(set) var hasOverflown = false

    /// About four million stored blocks.
    static let maxBytes = 64 << 20

    init(first: UInt64) { self.first = first }

    mutating func store(
        _ run: EventWriter.StoredRun,
        _ id: EventSourceID,
        _ group: Int,
        _ names: [UInt64],
        _ locals: [UInt64]
    ) {
        guard begin(.store, id) else { return }
        writer.varint(group)
        writer.bytes.append(run.tier.rawValue)
        writer.varint(run.blockSize)
        writer.bytes.append((run.adapter == nil ? 0 : 1) | (run.parent == nil ? 0 : 2))
        if let adapter = run.adapter { writer.text(adapter) }
        if let parent = run.parent { writer.fixed(parent.raw) }
        writer.varint(names.count)
        for name in names { writer.fixed(name) }
        for at in 0..<names.count { writer.fixed(locals[at]) }
    }

    mutating func move(_ name: BlockName, _ tier: CacheTier, _ id: EventSourceID, _ group: Int) {
        named(.move, name, tier, id, group)
    }

    mutating func remove(_ name: BlockName, _ tier: CacheTier, _ id: EventSourceID, _ group: Int) {
        named(.remove, name, tier, id, group)
    }

    mutating func clear(_ id: EventSourceID) { _ = begin(.clear, id) }
    mutating func doubt(_ id: EventSourceID) { _ = begin(.doubt, id) }
    mutating func empty(_ id: EventSourceID) { _ = begin(.empty, id) }

    mutating func change(_ id: EventSourceID, toDomain domain: Int) {
        if begin(.domain, id) { writer.varint(domain) }
    }

    mutating func remove(_ holder: UInt32) { _ = begin(.removeHolder, EventSourceID(holder: holder, rank: 0)) }

    /// The file of all changes so far; the log is empty afterwards.
    mutating func take(unit: Int) -> [UInt8] {
        var body = ByteWriter()
        body.varint(unit)
        body.varint(first)
        body.varint(count)
        body.bytes += writer.bytes
        self = ChangeLog(first: first + count)
        return SnapshotFormat.framed(body.bytes, magic: SnapshotFormat.deltaMagic)
    }

    private mutating func named(_ kind: Kind, _ name: BlockName, _ tier: CacheTier, _ id: EventSourceID, _ group: Int) {
        guard begin(kind, id) else { return }
        writer.varint(group)
        writer.bytes.append(tier.rawValue)
        writer.fixed(name.raw)
    }

    private mutating func begin(_ kind: Kind, _ id: EventSourceID) -> Bool {
        count += 1
        guard writer.bytes.count < Self.maxBytes else {
            hasOverflown = true
            return false
        }
        writer.bytes.append(kind.rawValue)
        writer.varint(id.holder)
        writer.varint(id.rank)
        return true
    }
}

/// One change as a second picker reads it.
struct IndexChange {
    var kind: ChangeLog.Kind
    var source: EventSourceID
    var group = 0
    var domain = 0
    var tier = CacheTier.gpu
    var blockSize = 0
    var adapter: String?
    var parent: BlockName?
    var names: [UInt64] = []
    var locals: [UInt64] = []

    init(_ reader: inout ByteReader) throws(SnapshotError) {
        guard let kind = ChangeLog.Kind(rawValue: try reader.fixed(UInt8.self)) else {
            throw .contradictory("a change of no known kind")
        }
        self.kind = kind
        let holder = UInt32(truncatingIfNeeded: try reader.count(upTo: Int(UInt32.max)))
        source = EventSourceID(holder: holder, rank: try reader.count(upTo: KVEventDecoder.maxRank))
        if kind == .domain { domain = try reader.count(upTo: EventWriter.maxDomains - 1) }
        guard [.store, .move, .remove].contains(kind) else { return }
        group = try reader.count(upTo: KVEventDecoder.maxRank)
        guard let tier = CacheTier(rawValue: try reader.fixed(UInt8.self)) else { throw .contradictory("a tier") }
        self.tier = tier
        guard kind == .store else {
            names = [try reader.fixed(UInt64.self)]
            return
        }
        blockSize = try reader.count(upTo: KVEventDecoder.maxBlockSize)
        let parts = try reader.fixed(UInt8.self)
        guard parts < 4 else { throw .contradictory("a stored run") }
        if parts & 1 != 0 { adapter = try reader.text() }
        if parts & 2 != 0 { parent = BlockName(raw: try reader.fixed(UInt64.self)) }
        let count = try reader.count(upTo: reader.left / 16)
        names.reserveCapacity(count)
        locals.reserveCapacity(count)
        for _ in 0..<count { names.append(try reader.fixed(UInt64.self)) }
        for _ in 0..<count { locals.append(try reader.fixed(UInt64.self)) }
    }
}

extension EventWriter {
    /// Applies what another picker's log holds. All of it is read before any of it is applied.
    mutating func apply(delta file: [UInt8], now: Double) throws(SnapshotError) -> EventOutcome {
        var reader = ByteReader(try SnapshotFormat.body(of: file, magic: SnapshotFormat.deltaMagic))
        let unit = try reader.count(upTo: KVEventDecoder.maxBlockSize)
        let first = try reader.varint()
        let count = try reader.count(upTo: reader.left)
        guard unit == self.unit else { throw .contradictory("another unit of tokens") }
        guard first == changes else { throw .gap(expected: changes, found: first) }
        var read: [IndexChange] = []
        for _ in 0..<count {
            let change = try IndexChange(&reader)
            if change.kind == .store, change.blockSize == 0 || change.blockSize % unit != 0 {
                throw .contradictory("a block size")
            }
            read.append(change)
        }
        guard reader.left == 0 else { throw .contradictory("bytes behind the end") }
        var outcome = EventOutcome()
        for change in read {
            if change.kind != .remove { flushRemovals(&outcome) }
            apply(change, now, &outcome)
        }
        flushRemovals(&outcome)
        changes += UInt64(count)
        return outcome
    }

    private mutating func apply(_ change: IndexChange, _ now: Double, _ outcome: inout EventOutcome) {
        switch change.kind {
        case .clear: clear(change.source)
        case .removeHolder: remove(holder: change.source.holder)
        case .doubt:
            // A publisher of which nothing could be stored so far is known to the other picker alone.
            sources[change.source] = sources[change.source] ?? EventSource(id: change.source)
            doubt(change.source, now: now)
        case .empty: empty(change.source)
        case .domain: follow(change.source, toDomain: change.domain)
        case .store, .move, .remove:
            guard
                var source = sources[change.source]
                    ?? (sources.count < Self.maxSources ? EventSource(id: change.source) : nil),
                let place = source.place(ofGroup: change.group)
            else {
                outcome.skippedEvents += 1
                return
            }
            if change.kind == .store {
                names = change.names
                locals = change.locals
                guard !names.isEmpty else { return }
                let run = StoredRun(
                    tier: change.tier,
                    adapter: change.adapter,
                    blockSize: change.blockSize,
                    parent: change.parent
                )
                store(run, &source, place, &outcome)
            } else {
                for name in change.names.map(BlockName.init(raw:)) {
                    if change.kind == .move {
                        move(name, change.tier, source, place, &outcome)
                    } else {
                        remove(name, change.tier, source, place, &outcome)
                    }
                }
            }
            sources[change.source] = source
        }
    }
}
