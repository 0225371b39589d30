// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The writer of an exact index.
@safe struct EventWriter {
    // Safe: the arrays of hashes are made as long as the event before they are written.
    private(set) var domains: [HashDomain]
    /// Names of adapters that events have told: a request for such a model starts from another first block.
    private(set) var adapters: Set<String> = []
    var viewHasChanged = false
    let budget: Int
    let unit: Int
    var sources: [EventSourceID: EventSource] = [:]
    /// Changes for a second picker, where one listens.
    var log: ChangeLog?
    /// Changes since the index began, where they are counted.
    var changes: UInt64 = 0
    /// What the owner wrote beside the snapshot that the index came from.
    var notes: [UInt8] = []
    private var total = EventOutcome()
    private let event = KVEvent()
    var names: [UInt64] = []
    /// At least as long as the event has units; those behind its blocks mean nothing.
    var locals: [UInt64] = []
    /// Removals whose memory is on its way.
    private var removals: [(lane: UInt16, domain: Int, name: BlockName)] = []

    /// Each domain costs 0.3 MB and a lookup per request. Fleets of one engine version have one; engines whose hashes are
    /// seeded at random have one each, and beyond this many go without an exact index.
    static let maxDomains = 32
    static let maxAdapters = 16_384
    static let maxSources = 16_000
    /// Removals that are looked up together: their cache misses overlap.
    private static let removalWindow = 32
    /// How long a doubtful part is believed. An engine under load turns its cache over in minutes.
    private static let doubtSeconds = 600.0

    init(first: HashDomain, budget: Int, unit: Int) {
        domains = [first]
        self.budget = budget
        self.unit = unit
    }

    /// As a snapshot had it.
    init(
        domains: [HashDomain],
        adapters: Set<String>,
        sources: [EventSourceID: EventSource],
        budget: Int,
        unit: Int
    ) {
        self.domains = domains
        self.adapters = adapters
        self.sources = sources
        self.budget = budget
        self.unit = unit
        for source in sources.values { rename(source) }
    }

    mutating func apply(_ payload: UnsafeRawBufferPointer, from id: EventSourceID) -> EventOutcome {
        var outcome = EventOutcome()
        guard let source = sources[id] ?? (sources.count < Self.maxSources ? EventSource(id: id) : nil) else {
            outcome.skippedEvents += 1
            total += outcome
            return outcome
        }
        var state = source
        do throws(MessagePackError) {
            var decoder = unsafe try KVEventDecoder(payload)
            while try decoder.next(event) {
                if event.kind != .removed { flushRemovals(&outcome) }
                apply(event, &state, &outcome)
            }
        } catch {
            outcome.isMalformed = true
        }
        flushRemovals(&outcome)
        sources[id] = state
        total += outcome
        return outcome
    }

    mutating func clear(_ id: EventSourceID) {
        guard var source = sources[id] else { return }
        log?.clear(id)
        close(&source)
        source.doubtfulSince = nil
        source.foreignDomains = []
        source.sharedBlocks = 0
        sources[id] = source
    }

    /// As another picker saw: the engine's cache is empty.
    mutating func empty(_ id: EventSourceID) {
        guard var source = sources[id] else { return }
        close(&source)
        sources[id] = source
    }

    /// As another picker found out: the publisher's hashes belong to this domain.
    mutating func follow(_ id: EventSourceID, toDomain domain: Int) {
        var source = sources[id] ?? EventSource(id: id)
        close(&source)
        while domains.count <= domain, let new = try? HashDomain(budget: budget) { domains.append(new) }
        viewHasChanged = true
        source.domain = min(domain, domains.count - 1)
        sources[id] = source
    }

    mutating func remove(holder: UInt32) {
        log?.remove(holder)
        for id in sources.keys.filter({ $0.holder == holder }).sorted() {
            if var source = sources.removeValue(forKey: id) { close(&source) }
        }
    }

