// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
package import Router

/// What no policy can beat on a fleet and a workload (docs/simulator.md). Durations are those of the pods as
/// they truly are, their speed bias included, and of the mean noise.
package struct Bounds: Sendable, Hashable, Codable {
    /// No queue, an infinite cache that all share, the best pod for each request.
    package var ttftFloorMean: Double
    package var ttftFloorP50: Double
    package var ttftFloorP90: Double
    package var ttftFloorP99: Double
    /// Mean time until a prompt is computed, if all pods were one server that serves the shortest rest first.
    package var pooledMean: Double
    /// Share of that server's time which the prompts take.
    package var pooledUtilisation: Double
    /// Prompt tokens found in an infinite cache that all share, over prompt tokens.
    package var infiniteCacheHitRatio: Double
    /// The same for a cache of the fleet's KV memory in one, under Belady's rule; nil for very long workloads.
    package var finiteCacheHitRatio: Double?
    /// Not a bound: what that cache finds under the rule of model servers, least recently used …
    package var pooledLRUHitRatio: Double
    /// … and the highest load of the fleet then.
    package var pooledLRUHighestLoad: Double
    /// Least busy dollars per 1,000 requests, by linear programme; nil where the fleet cannot carry the load.
    package var busyDollarsPerThousand: Double?
    /// Least mean time from a prompt's start to its first token, if no pod is given more than it can do, and nothing
    /// waits; nil where the fleet cannot carry the load.
    package var fluidTTFTMean: Double?
    /// The highest load that the fleet can carry at all, in multiples of the workload's own rate.
    package var highestLoad: Double
    /// The same if one request in twenty, the longest, needs no service: no policy keeps 95 % above this.
    package var highestLoadAt95: Double
    /// Share of the requests that can be served within their service levels at most; nil for very long workloads …
    package var timelyShare: Double?
    /// … and the highest load at which that is 95 %.
    package var timelyLoadAt95: Double?

    enum CodingKeys: String, CodingKey {
        case ttftFloorMean = "ttft_floor_mean_ms"
        case ttftFloorP50 = "ttft_floor_p50_ms"
        case ttftFloorP90 = "ttft_floor_p90_ms"
        case ttftFloorP99 = "ttft_floor_p99_ms"
        case pooledMean = "pooled_srpt_mean_ms"
        case pooledUtilisation = "pooled_utilisation"
        case infiniteCacheHitRatio = "infinite_cache_hit_ratio"
        case finiteCacheHitRatio = "finite_cache_hit_ratio"
        case pooledLRUHitRatio = "pooled_lru_hit_ratio"
        case pooledLRUHighestLoad = "pooled_lru_max_load"
        case busyDollarsPerThousand = "busy_usd_per_1k_floor"
        case fluidTTFTMean = "fluid_ttft_mean_ms"
        case highestLoad = "fluid_max_load"
        case highestLoadAt95 = "fluid_max_load_at_95"
        case timelyShare = "slo_attainment_bound"
        case timelyLoadAt95 = "timely_max_load_at_95"
    }

    /// `load` is by what the workload's gaps were divided: the fluid loads are multiples of the trace's own.
    package init(workload: Workload, endpoints: [Endpoint], options: SimulationOptions, load: Double = 1) {
        let groups = PodGroup.groups(endpoints, slowness: Simulation.speeds(of: endpoints, options))
        let cached = Self.infiniteCache(workload)
        let setup = options.connectors.map(\.fixedCost.rawValue).min() ?? 0
        var floors: [Double] = []
        var works: [Double] = []
        var best = [Double](repeating: 0, count: groups.count)
        var own = best
        for (offered, hit) in zip(workload.requests, cached) {
            let new = offered.promptTokens - hit
            var (pair, local, work) = (Double.infinity, Double.infinity, Double.infinity)
            for (k, group) in groups.enumerated() {
                own[k] = group.prompt(newTokens: new, cachedTokens: hit)
                let prefill = own[k] * group.leastSlowness
                work = min(work, prefill)
                let start = group.profile.ttftOverhead.rawValue + prefill
                if group.role.canPrefill { pair = min(pair, start) }
                if group.role.canDecode { local = min(local, start) }
            }
            for k in groups.indices { best[k] = max(best[k], work / max(own[k], 1e-9)) }
            let step = Self.firstStep(groups, kvTokens: Double(offered.promptTokens))
            floors.append(min(pair + setup + step, local))
            works.append(work)
        }
        let quantiles = Quantiles(floors.map { $0 * 1000 })
        (ttftFloorMean, ttftFloorP50) = (quantiles.mean, quantiles[0.5])
        (ttftFloorP90, ttftFloorP99) = (quantiles[0.9], quantiles[0.99])
        // Σ over pods of the best factor by which each serves any prompt, in units of the fastest pod's speed.
        let speed = zip(groups, best).reduce(0) { $0 + $1.0.capacity * $1.1 }
        pooledMean = Self.shortestRestFirst(workload, works, speed: speed) * 1000
        pooledUtilisation = works.reduce(0, +) / speed / max(workload.span, 1e-9)
        let prompts = workload.requests.reduce(0) { $0 + $1.promptTokens }
        let infinite = Double(cached.reduce(0, +)) / Double(max(prompts, 1))
        infiniteCacheHitRatio = infinite
        let blocks = endpoints.reduce(0) { $0 + $1.profile.kvCapacityTokens } / workload.blockSize
        finiteCacheHitRatio = PooledCache.mostHits(workload, blocks: blocks)
            .map { min(Double($0 * workload.blockSize) / Double(max(prompts, 1)), infinite) }
        let recent = PooledCache.leastRecentlyUsed(workload, blocks: blocks)
        pooledLRUHitRatio = Double(recent.reduce(0, +)) / Double(max(prompts, 1))

        let tpot = options.serviceLevel.tpot?.rawValue ?? .infinity
        let fluid = FluidModel(workload: workload, cached: cached, groups: groups, tpot: tpot)
        let count = Double(max(workload.requests.count, 1))
        busyDollarsPerThousand = fluid.leastDollars().map { $0 / count * 1000 }
        let step = Self.firstStep(groups, kvTokens: 0)
        fluidTTFTMean = fluid.leastServiceTime(setup: setup, firstStep: step).map { $0 * 1000 }
        highestLoad = (fluid.highestLoad(free: 0) ?? 0) * load
        let usual = FluidModel(workload: workload, cached: recent, groups: groups, tpot: tpot)
        pooledLRUHighestLoad = (usual.highestLoad(free: 0) ?? 0) * load
        highestLoadAt95 = (fluid.highestLoad(free: 0.05) ?? 0) * load
        boundTimely(workload, groups, options.serviceLevel, load: load)
    }

    private mutating func boundTimely(
        _ workload: Workload,
        _ groups: [PodGroup],
        _ level: ServiceLevelRule,
        load: Double
    ) {
        guard workload.requests.count <= TimelyBound.mostRequests else { return }
        let weights = TimelyBound.pools(workload, groups, level, free: 0.05)
        timelyShare = TimelyBound(workload: workload, groups: groups, level: level, weights: weights).share()
        timelyLoadAt95 = TimelyBound.highestLoad(
            workload,
            load: load,
            target: 0.95,
            groups: groups,
            level: level,
            weights: weights
        )
    }

    /// Seconds of the shortest decode step for one sequence anywhere.
    private static func firstStep(_ groups: [PodGroup], kvTokens: Double) -> Double {
        groups.filter(\.role.canDecode)
            .map { $0.leastSlowness * $0.profile.decode.step(batch: 1, kvTokens: kvTokens).rawValue }.min() ?? 0
    }

    /// Prompt tokens that an earlier request of the workload has left somewhere, the last block never.
    static func infiniteCache(_ workload: Workload) -> [Int] {
        var seen: Set<UInt64> = []
        return workload.requests.map { request in
            let limit = min(max(request.promptTokens - 1, 0) / workload.blockSize, request.promptHashes.count)
            var blocks = 0
            while blocks < limit, seen.contains(request.promptHashes[blocks]) { blocks += 1 }
            seen.formUnion(request.promptHashes)
            seen.formUnion(request.outputHashes)
            return blocks * workload.blockSize
        }
    }

    /// Mean response time of one server of the given speed under preemptive shortest remaining work first.
    static func shortestRestFirst(_ workload: Workload, _ works: [Double], speed: Double) -> Double {
        var heap = RestHeap()
        var (total, now, next) = (0.0, workload.requests.first?.arrival ?? 0, 0)
        let count = workload.requests.count
        while next < count || !heap.isEmpty {
            let arrival = next < count ? workload.requests[next].arrival : .infinity
            guard let (rest, index) = heap.least else {
                now = arrival
                heap.insert(works[next] / speed, next)
                next += 1
                continue
            }
            if now + rest <= arrival {
                now += rest
                total += now - workload.requests[index].arrival
                heap.removeLeast()
            } else {
                heap.replaceLeast(rest - (arrival - now))
                now = arrival
                heap.insert(works[next] / speed, next)
                next += 1
            }
        }
        return total / Double(max(count, 1))
    }
}

/// Jobs by remaining work, the least on top.
private struct RestHeap {
    private var items: [(rest: Double, index: Int)] = []

    var isEmpty: Bool { items.isEmpty }
    var least: (rest: Double, index: Int)? { items.first }

    mutating func insert(_ rest: Double, _ index: Int) {
        items.append((rest, index))
        var child = items.count - 1
        while child > 0, items[child] < items[(child - 1) / 2] {
            items.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func removeLeast() {
        guard let last = items.popLast(), !items.isEmpty else { return }
        items[0] = last
        sink()
    }

    mutating func replaceLeast(_ rest: Double) {
        items[0].rest = rest
        sink()
    }

    private mutating func sink() {
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < items.count else { return }
            if child + 1 < items.count, items[child + 1] < items[child] { child += 1 }
            guard items[child] < items[parent] else { return }
            items.swapAt(child, parent)
            parent = child
        }
    }
}
