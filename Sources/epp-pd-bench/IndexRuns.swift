// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import PrefixIndex

/// The fills and lookups of the index benchmark, each in an index of its own.
struct IndexRuns {
    let workload: IndexWorkload
    let budget: Int

    private static let warmPrompts = 2_000
    private static let lookups = 20_000
    private static let checks = 10_000

    /// Code and allocator are touched once, so that they do not count as the index's memory.
    func warmUp() throws {
        let index = try EventPrefixIndex(budget: budget)
        var result: [TierMatch] = []
        for prompt in 0..<min(100, workload.prompts) {
            _ = index.apply(workload.payload(prompt), from: EventSourceID(holder: 0, rank: 0))
            index.matches(of: workload.keys(prompt), into: &result)
        }
    }

    // MARK: - From raw frames

    func ingest(_ report: inout IndexReport) throws {
        let payloads = (0..<workload.prompts).map { workload.payload($0) }
        let before = Measurement.resident
        let index = try EventPrefixIndex(budget: budget)
        let start = Measurement.processor
        for (prompt, payload) in payloads.enumerated() {
            for worker in workload.holders(prompt) {
                _ = index.apply(payload, from: EventSourceID(holder: UInt32(worker), rank: 0))
            }
        }
        let used = Measurement.processor - start
        report.bytes_per_worker_block = Double(Measurement.resident - before) / Double(workload.pairs)
        report.accounted_bytes_per_worker_block = Double(index.statistics.trie.bytes) / Double(workload.pairs)
        report.ingest_us_per_block = used * 1e6 / Double(workload.named)
        if index.statistics.trie.heldBlocks != workload.pairs { report.wrong_answers += 1 }
        measureLookups(index, &report)
        count(check(index, removed: [:]), &report)
        try snapshot(index, &report)
        let removed = remove(index)
        count(check(index, removed: removed), &report)
        // 5,000 divergent lookups, each with probability 2^-16: 0.08 expected; five are no chance.
        if report.divergence_overshoots > 4 { report.wrong_answers += report.divergence_overshoots }
        removeWorker(index, &report)
    }

    private func measureLookups(_ index: EventPrefixIndex, _ report: inout IndexReport) {
        var result: [TierMatch] = []
        func measure(_ keys: [PrefixKeys]) -> Samples {
            for key in keys { index.matches(of: key, into: &result) }
            var samples = Samples(capacity: Self.lookups)
            for at in 0..<Self.lookups {
                let key = keys[at % keys.count]
                let start = Measurement.nanoseconds
                index.matches(of: key, into: &result)
                samples.add(Measurement.nanoseconds - start)
            }
            return samples
        }
        let warm = measure((0..<min(Self.warmPrompts, workload.prompts)).map { workload.keys($0) })
        report.answer_p50_ns = warm.quantile(0.5)
        report.answer_p99_ns = warm.quantile(0.99)
    }

    /// One block in ten of each prompt's own, on each of its workers, by hash. Of a common block a worker has as many copies
    /// as it has prompts: one goes each time.
    private func remove(_ index: EventPrefixIndex) -> [Int: Set<Int>] {
        var removed: [Int: Set<Int>] = [:]
        var random = WorkloadRandom(99)
        for prompt in 0..<workload.prompts {
            let hashes = workload.hashes(prompt)
            for worker in workload.holders(prompt) {
                var encoder = KVEventEncoder()
                for block in workload.sharedBlocks..<workload.blocks where random.next() % 10 == 0 {
                    encoder.removed([hashes[block]])
                    removed[prompt * workload.workers + worker, default: []].insert(block)
                }
                guard !encoder.isEmpty else { continue }
                _ = index.apply(encoder.batch(time: 0), from: EventSourceID(holder: UInt32(worker), rank: 0))
            }
        }
        return removed
    }

    /// Answers of a sample of prompts, and of prompts that leave them in the middle, against what must be held.
    private func check(_ index: EventPrefixIndex, removed: [Int: Set<Int>]) -> (wrong: Int, overshoots: Int) {
        var wrong = 0
        var overshoots = 0
        var random = WorkloadRandom(123)
        var result: [TierMatch] = []
        let busy = min(workload.workers, workload.prompts + workload.replicas - 1)
        for round in 0..<Self.checks {
            let prompt = Int(random.next() % UInt64(workload.prompts))
            var keys = workload.keys(prompt)
            var cut = workload.blocks
            if round % 4 == 0 {
                cut = Int(random.next() % UInt64(workload.blocks))
                keys.hashes[cut] = random.next()
            }
            index.matches(of: keys, into: &result)
            var expected: [UInt32: Int] = [:]
            let shared = min(workload.sharedBlocks, cut)
            if shared > 0 { for worker in 0..<busy { expected[UInt32(worker)] = shared * IndexWorkload.blockSize } }
            for worker in workload.holders(prompt) {
                let gone = removed[prompt * workload.workers + worker]?.min() ?? workload.blocks
                let depth = min(cut, gone)
                expected[UInt32(worker)] = depth > 0 ? depth * IndexWorkload.blockSize : nil
            }
            let found = Dictionary(uniqueKeysWithValues: result.map { ($0.holder, $0.tokens) })
            if found == expected { continue }
            if cut < workload.blocks, isOneBlockMore(found, expected) {
                overshoots += 1
            } else {
                wrong += 1
            }
        }
        return (wrong, overshoots)
    }

