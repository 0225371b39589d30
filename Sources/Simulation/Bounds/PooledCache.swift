// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import HeapModule

/// One cache of all the fleet's KV memory, with nothing in it but prompts and answers of the past, in order of arrival.
enum PooledCache {
    /// Hits of Belady's rule: what is needed again last, or never, goes first (MIN; IBM Systems Journal 5, 1966). No way to
    /// spread blocks over pods and to evict them finds more: pods' caches are parts of this one, what runs takes memory
    /// away from them, and a block behind a hole counts here too.
    ///
    /// - Returns: blocks of prompts that are found, the last block of a prompt never; nil for workloads of more blocks than
    ///   `mostAccesses`.
    static func mostHits(_ workload: Workload, blocks: Int) -> Int? {
        var accesses = 0
        for request in workload.requests { accesses += request.promptHashes.count + request.outputHashes.count }
        guard accesses <= mostAccesses else { return nil }
        let nextUses = nextUses(workload)
        var kept: [UInt64: Int] = [:]
        var heap = Heap<Use>()
        var (hits, place) = (0, 0)
        for request in workload.requests {
            let limit = reusable(request, blockSize: workload.blockSize)
            for index in 0..<limit where kept[request.promptHashes[index]] != nil { hits += 1 }
            for hash in request.promptHashes + request.outputHashes {
                let next = nextUses[place]
                place += 1
                kept[hash] = next < .max ? next : nil
                if next < .max { heap.insert(Use(at: next, hash: hash)) }
            }
            // Entries of the heap that the block has outlived are passed over.
            while kept.count > max(blocks, 0), let last = heap.popMax() {
                if kept[last.hash] == last.at { kept[last.hash] = nil }
            }
        }
        return hits
    }

    /// Some seconds of work and half a gigabyte.
    static let mostAccesses = 4_000_000

    /// Per access, in order: the index of the next request that has the block, or `.max`.
    private static func nextUses(_ workload: Workload) -> [Int] {
        var next: [UInt64: Int] = [:]
        var uses: [Int] = []
        for (index, request) in workload.requests.enumerated().reversed() {
            let hashes = request.promptHashes + request.outputHashes
            for hash in hashes.reversed() { uses.append(next[hash] ?? .max) }
            for hash in hashes { next[hash] = index }
        }
        uses.reverse()
        return uses
    }

    /// Prompt tokens found per request where the block used longest ago goes first, as it does in model servers. Not a
    /// bound: pods that keep some prompts longer than others can find more.
    static func leastRecentlyUsed(_ workload: Workload, blocks: Int) -> [Int] {
        var cache = BlockCache()
        var slots: [Int32] = []
        return workload.requests.map { request in
            let limit = reusable(request, blockSize: workload.blockSize)
            let found = cache.match(request.promptHashes, limit: limit)
            slots.removeAll(keepingCapacity: true)
            for hash in request.promptHashes + request.outputHashes {
                if let slot = cache.find(hash) {
                    cache.retain(slot)
                    slots.append(slot)
                } else {
                    slots.append(cache.insert(hash))
                }
            }
            // Tail first, so that heads live longest.
            for slot in slots.reversed() { cache.release(slot) }
            while cache.count > max(blocks, 0), cache.evictOldest() != nil {}
            return found * workload.blockSize
        }
    }

    /// Blocks of a prompt that need not be computed where they are cached: its last token is always computed.
    private static func reusable(_ request: OfferedRequest, blockSize: Int) -> Int {
        min(max(request.promptTokens - 1, 0) / blockSize, request.promptHashes.count)
    }

    private struct Use: Comparable {
        var at: Int
        var hash: UInt64

        static func < (a: Use, b: Use) -> Bool { (a.at, a.hash) < (b.at, b.hash) }
    }
}
