// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router
import Testing

@testable import Simulation

struct BoundsTests {
    @Test func theFloorIsTheBestPodWithoutAQueue() {
        // Two prompts of 1,000 at once: 110 ms each alone. The pair adds a first step of 12 ms, the decode pod itself
        // none.
        let workload = Scene.workload([
            OfferedRequest(arrival: 0, promptTokens: 1000, outputTokens: 10),
            OfferedRequest(arrival: 0, promptTokens: 1000, outputTokens: 10),
        ])
        let bounds = Bounds(workload: workload, endpoints: Scene.pair, options: Scene.exact)
        #expect(isNear(bounds.ttftFloorMean, 110, tolerance: 1e-6))
        #expect(bounds.infiniteCacheHitRatio == 0)
        // One server of twice the speed: 55 ms for the first, 110 ms for the second.
        #expect(isNear(bounds.pooledMean, 82.5, tolerance: 1e-6))
    }

    @Test func anInfiniteCacheRemembersAllButTheLastBlock() {
        let hashes: [UInt64] = (1...10).map { $0 }
        let workload = Scene.workload([
            OfferedRequest(arrival: 0, promptTokens: 1000, outputTokens: 1, promptHashes: hashes),
            OfferedRequest(arrival: 1, promptTokens: 1000, outputTokens: 1, promptHashes: hashes),
            OfferedRequest(arrival: 2, promptTokens: 1050, outputTokens: 1, promptHashes: hashes),
        ])
        #expect(Bounds.infiniteCache(workload) == [0, 900, 1000])
    }

    @Test("Of two blocks in turn, room for one keeps the first under Belady's rule, and none under LRU")
    func aFiniteCacheForgets() {
        let workload = Scene.workload(
            [1, 2, 1, 2, 3, 1].enumerated().map { index, hash in
                OfferedRequest(arrival: Double(index), promptTokens: 150, outputTokens: 1, promptHashes: [hash])
            }
        )
        #expect(Bounds.infiniteCache(workload).reduce(0, +) == 300)
        #expect(PooledCache.mostHits(workload, blocks: 1) == 2, "1 is kept to its end")
        #expect(PooledCache.mostHits(workload, blocks: 2) == 3)
        #expect(PooledCache.mostHits(workload, blocks: 0) == 0)
        #expect(PooledCache.leastRecentlyUsed(workload, blocks: 1).reduce(0, +) == 0)
        #expect(PooledCache.leastRecentlyUsed(workload, blocks: 2) == [0, 0, 100, 100, 0, 0])
        #expect(PooledCache.leastRecentlyUsed(workload, blocks: 3) == Bounds.infiniteCache(workload))
    }

    @Test func beladyBeatsLRUAndIsBelowTheInfiniteCache() {
        let workload = Scene.mixed(300, rate: 6, seed: 9)
        let infinite = Bounds.infiniteCache(workload).reduce(0, +)
        for blocks in [10, 100, 1000] {
            let most = (PooledCache.mostHits(workload, blocks: blocks) ?? 0) * workload.blockSize
            let recent = PooledCache.leastRecentlyUsed(workload, blocks: blocks).reduce(0, +)
            #expect(recent <= most && recent <= infinite)
        }
    }

    @Test func theShortestRestGoesFirstAndPreempts() {
        let workload = Scene.workload([
            OfferedRequest(arrival: 0, promptTokens: 1, outputTokens: 1),
            OfferedRequest(arrival: 1, promptTokens: 1, outputTokens: 1),
        ])
        // 10 s of work, then 1 s of work at 1 s: it ends at 2, the long one at 11. (11 + 1) ÷ 2.
        #expect(isNear(Bounds.shortestRestFirst(workload, [10, 1], speed: 1), 6))
        #expect(isNear(Bounds.shortestRestFirst(workload, [1.5, 1], speed: 1), (1.5 + 1.5) / 2))
    }

    @Test func noPolicyBeatsTheFloors() throws {
        let experiment = Experiment(
            workload: Scene.mixed(300, rate: 6, seed: 8),
            endpoints: Scene.fleet(prefill: 3, decode: 2, both: 1),
            options: Scene.exact,
            mode: .latency
        )
        let bounds = experiment.bounds(load: 1, seed: 1)
        for name in ["random", "lmetric-pull", "joint-early", "joint-clairvoyant"] {
            guard let policy = PolicyName(name) else { continue }
            let metrics = try experiment.run(policy, load: 1, seed: 1).metrics
            #expect(metrics.ttftMean >= bounds.ttftFloorMean)
            // Served in another order, prompts may find a block more: the last block is recomputed by whoever is later.
            #expect(metrics.prefixHitRatio <= bounds.infiniteCacheHitRatio * 1.02)
        }
    }
}
