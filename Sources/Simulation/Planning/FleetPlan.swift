// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// Searches the cheapest fleet that keeps a service level, with the simulator as judge.
///
/// Fleets are taken in the order of their price per hour, so the first that holds is the cheapest of those judged. Most
/// need no run: the fluid bound says that they cannot carry the load, even if the share of requests that may miss needs
/// no service at all. Runs also end as soon as too many have missed. The bound is generous; where a fleet fails in a
/// run although the bound gave it some room, later ones with clearly less room are passed over, and counted.
package struct FleetPlan {
    package var choices: [PodChoice]
    package var experiment: Experiment
    package var policy: PolicyName
    package var load = 1.0
    package var seeds: [UInt64] = [1]
    package var attainment = 0.95
    package var maximumPods = 16
    package var maximumRuns = 200

    /// Fleets with less than this share of the room at which a run failed are passed over.
    private static let roomShare = 0.9
    /// Fleets that are looked at before the search gives up.
    static let mostMixes = 200_000
    /// Classes of the fluid bound: fewer than where it is printed, as it is asked thousands of times.
    private static let fluidClasses = 12

    /// `experiment`'s own endpoints do not matter.
    package init(choices: [PodChoice], experiment: Experiment, policy: PolicyName) {
        self.choices = choices
        self.experiment = experiment
        self.policy = policy
    }

    /// A fleet that was judged by runs.
    package struct Judged: Sendable {
        package var mix: FleetMix
        package var dollarsPerHour: Double
        /// Highest load of the fluid bound, the allowed misses left out, over the load.
        package var room: Double
        /// Mean over the seeds; an upper limit where the runs were ended.
        package var attainment: Double
        /// Of the first seed; nil where the runs were ended.
        package var metrics: PolicyMetrics?
        package var holds: Bool
    }

    package struct Result: Sendable {
        package var best: Judged?
        /// The next fleet in price that holds too.
        package var runnerUp: Judged?
        /// The dearest fleet below the best one's price that was run and failed.
        package var failed: Judged?
        package var looked = 0
        package var beyondBound = 0
        package var passedOver = 0
        package var runs = 0
    }

    package func search(progress: (Result) -> Void = { _ in }) throws(SimulationError) -> Result {
        var result = Result()
        var heap = PriceHeap()
        var seen: Set<FleetMix> = []
        for mix in FleetMix.smallest(choices: choices.count) where seen.insert(mix).inserted {
            heap.insert(mix, price: mix.dollarsPerHour(choices))
        }
        let workload = experiment.workload.scaled(load: load, seed: seeds.first ?? 1)
        let cached = Bounds.infiniteCache(workload)
        var leastRoom = 1.0
        while let (mix, price) = heap.removeLeast(), result.looked < Self.mostMixes, result.runs < maximumRuns {
            result.looked += 1
            if mix.pods < maximumPods {
                for next in mix.grown() where seen.insert(next).inserted {
                    heap.insert(next, price: next.dollarsPerHour(choices))
                }
            }
            let room = room(of: mix, workload, cached)
            guard room >= 1 else {
                result.beyondBound += 1
                continue
            }
            guard room >= leastRoom else {
                result.passedOver += 1
                continue
            }
            result.runs += 1
            progress(result)
            let judged = try judge(mix, price: price, room: room)
            if judged.holds, result.best == nil {
                result.best = judged
            } else if judged.holds {
                result.runnerUp = judged
                return result
            } else {
                leastRoom = max(leastRoom, room * Self.roomShare)
                if result.best == nil { result.failed = judged }
            }
        }
        return result
    }

    private func room(of mix: FleetMix, _ workload: Workload, _ cached: [Int]) -> Double {
        let endpoints = mix.endpoints(choices)
        let slowness = Simulation.speeds(of: endpoints, experiment.options)
        let fluid = FluidModel(
            workload: workload,
            cached: cached,
            groups: PodGroup.groups(endpoints, slowness: slowness, apart: false),
            tpot: experiment.options.serviceLevel.tpot?.rawValue ?? .infinity,
            classCount: Self.fluidClasses
        )
        return fluid.highestLoad(free: 1 - attainment) ?? 0
    }

    private func judge(_ mix: FleetMix, price: Double, room: Double) throws(SimulationError) -> Judged {
        var trial = experiment
        trial.endpoints = mix.endpoints(choices)
        var judged = Judged(mix: mix, dollarsPerHour: price, room: room, attainment: 0, metrics: nil, holds: false)
        let count = experiment.workload.requests.count
        let allowed = Int((1 - attainment) * Double(count * seeds.count) + 1e-9)
        var missed = 0
        for seed in seeds {
            guard let run = try trial.run(policy, load: load, seed: seed, mostMissed: allowed - missed) else {
                judged.attainment = 1 - Double(allowed + 1) / Double(max(count * seeds.count, 1))
                return judged
            }
            missed += count - Int((run.metrics.sloAttainment * Double(count)).rounded())
            judged.metrics = judged.metrics ?? run.metrics
        }
        judged.attainment = 1 - Double(missed) / Double(max(count * seeds.count, 1))
        judged.holds = missed <= allowed
        return judged
    }
}

/// Mixes by price, the cheapest on top; of equals the one that came first.
private struct PriceHeap {
    private var items: [(price: Double, order: Int, mix: FleetMix)] = []
    private var count = 0

    private func precedes(_ a: Int, _ b: Int) -> Bool {
        (items[a].price, items[a].order) < (items[b].price, items[b].order)
    }

    mutating func insert(_ mix: FleetMix, price: Double) {
        items.append((price, count, mix))
        count += 1
        var child = items.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            items.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func removeLeast() -> (FleetMix, Double)? {
        guard let first = items.first, let last = items.popLast() else { return nil }
        guard !items.isEmpty else { return (first.mix, first.price) }
        items[0] = last
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < items.count else { break }
            if child + 1 < items.count, precedes(child + 1, child) { child += 1 }
            guard precedes(child, parent) else { break }
            items.swapAt(child, parent)
            parent = child
        }
        return (first.mix, first.price)
    }
}
