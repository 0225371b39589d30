// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
package import Router

/// What no policy can beat on a fleet and a workload (latency model, section 6.3). Durations are those of the pods as
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
    /// Busy dollars per 1,000 requests, if each prompt ran alone where that is cheapest and each answer in the largest
    /// batch that the TPOT bound and memory allow there: the linear programme without its capacity rows.
    package var dollarsPerThousand: Double

    enum CodingKeys: String, CodingKey {
        case ttftFloorMean = "ttft_floor_mean_ms"
        case ttftFloorP50 = "ttft_floor_p50_ms"
        case ttftFloorP90 = "ttft_floor_p90_ms"
        case ttftFloorP99 = "ttft_floor_p99_ms"
        case pooledMean = "pooled_srpt_mean_ms"
        case pooledUtilisation = "pooled_utilisation"
        case infiniteCacheHitRatio = "infinite_cache_hit_ratio"
        case dollarsPerThousand = "busy_usd_per_1k_floor"
    }

    package init(workload: Workload, endpoints: [Endpoint], options: SimulationOptions) {
        let pods = Simulation.trueProfiles(endpoints, options)
        let cached = Self.infiniteCache(workload)
        let setup = options.connectors.map(\.fixedCost.rawValue).min() ?? 0
        var floors: [Double] = []
        var works: [Double] = []
        var dollars = 0.0
        let decode = Self.decodePrices(endpoints, pods, workload, options)
        for (offered, hit) in zip(workload.requests, cached) {
            let (new, prompt) = (offered.promptTokens - hit, offered.promptTokens)
            var (pair, local, cheapest) = (Double.infinity, Double.infinity, Double.infinity)
            for (endpoint, profile) in zip(endpoints, pods) {
                let prefill = profile.prefill.duration(newTokens: new, cachedTokens: hit).rawValue
                let start = profile.ttftOverhead.rawValue + prefill
                if endpoint.role.canPrefill { pair = min(pair, start) }
                if endpoint.role.canDecode { local = min(local, start) }
                cheapest = min(cheapest, prefill * profile.dollarsPerSecond)
            }
            let step =
                zip(endpoints, pods).filter(\.0.role.canDecode)
                .map { $0.1.decode.step(batch: 1, kvTokens: Double(prompt)).rawValue }.min() ?? 0
            floors.append(min(pair + setup + step, local))
            works.append(pods.map { $0.prefill.duration(newTokens: new, cachedTokens: hit).rawValue }.min() ?? 0)
            let tokens = Double(offered.outputTokens)
            let context = Double(prompt) + tokens / 2
            dollars += cheapest + tokens * (decode.map { $0.price(context: context) }.min() ?? 0)
        }
        let quantiles = Quantiles(floors.map { $0 * 1000 })
        (ttftFloorMean, ttftFloorP50) = (quantiles.mean, quantiles[0.5])
        (ttftFloorP90, ttftFloorP99) = (quantiles[0.9], quantiles[0.99])
        let speed = Self.pooledSpeed(workload, cached, pods, works)
        let pooled = Self.shortestRestFirst(workload, works, speed: speed)
        pooledMean = pooled * 1000
        pooledUtilisation = works.reduce(0, +) / speed / max(workload.span, 1e-9)
        let prompts = workload.requests.reduce(0) { $0 + $1.promptTokens }
        infiniteCacheHitRatio = Double(cached.reduce(0, +)) / Double(max(prompts, 1))
        dollarsPerThousand = dollars / Double(max(workload.requests.count, 1)) * 1000
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

    /// Σ over pods of the best factor by which each serves any prompt, in units of the fastest pod's speed.
    private static func pooledSpeed(
        _ workload: Workload,
        _ cached: [Int],
        _ pods: [PodProfile],
        _ works: [Double]
    ) -> Double {
        pods.reduce(0) { sum, profile in
            var best = 0.0
            for index in workload.requests.indices {
                let request = workload.requests[index]
                let own = profile.prefill.duration(
                    newTokens: request.promptTokens - cached[index],
                    cachedTokens: cached[index]
                ).rawValue
                best = max(best, works[index] / max(own, 1e-9))
            }
            return sum + best
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

    /// What a token costs on a decode pod at its largest batch.
    private struct DecodePrice {
        var profile: PodProfile
        var tpot: Double

        func price(context: Double) -> Double {
            let capacity = Double(profile.kvCapacityTokens) / max(context, 1)
            // The step grows in the batch: the largest that keeps the bound, by bisection.
            var (low, high) = (1.0, max(capacity, 1))
            for _ in 0..<30 {
                let middle = (low + high) / 2
                let step = profile.decode.step(batch: middle, kvTokens: middle * context).rawValue
                if step <= tpot { low = middle } else { high = middle }
            }
            let step = profile.decode.step(batch: low, kvTokens: low * context).rawValue
            return step / low * profile.dollarsPerSecond
        }
    }

    private static func decodePrices(
        _ endpoints: [Endpoint],
        _ pods: [PodProfile],
        _ workload: Workload,
        _ options: SimulationOptions
    ) -> [DecodePrice] {
        let tpot = options.serviceLevel.tpot?.rawValue ?? .infinity
        return zip(endpoints, pods).filter(\.0.role.canDecode).map { DecodePrice(profile: $0.1, tpot: tpot) }
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