    mutating func doubt(_ id: EventSourceID, now: Double) {
        guard var source = sources[id] else { return }
        log?.doubt(id)
        source.doubtfulSince = source.doubtfulSince ?? now
        for (_, group) in source.groups {
            guard let first = group.lane else { continue }
            for lane in first..<(first + TrieMemory.lanesPerHolder) {
                domains[source.domain].trie.age(lane, keeping: 30_000)
            }
        }
        sources[id] = source
        rename(source)
    }

    mutating func maintain(now: Double) -> Bool {
        for id in sources.keys.sorted() {
            guard var source = sources[id], let since = source.doubtfulSince, now - since >= Self.doubtSeconds else {
                continue
            }
            source.doubtfulSince = nil
            for (_, group) in source.groups {
                guard let first = group.lane else { continue }
                for lane in first..<(first + TrieMemory.lanesPerHolder) { domains[source.domain].trie.expire(lane) }
            }
            sources[id] = source
            rename(source)
        }
        var isBusy = false
        for domain in domains { isBusy = domain.trie.maintain() || isBusy }
        return isBusy
    }

    var statistics: EventIndexStatistics {
        let tries = domains.map(\.trie.statistics)
        return EventIndexStatistics(
            trie: TrieStatistics(
                bytes: tries.reduce(0) { $0 + $1.bytes },
                freeBytes: tries.reduce(0) { $0 + $1.freeBytes },
                budget: budget,
                chunks: tries.reduce(0) { $0 + $1.chunks },
                blocks: tries.reduce(0) { $0 + $1.blocks },
                heldBlocks: tries.reduce(0) { $0 + $1.heldBlocks },
                duplicates: tries.reduce(0) { $0 + $1.duplicates },
                twins: tries.reduce(0) { $0 + $1.twins },
                evictedBlocks: tries.reduce(0) { $0 + $1.evictedBlocks }
            ),
            domains: domains.count,
            sources: sources.count,
            doubtfulSources: sources.values.count { $0.doubtfulSince != nil },
            outcome: total
        )
    }

    // MARK: - Events

    private mutating func apply(_ event: KVEvent, _ source: inout EventSource, _ outcome: inout EventOutcome) {
        switch event.kind {
        case .other:
            outcome.skippedEvents += 1
        case .cleared:
            outcome.clears += 1
            log?.empty(source.id)
            close(&source)
        case .stored, .removed:
            guard let place = source.place(ofGroup: event.group) else {
                outcome.skippedEvents += 1
                return
            }
            if let attention = event.attention { source.groups[place].group.attention = attention }
            guard source.groups[place].group.attention == .full else {
                outcome.skippedEvents += 1
                return
            }
            if event.kind == .removed {
                remove(event, source, place, &outcome)
            } else if unsafe event.tokens.isEmpty {
                move(event, source, place, &outcome)
            } else {
                store(event, &source, place, &outcome)
            }
        }
    }

    private mutating func remove(
        _ event: KVEvent,
        _ source: EventSource,
        _ place: Int,
        _ outcome: inout EventOutcome
    ) {
        for index in unsafe 0..<event.hashes.count {
            unsafe remove(BlockName(engineHash: event.hashes[index]), event.tier, source, place, &outcome)
        }
    }

    /// Takes a block from a tier, soon: `flushRemovals` does it.
    mutating func remove(
        _ name: BlockName,
        _ tier: CacheTier,
        _ source: EventSource,
        _ place: Int,
        _ outcome: inout EventOutcome
    ) {
        guard let first = source.groups[place].group.lane else {
            outcome.unknownRemovals += 1
            return
        }
        domains[source.domain].trie.prefetch(name)
        log?.remove(name, tier, source.id, source.groups[place].number)
        removals.append((first + UInt16(tier.rawValue), source.domain, name))
        if removals.count >= Self.removalWindow { flushRemovals(&outcome) }
    }

    mutating func flushRemovals(_ outcome: inout EventOutcome) {
        guard !removals.isEmpty else { return }
        for removal in removals {
            if domains[removal.domain].trie.remove(removal.lane, removal.name) {
                outcome.removedBlocks += 1
            } else {
                outcome.unknownRemovals += 1
            }
        }
        removals.removeAll(keepingCapacity: true)
    }

