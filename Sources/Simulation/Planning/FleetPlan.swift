// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// The cheapest fleet that keeps a service level, with the simulator as judge. How it is found: `FleetSearch`.
package struct FleetPlan {
    package var choices: [PodChoice]
    package var experiment: Experiment
    package var policy: PolicyName
    package var load = 1.0
    package var seeds: [UInt64] = [1]
    package var attainment = 0.95
    package var maximumPods = 16
    package var maximumRuns = 200

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
        /// The dearest fleet up to the best one's price that was run and failed.
        package var failed: Judged?
        package var looked = 0
        package var beyondBound = 0
        package var runs = 0
        /// The runs were used up while nothing ruled out that a cheaper fleet than the best one holds, or a cheaper one
        /// than the runner-up.
        package var mayBeCheaper = false
        package var mayHaveOthers = false
    }

    /// Goes through the fleets by `FleetSearch`.
    ///
    /// - Parameter progress: told before each run.
    /// - Returns: what was found.
    /// - Throws: `SimulationError` where a run breaks off.
    package func search(progress: (Result) -> Void = { _ in }) throws(SimulationError) -> Result {
        var search = FleetSearch(self)
        try search.run(progress)
        return search.result
    }

    /// - Returns: how many times the load the fluid bound allows `mix`, below 1 where no policy can carry it.
    func room(of mix: FleetMix, _ workload: Workload, _ cached: [Int]) -> Double {
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

    func judge(_ mix: FleetMix, price: Double, room: Double) throws(SimulationError) -> Judged {
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
