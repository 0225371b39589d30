// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The whole of an exact index in a file.
extension EventWriter {
    /// `notes` are the owner's own.
    func snapshot(notes: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.varint(unit)
        writer.varint(log.map { $0.first + $0.count } ?? changes)
        writer.section(notes, compress: false)
        writer.varint(adapters.count)
        for adapter in adapters.sorted() { writer.text(adapter) }
        writer.varint(domains.count)
        for domain in domains {
            writer.varint(domain.factors.count)
            for factor in domain.factors { writer.varint(factor) }
        }
        writer.varint(sources.count)
        for id in sources.keys.sorted() {
            guard let source = sources[id] else { continue }
            write(source, &writer)
        }
        for domain in domains { domain.trie.writeSnapshot(&writer) }
        return SnapshotFormat.framed(writer.bytes, magic: SnapshotFormat.snapshotMagic)
    }

    private func write(_ source: EventSource, _ writer: inout ByteWriter) {
        writer.varint(source.id.holder)
        writer.varint(source.id.rank)
        writer.varint(source.domain)
        writer.varint(source.sharedBlocks)
        writer.varint(source.doubtfulSince == nil ? 0 : 1)
        writer.varint(source.groups.count)
        for (number, group) in source.groups {
            writer.varint(number)
            writer.varint(group.attention == .full ? 0 : 1)
            writer.varint(group.blockSize)
            guard let lane = group.lane else {
                writer.varint(0)
                continue
            }
            writer.varint(UInt32(lane) + 1)
            for ages in domains[source.domain].trie.ages(ofHolder: lane).ages {
                writer.varint(ages.age)
                writer.varint(ages.oldest)
            }
        }
    }

    /// From a file. Publishers that were doubtful still are, since `now`.
    init(snapshot file: [UInt8], budget: Int, now: Double) throws(SnapshotError) {
        var reader = ByteReader(try SnapshotFormat.body(of: file, magic: SnapshotFormat.snapshotMagic))
        let unit = try reader.count(upTo: KVEventDecoder.maxBlockSize)
        guard unit > 0 else { throw .contradictory("a unit of no tokens") }
        let changes = try reader.varint()
        let notes = Array(try reader.section(upTo: SnapshotFormat.maxNotes))
        var adapters = Set<String>()
        for _ in 0..<(try reader.count(upTo: Self.maxAdapters)) { adapters.insert(try reader.text()) }
        var domains: [HashDomain] = []
        let count = try reader.count(upTo: Self.maxDomains)
        guard count > 0 else { throw .contradictory("no hash domain") }
        for _ in 0..<count { domains.append(try Self.readDomain(&reader, budget)) }
        var sources: [EventSourceID: EventSource] = [:]
        var holders = [[RestoredHolder]](repeating: [], count: count)
        for _ in 0..<(try reader.count(upTo: Self.maxSources)) {
            let source = try Self.readSource(&reader, &holders, now)
            guard sources.updateValue(source, forKey: source.id) == nil else {
                throw .contradictory("a publisher twice")
            }
        }
        var left = budget
        for (number, domain) in domains.enumerated() {
            domain.trie.setBudget(left)
            try domain.trie.readSnapshot(&reader, holders: holders[number])
            left -= domain.trie.bytes
        }
        guard reader.left == 0 else { throw .contradictory("bytes behind the end") }
        self.init(domains: domains, adapters: adapters, sources: sources, budget: budget, unit: unit)
        self.changes = changes
        self.notes = notes
    }

    private static func readDomain(_ reader: inout ByteReader, _ budget: Int) throws(SnapshotError) -> HashDomain {
        var domain: HashDomain
        do { domain = try HashDomain(budget: budget) } catch { throw .noMemory }
        for _ in 0..<(try reader.count(upTo: HashDomain.maxFactors)) {
            let factor = try reader.count(upTo: KVEventDecoder.maxBlockSize)
            guard factor > 0, domain.factors.last.map({ $0 < factor }) ?? true else {
                throw .contradictory("block sizes")
            }
            domain.factors.append(factor)
        }
        return domain
    }

    private static func readSource(
        _ reader: inout ByteReader,
        _ holders: inout [[RestoredHolder]],
        _ now: Double
    ) throws(SnapshotError) -> EventSource {
        let holder = UInt32(truncatingIfNeeded: try reader.count(upTo: Int(UInt32.max)))
        var source = EventSource(
            id: EventSourceID(holder: holder, rank: try reader.count(upTo: KVEventDecoder.maxRank))
        )
        source.domain = try reader.count(upTo: holders.count - 1)
        source.sharedBlocks = try reader.count(upTo: Int.max)
        source.doubtfulSince = try reader.count(upTo: 1) == 1 ? now : nil
        for _ in 0..<(try reader.count(upTo: EventSource.maxGroups)) {
            let number = try reader.count(upTo: KVEventDecoder.maxRank)
            guard source.groups.last.map({ $0.number < number }) ?? true else { throw .contradictory("groups") }
            var group = EventSource.Group()
            group.attention = try reader.count(upTo: 1) == 0 ? .full : .other
            group.blockSize = try reader.count(upTo: KVEventDecoder.maxBlockSize)
            let lane = try reader.count(upTo: TrieMemory.laneCount - Int(TrieMemory.lanesPerHolder))
            if lane > 0 {
                group.lane = UInt16(lane - 1)
                var restored = RestoredHolder(lane: UInt16(lane - 1), ages: [])
                for _ in 0..<TrieMemory.lanesPerHolder {
                    let age = UInt16(truncatingIfNeeded: try reader.count(upTo: 65_535))
                    restored.ages.append((age, UInt16(truncatingIfNeeded: try reader.count(upTo: 65_535))))
                }
                holders[source.domain].append(restored)
            }
            source.groups.append((number, group))
        }
        return source
    }
}