    /// Known blocks that are now in another tier too.
    private mutating func move(_ event: KVEvent, _ source: EventSource, _ place: Int, _ outcome: inout EventOutcome) {
        for index in unsafe 0..<event.hashes.count {
            unsafe move(BlockName(engineHash: event.hashes[index]), event.tier, source, place, &outcome)
        }
    }

    mutating func move(
        _ name: BlockName,
        _ tier: CacheTier,
        _ source: EventSource,
        _ place: Int,
        _ outcome: inout EventOutcome
    ) {
        guard let first = source.groups[place].group.lane else {
            outcome.orphans += 1
            return
        }
        let step = domains[source.domain].trie.hold(first + UInt16(tier.rawValue), name, counted: true)
        if step.added + step.repeated > 0 { log?.move(name, tier, source.id, source.groups[place].number) }
        outcome.storedBlocks += step.added
        outcome.repeatedBlocks += step.repeated
        outcome.refusedBlocks += step.refused
        if step.isOrphan { outcome.orphans += 1 }
    }

    private mutating func store(
        _ event: KVEvent,
        _ source: inout EventSource,
        _ place: Int,
        _ outcome: inout EventOutcome
    ) {
        let blockSize = event.blockSize
        guard blockSize > 0, blockSize % unit == 0, unsafe event.tokens.count == event.hashes.count * blockSize else {
            outcome.unusableEvents += 1
            return
        }
        switch source.check.look(event) {
        case .recognized: outcome.recognizedHashes += 1
        case .different: outcome.differentHashes += 1
        case nil: break
        }
        hash(event)
        let run = StoredRun(
            tier: event.tier,
            adapter: event.adapter,
            blockSize: blockSize,
            parent: event.parent.map { BlockName(engineHash: $0) }
        )
        store(run, &source, place, &outcome)
    }

    /// What is known of stored blocks besides `names` and `locals`.
    struct StoredRun {
        var tier: CacheTier
        var adapter: String?
        var blockSize: Int
        var parent: BlockName?
    }

    /// Stores the blocks that `names` and `locals` describe.
    mutating func store(_ run: StoredRun, _ source: inout EventSource, _ place: Int, _ outcome: inout EventOutcome) {
        guard addFactor(run.blockSize / unit, to: source.domain) else {
            outcome.unusableEvents += 1
            return
        }
        guard let lane = lane(&source, place, run) else {
            outcome.refusedBlocks += names.count
            return
        }
        let step = store(lane, run, source.domain)
        if step.added + step.repeated > 0 {
            if let adapter = run.adapter, adapters.count < Self.maxAdapters, adapters.insert(adapter).inserted {
                viewHasChanged = true
            }
            log?.store(run, source.id, source.groups[place].number, names, locals)
        }
        source.sharedBlocks += step.shared
        outcome.storedBlocks += step.added
        outcome.repeatedBlocks += step.repeated
        outcome.refusedBlocks += step.refused
        outcome.foreignBlocks += step.foreign
        if step.isOrphan { outcome.orphans += 1 }
        if step.foreign > 0, source.sharedBlocks == 0 { changeDomain(&source, &outcome) }
    }

    private func store(_ lane: UInt16, _ run: StoredRun, _ domain: Int) -> StoreOutcome {
        let trie = domains[domain].trie
        if domains.count > 1 {
            trie.setBudget(budget - domains.reduce(0) { $0 + $1.trie.bytes } + trie.bytes)
        }
        let seed = run.parent == nil ? BlockHash.seed(model: run.adapter, cacheSalt: nil) : 0
        return unsafe names.withUnsafeBufferPointer { names in
            unsafe locals.withUnsafeBufferPointer { locals in
                unsafe trie.store(
                    lane,
                    after: run.parent,
                    engine: names,
                    locals: UnsafeBufferPointer(rebasing: locals[..<names.count]),
                    seed: seed,
                    counted: true
                )
            }
        }
    }