    private func count(_ found: (wrong: Int, overshoots: Int), _ report: inout IndexReport) {
        report.wrong_answers += found.wrong
        report.divergence_overshoots += found.overshoots
    }

    /// A block behind a divergence whose 16 bits are those of the block that the others hold there.
    private func isOneBlockMore(_ found: [UInt32: Int], _ expected: [UInt32: Int]) -> Bool {
        found.count >= expected.count
            && found.allSatisfy { (0...IndexWorkload.blockSize).contains($0.value - (expected[$0.key] ?? 0)) }
    }

    private func snapshot(_ index: EventPrefixIndex, _ report: inout IndexReport) throws {
        let blocks = index.statistics.trie.blocks
        let bytes = index.snapshot()
        report.snapshot_bytes = bytes.count
        report.snapshot_bytes_per_block = Double(bytes.count) / Double(max(blocks, 1))
        let start = Measurement.processor
        let loaded = try EventPrefixIndex(snapshot: bytes, budget: budget)
        report.snapshot_load_ms = (Measurement.processor - start) * 1e3
        if loaded.statistics.trie.heldBlocks != index.statistics.trie.heldBlocks { report.wrong_answers += 1 }
    }

    private func removeWorker(_ index: EventPrefixIndex, _ report: inout IndexReport) {
        let start = Measurement.processor
        var longest = 0.0
        index.remove(holder: 0)
        var isBusy = true
        while isBusy {
            let begin = Measurement.processor
            isBusy = index.maintain(now: 0)
            longest = max(longest, Measurement.processor - begin)
        }
        report.remove_worker_ms = (Measurement.processor - start) * 1e3
        report.remove_step_max_us = longest * 1e6
        var result: [TierMatch] = []
        index.matches(of: workload.keys(0), into: &result)
        if result.contains(where: { $0.holder == 0 }) { report.wrong_answers += 1 }
    }

    // MARK: - Ready events

    private struct Ready {
        var names: [UInt64]
        var locals: [UInt64]
    }

    private func ready() -> [Ready] {
        (0..<workload.prompts).map { prompt in
            Ready(
                names: workload.hashes(prompt).map { BlockName(engineHash: $0).raw },
                locals: workload.keys(prompt).hashes
            )
        }
    }

    private func lanes(_ trie: ChunkTrie) -> [UInt16] { (0..<workload.workers).map { _ in trie.openHolder() ?? 0 } }

    private func store(_ trie: ChunkTrie, _ lane: UInt16, _ ready: Ready, keysOnly: Bool = false) {
        unsafe ready.locals.withUnsafeBufferPointer { locals in
            unsafe ready.names.withUnsafeBufferPointer { names in
                _ = unsafe trie.store(
                    lane,
                    after: nil,
                    engine: keysOnly ? nil : names,
                    locals: locals,
                    counted: !keysOnly
                )
            }
        }
    }

    func insert(_ report: inout IndexReport) throws {
        let events = ready()
        let trie = try ChunkTrie(isKeyed: true, budget: budget)
        let lanes = lanes(trie)
        let start = Measurement.processor
        for (prompt, event) in events.enumerated() {
            for worker in workload.holders(prompt) { store(trie, lanes[worker], event) }
        }
        report.insert_blocks_per_second = Double(workload.named) / (Measurement.processor - start)
        try measureTrie(trie, events, &report)
    }

