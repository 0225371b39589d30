// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Router

/// Runs of several policies on one fleet and one workload, at several loads and seeds.
package struct Experiment {
    package var workload: Workload
    package var endpoints: [Endpoint]
    package var options: SimulationOptions
    package var mode: Mode
    /// Nanoseconds of any clock, to time decisions.
    package var stopwatch: (() -> UInt64)?
    /// Changes what our policies are told, for experiments.
    package var adjust: (inout RouterOptions) -> Void = { _ in }

    package init(workload: Workload, endpoints: [Endpoint], options: SimulationOptions, mode: Mode) {
        self.workload = workload
        self.endpoints = endpoints
        self.options = options
        self.mode = mode
    }

    /// One policy at one load and seed. A tuned baseline runs once per setting of its sweep; the setting with the best
    /// attainment is its result, the lower mean TTFT among equals.
    ///
    /// - Throws: `SimulationError` where the simulation cannot keep its promises.
    package func run(
        _ name: PolicyName,
        load: Double,
        seed: UInt64,
        progress: ((Double) -> Void)? = nil
    ) throws(SimulationError) -> PolicyRun {
        guard let best = try run(name, load: load, seed: seed, mostMissed: nil, progress: progress) else {
            throw .impossibleFleet("the policy \(name.text) has no setting")
        }
        return best
    }

    /// The same, unless more than `mostMissed` requests miss their service level: nil then, as soon as that is certain.
    func run(
        _ name: PolicyName,
        load: Double,
        seed: UInt64,
        mostMissed: Int?,
        progress: ((Double) -> Void)? = nil
    ) throws(SimulationError) -> PolicyRun? {
        var options = options
        options.seed = seed
        let scaled = workload.scaled(load: load, seed: seed)
        let pools = Set(endpoints.map(\.pool))
        let catalog = PolicyCatalog(mode: mode, options: options, pools: pools, adjust: adjust)
        let variants = catalog.variants(of: name)
        var best: PolicyRun?
        for (index, variant) in variants.enumerated() {
            let simulation = try Simulation(
                workload: scaled,
                endpoints: endpoints,
                options: options,
                knowledge: variant.knowledge,
                stopwatch: stopwatch,
                makePolicy: variant.make
            )
            let share = 1 / Double(variants.count)
            guard
                let record = try simulation.run(
                    mostMissed: mostMissed,
                    progress: { progress?((Double(index) + $0) * share) }
                )
            else { continue }
            let run = PolicyRun(policy: name.text, load: load, seed: seed, record: record)
            if best.map({ Self.isBetter(run.metrics, $0.metrics) }) ?? true { best = run }
        }
        return best
    }

    static func isBetter(_ a: PolicyMetrics, _ b: PolicyMetrics) -> Bool {
        a.sloAttainment != b.sloAttainment ? a.sloAttainment > b.sloAttainment : a.ttftMean < b.ttftMean
    }

    /// What no policy can beat at a load and seed.
    package func bounds(load: Double, seed: UInt64) -> Bounds {
        var options = options
        options.seed = seed
        let scaled = workload.scaled(load: load, seed: seed)
        return Bounds(workload: scaled, endpoints: endpoints, options: options, load: load)
    }

    /// Steps in which `findMaximumLoad` searches.
    package static let loadStep = 0.05
    static let highestLoad = 64.0

    /// The highest load, in steps of 0.05, at which the mean attainment over the seeds is at least `target`.
    ///
    /// Attainment falls with load but for chance; the search doubles until it fails, then halves the gap.
    ///
    /// - Returns: the load, 0 where even the lowest fails, what was tried last where none up to 64 does, and the runs
    ///   that were made, in order.
    /// - Throws: `SimulationError` where the simulation cannot keep its promises.
    package func findMaximumLoad(
        _ name: PolicyName,
        target: Double,
        seeds: [UInt64],
        progress: ((Double) -> Void)? = nil
    ) throws(SimulationError) -> (load: Double, runs: [PolicyRun]) {
        var runs: [PolicyRun] = []
        func holds(_ steps: Int) throws(SimulationError) -> Bool {
            var sum = 0.0
            for seed in seeds {
                let run = try run(name, load: Double(steps) * Self.loadStep, seed: seed)
                runs.append(run)
                sum += run.metrics.sloAttainment
            }
            return sum >= target * Double(seeds.count)
        }
        var (good, bad) = (0, Int((1 / Self.loadStep).rounded()))
        while try holds(bad) {
            good = bad
            bad *= 2
            progress?(0.3)
            guard Double(bad) * Self.loadStep <= Self.highestLoad else { return (Double(good) * Self.loadStep, runs) }
        }
        while bad - good > 1 {
            let middle = (good + bad) / 2
            if try holds(middle) { good = middle } else { bad = middle }
            progress?(1 - Double(bad - good) / Double(max(bad, 1)))
        }
        return (Double(good) * Self.loadStep, runs)
    }
}

/// The results of a command, as JSON.
package struct ExperimentResults: Sendable, Codable {
    package struct Run: Sendable, Codable {
        package var load: Double
        package var seed: UInt64
        package var policies: [String: PolicyMetrics]
        package var bounds: Bounds

        package init(load: Double, seed: UInt64, policies: [String: PolicyMetrics], bounds: Bounds) {
            self.load = load
            self.seed = seed
            self.policies = policies
            self.bounds = bounds
        }
    }

    package struct MaximumLoad: Sendable, Codable {
        package var attainment: Double
        /// Per policy.
        package var loads: [String: Double]

        package init(attainment: Double, loads: [String: Double]) {
            self.attainment = attainment
            self.loads = loads
        }
    }

    package var runs: [Run]
    package var maximumLoad: MaximumLoad?

    enum CodingKeys: String, CodingKey {
        case runs
        case maximumLoad = "max_load"
    }

    package init(runs: [Run], maximumLoad: MaximumLoad? = nil) {
        self.runs = runs
        self.maximumLoad = maximumLoad
    }
}