    /// Fills `names` and `locals` with what the trie knows the event's blocks by.
    private mutating func hash(_ event: KVEvent) {
        let count = unsafe event.hashes.count
        let factor = event.blockSize / unit
        let unit = unit
        // What a first block holds besides its tokens is joined to its first unit, as a request does.
        let first = event.parent == nil && event.extraKeys.first?.block == 0 ? event.extraKeys[0].seed : 0
        let hashes = unsafe event.hashes
        if names.count > count { names.removeLast(names.count &- count) }
        while names.count < count { names.append(0) }
        unsafe names.withUnsafeMutableBufferPointer { names in
            for index in 0..<count { unsafe names[index] = BlockName(engineHash: hashes[index]).raw }
        }
        guard let tokens = unsafe event.tokens.baseAddress else { return }
        let units = count &* factor
        if locals.count < units { locals = [UInt64](repeating: 0, count: 2 &* units) }
        unsafe locals.withUnsafeMutableBufferPointer { locals in
            guard let target = locals.baseAddress else { return }
            unsafe BlockHash.tokens(tokens, size: unit, blocks: units, to: target)
            unsafe target[0] = unsafe BlockHash.seeded(target[0], by: first)
            guard factor > 1 else { return }
            for index in 0..<count {
                var hash = unsafe target[index &* factor]
                for part in 1..<factor { hash = unsafe BlockHash.joined(hash, target[index &* factor &+ part]) }
                unsafe target[index] = hash
            }
        }
        for (block, seed) in event.extraKeys where block < count && !(block == 0 && event.parent == nil) {
            locals[block] = BlockHash.seeded(locals[block], by: seed)
        }
    }

    // MARK: - Lanes and domains

    /// The lane of the event's group and tier, opened where there is none, and anew where the block size has changed.
    private mutating func lane(_ source: inout EventSource, _ place: Int, _ run: StoredRun) -> UInt16? {
        var group = source.groups[place].group
        if let first = group.lane, group.blockSize != run.blockSize {
            domains[source.domain].trie.closeHolder(first)
            group.lane = nil
        }
        if group.lane == nil {
            group.lane = domains[source.domain].trie.openHolder()
            group.blockSize = run.blockSize
            source.groups[place].group = group
            rename(source)
        }
        return group.lane.map { $0 + UInt16(run.tier.rawValue) }
    }

    private func rename(_ source: EventSource) {
        for (_, group) in source.groups {
            guard let lane = group.lane else { continue }
            let name = LaneNames.Name(
                holder: source.id.holder,
                rank: source.id.rank,
                blockSize: group.blockSize,
                groups: source.indexedGroups,
                isDoubtful: source.doubtfulSince != nil
            )
            domains[source.domain].names.set(name, forLane: lane)
        }
    }

    private mutating func close(_ source: inout EventSource) {
        for place in source.groups.indices {
            if let lane = source.groups[place].group.lane { domains[source.domain].trie.closeHolder(lane) }
            source.groups[place].group.lane = nil
        }
    }

    /// False where the domain has too many block sizes already.
    private mutating func addFactor(_ factor: Int, to domain: Int) -> Bool {
        if domains[domain].factors.contains(factor) { return true }
        guard domains[domain].factors.count < HashDomain.maxFactors else { return false }
        domains[domain].factors.append(factor)
        domains[domain].factors.sort()
        viewHasChanged = true
        return true
    }

    /// Two blocks in a row with equal text and different hashes, and none that is equal: another engine's hashes. The
    /// publisher goes to the next domain that it has not tried, or to a new one.
    private mutating func changeDomain(_ source: inout EventSource, _ outcome: inout EventOutcome) {
        close(&source)
        defer { log?.change(source.id, toDomain: source.domain) }
        outcome.hasMoved = true
        source.foreignDomains.append(source.domain)
        if let next = domains.indices.first(where: { !source.foreignDomains.contains($0) }) {
            source.domain = next
            return
        }
        guard domains.count < Self.maxDomains, let domain = try? HashDomain(budget: budget) else {
            // Every domain is foreign: the publisher stays where it is, and stores only what nobody else has.
            source.foreignDomains = []
            return
        }
        source.domain = domains.count
        domains.append(domain)
        viewHasChanged = true
    }
}