    /// Lookups in the structure itself, with arrays ready: first the same prompts again and again, then each once in random
    /// order.
    private func measureTrie(_ trie: ChunkTrie, _ events: [Ready], _ report: inout IndexReport) throws {
        let lookup = try TrieLookup()
        func time(_ event: Ready, _ samples: inout Samples) {
            let start = Measurement.nanoseconds
            trie.find(event.locals, lookup)
            samples.add(Measurement.nanoseconds - start)
            let isRight = (0..<lookup.count).contains { lookup[$0].blocks == workload.blocks }
            if !isRight { report.wrong_answers += 1 }
        }
        var warm = Samples(capacity: Self.lookups)
        for at in 0..<Self.lookups { time(events[at % min(Self.warmPrompts, events.count)], &warm) }
        report.lookup_p50_ns = warm.quantile(0.5)
        report.lookup_p99_ns = warm.quantile(0.99)
        var random = WorkloadRandom(77)
        var samples = Samples(capacity: Self.lookups)
        for place in events.indices.shuffled(using: &random).prefix(Self.lookups) { time(events[place], &samples) }
        report.lookup_random_p50_ns = samples.quantile(0.5)
        report.lookup_random_p99_ns = samples.quantile(0.99)
    }

    func pauses(_ report: inout IndexReport) throws {
        let events = ready()
        let first = try storeTimes(events)
        report.store_max_us = (first.max() ?? 0) * 1e6
        let second = try storeTimes(events)
        report.store_max_recurring_us = (zip(first, second).map { min($0, $1) }.max() ?? 0) * 1e6
    }

    /// Processor seconds of each store of a fill.
    private func storeTimes(_ events: [Ready]) throws -> [Double] {
        let trie = try ChunkTrie(isKeyed: true, budget: budget)
        let lanes = lanes(trie)
        var times: [Double] = []
        times.reserveCapacity(events.count * workload.replicas)
        for (prompt, event) in events.enumerated() {
            for worker in workload.holders(prompt) {
                let start = Measurement.processor
                store(trie, lanes[worker], event)
                times.append(Measurement.processor - start)
            }
        }
        return times
    }

    func keysOnly() throws -> IndexReport.KeysOnly {
        let events = ready()
        var report = IndexReport.KeysOnly()
        let before = Measurement.resident
        let trie = try ChunkTrie(isKeyed: false, budget: budget)
        let lanes = lanes(trie)
        let start = Measurement.processor
        for (prompt, event) in events.enumerated() {
            for worker in workload.holders(prompt) { store(trie, lanes[worker], event, keysOnly: true) }
        }
        report.insert_blocks_per_second = Double(workload.named) / (Measurement.processor - start)
        report.bytes_per_worker_block = Double(Measurement.resident - before) / Double(workload.pairs)
        let lookup = try TrieLookup()
        var samples = Samples(capacity: Self.lookups)
        for at in 0..<Self.lookups {
            let hashes = events[at % min(Self.warmPrompts, events.count)].locals
            let begin = Measurement.nanoseconds
            trie.find(hashes, lookup)
            samples.add(Measurement.nanoseconds - begin)
        }
        report.lookup_p50_ns = samples.quantile(0.5)
        return report
    }

    // MARK: - Long prompts

    /// 6,250 blocks of 16 tokens, of which worker i of 256 holds the first (i + 1) / 256.
    func deep(_ report: inout IndexReport) throws {
        var random = WorkloadRandom(5)
        let tokens = (0..<100_000).map { _ in UInt32(((random.next() >> 32) &* 150_000) >> 32) }
        func keys() -> [UInt64] {
            var hasher = TokenKeyHasher(model: nil, cacheSalt: nil)
            hasher.update(tokens)
            return hasher.finish().hashes
        }
        let locals = keys()
        let names = locals.map { BlockName(engineHash: $0).raw }
        let trie = try ChunkTrie(isKeyed: true, budget: budget)
        var lanes: [UInt16] = []
        for worker in 0..<256 {
            guard let lane = trie.openHolder() else { break }
            lanes.append(lane)
            let count = (worker + 1) * locals.count / 256
            store(trie, lane, Ready(names: Array(names[..<count]), locals: Array(locals[..<count])))
        }
        let lookup = try TrieLookup()
        var samples = Samples(capacity: 1_000)
        var hashing = Samples(capacity: 200)
        for round in 0..<1_000 {
            let start = Measurement.nanoseconds
            trie.find(locals, lookup)
            samples.add(Measurement.nanoseconds - start)
            guard round % 5 == 0 else { continue }
            let begin = Measurement.nanoseconds
            let again = keys()
            hashing.add(Measurement.nanoseconds - begin)
            if again.count != locals.count { report.wrong_answers += 1 }
        }
        report.lookup_deep_p50_ns = samples.quantile(0.5)
        report.hash_100k_tokens_ns = hashing.quantile(0.5)
        for (worker, lane) in lanes.enumerated() {
            let expected = LaneMatch(lane: lane, blocks: (worker + 1) * locals.count / 256)
            if !(0..<lookup.count).contains(where: { lookup[$0] == expected }) { report.wrong_answers += 1 }
        }
    }
}
