// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import Simulation

struct BlockCacheTests {
    /// Against a plain model: an ordered list of unreferenced hashes and a dictionary of counts.
    @Test(arguments: 0..<20 as Range<UInt64>) func behavesAsItsModel(seed: UInt64) {
        var draw = SplitMix64(seed: seed)
        var cache = BlockCache()
        var counts: [UInt64: Int] = [:]
        var idle: [UInt64] = []
        for _ in 0..<2000 {
            // Few distinct low bits make long probe runs.
            let hash = UInt64.random(in: 0..<200, using: &draw) << 40
            switch Int.random(in: 0..<4, using: &draw) {
            case 0, 1:
                if let slot = cache.find(hash) {
                    cache.retain(slot)
                    idle.removeAll { $0 == hash }
                    counts[hash, default: 0] += 1
                } else {
                    #expect(counts[hash] == nil)
                    _ = cache.insert(hash)
                    counts[hash] = 1
                }
            case 2:
                guard let slot = cache.find(hash), let count = counts[hash], count > 0 else { continue }
                #expect(cache.release(slot) == (count == 1))
                counts[hash] = count - 1
                if count == 1 { idle.append(hash) }
            default:
                let evicted = cache.evictOldest()
                #expect(evicted == idle.first)
                if let evicted {
                    idle.removeFirst()
                    counts[evicted] = nil
                }
            }
            #expect(cache.unreferenced == idle.count)
            #expect(cache.count == counts.count)
        }
        for hash in 0..<200 as Range<UInt64> { #expect((cache.find(hash << 40) != nil) == (counts[hash << 40] != nil)) }
    }
}
