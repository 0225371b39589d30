// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import CostModel
import Router
import Simulation

/// `epp-pd simulate`
struct Simulate: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Replay a trace on a simulated fleet under one or more routing policies.",
        discussion: """
            Policies: \(PolicyName.all.joined(separator: ", ")).
            A baseline's NAME-pull lets it fetch prefixes from peers; NAME@tuned is the best setting of a small sweep.
            Faults: \(FaultArgument.forms).
            docs/simulator.md says what is simulated, and what each key of the JSON means.

            EXAMPLES
              epp-pd simulate --trace mooncake_conversation_trace.jsonl.gz
              epp-pd simulate --trace mooncake_conversation_trace.jsonl.gz --fleet fleet.yaml \\
                --policy joint,llm-d-pull@tuned,lmetric --load 0.8,1.2,1.6 --seed 1,2,3 --report page.html
              epp-pd simulate --trace synthetic:agents,rate=2 --requests 5000 --fault crash:d-h100@5m+1m --json -
              epp-pd simulate --trace mooncake_conversation_trace.jsonl.gz --policy joint,dynamo --find-max-load 0.95
            """
    )

    @Option(help: "A Mooncake JSONL or an Azure CSV trace, .gz or not, or synthetic:KIND[,rate=N].")
    var trace: String
    @Option(help: "The fleet file, as of serve. Default: five prefill and four decode pods of Llama-3.1-70B.")
    var fleet: String?
    @Option(help: "Divides the trace's gaps; a list.")
    var load = ListArgument<Double>([1])
    @Option(help: "A list of policies.")
    var policy = ListArgument<String>(["joint"])
    @Option(help: "A list of seeds.")
    var seed = ListArgument<UInt64>([1])
    @Option(help: "Only the first so many requests of the trace; how many of a synthetic one (default: 10000).")
    var requests: Int?
    @Option(help: "Service level that results are judged by, and that policies are told.")
    var slo = ServiceLevelArgument.standard
    @Option(help: "What our policies weigh: latency, balanced or cost.")
    var mode = Mode.latency
    @Option(help: "Steers our policies' value of time towards attainment=SHARE or dollarsPerThousand=N.")
    var control: ControlArgument?
    @Option(help: "How often pickers read the pods' metrics.")
    var scrapeInterval = DurationArgument("100ms")
    @Option(help: "Pickers side by side that share nothing.")
    var pickers = 1
    @Option(help: "Share of requests that may be refused.")
    var sheddableShare = 0.0
    @Option(help: "TTFT charged to a request that was refused or failed.")
    var deadline = DurationArgument("120s")
    @Option(help: "Share of requests whose answers the pickers see, as in lean modes.")
    var observedShare = 1.0
    @Option(help: "Log-deviation of a prompt's duration; a decode step has half of it.")
    var noise = 0.2
    @Option(help: "Log-deviation of the pods' constant speeds, which no policy knows.")
    var speedBias = 0.1
    @Option(help: "From a decision to the model server.")
    var controlDelay = DurationArgument("10ms")
    @Option(help: "Poisson arrivals with the trace's lengths, without prefixes: REQUESTS-PER-SECOND,DURATION.")
    var poisson: String?
    @Flag(help: "The trace's requests in the same time, at equal gaps.")
    var evenArrivals = false
    @Option(help: "Multiplies the KV memory of every pod.")
    var kvMemoryScale = 1.0
    @Flag(help: "Model servers serve by the priority that our policies give, not in order of arrival.")
    var enginePriority = false
    @Option(help: "Tokens per step of prefill pods that mix chunks of prompts. Default: whole prompts, one by one.")
    var prefillChunk: Int?
    @Option(help: "Share of requests whose answers are streamed: of the others no first token is seen.")
    var streamingShare = 1.0
    @Option(help: "Something that goes wrong; may be repeated.")
    var fault: [String] = []
    @Option(help: "Share of cached-block reports that are lost.")
    var eventLoss = 0.0
    @Option(help: "Mean delay of cached-block reports; they overtake each other.")
    var eventDelay = DurationArgument("0s")
    @Option(help: "Search the highest load with this attainment, per policy.")
    var findMaxLoad: Double?
    @Option(help: "Write results as JSON; - is standard output.")
    var json: String?
    @Option(help: "Write a page with plots.")
    var report: String?
    @Option(help: "Folder to write the page's overview plots to, as SVG.")
    var plots: String?
    @Option(help: "Folder of profiles. Default: the ones that come with epp-pd.")
    var profiles: String?

    mutating func validate() throws {
        guard load.values.allSatisfy({ $0.isFinite && $0 > 0 && $0 <= 1000 }), !load.values.isEmpty else {
            throw ValidationError("--load must be above 0 and at most 1000")
        }
        for name in policy.values where PolicyName(name) == nil {
            throw ValidationError("no policy is named \(name): \(PolicyName.all.joined(separator: ", "))")
        }
        guard (1...64).contains(pickers) else { throw ValidationError("--pickers must be from 1 to 64") }
        guard scrapeInterval.value >= Seconds(0.001) else {
            throw ValidationError("--scrape-interval must be at least 1ms")
        }
        let shares = [sheddableShare, observedShare, streamingShare, eventLoss, findMaxLoad ?? 0]
        guard shares.allSatisfy({ (0...1).contains($0) }) else { throw ValidationError("shares must be from 0 to 1") }
        guard (0...2).contains(noise), (0...2).contains(speedBias) else {
            throw ValidationError("--noise and --speed-bias must be from 0 to 2")
        }
        guard (0.001...1000).contains(kvMemoryScale) else {
            throw ValidationError("--kv-memory-scale must be from 0.001 to 1000")
        }
        guard prefillChunk.map({ (1...1_000_000).contains($0) }) ?? true else {
            throw ValidationError("--prefill-chunk must be from 1 to 1000000 tokens")
        }
        guard !evenArrivals || poisson == nil else {
            throw ValidationError("--even-arrivals and --poisson exclude each other")
        }
        guard requests.map({ $0 > 0 && $0 <= TraceReading.maximumRequests }) ?? true else {
            throw ValidationError("--requests must be from 1 to \(TraceReading.maximumRequests)")
        }
    }

    func run() throws {
        if let json { try ResultFile.check(json) }
        if let report { try ResultFile.check(report, isStandardOutput: false) }
        if let plots { try ResultFile.makeFolder(plots) }
        var endpoints = try SimulatedFleet.read(fleet, profiles: profiles)
        for index in endpoints.indices { endpoints[index].profile.scaleKVMemory(by: kvMemoryScale) }
        let experiment = try experiment(endpoints)
        let bar = ProgressBar()
        defer { bar.clear() }
        do {
            if let target = findMaxLoad {
                try search(experiment, target: target, bar)
            } else {
                try compare(experiment, bar)
            }
        } catch SimulationError.impossibleFleet(let reason) {
            throw ValidationError("\(fleetName): \(reason)")
        } catch let error as SimulationError {
            bar.clear()
            Console.error("the simulation stopped: \(error)")
            throw ExitCode(1)
        }
    }

    private func experiment(_ endpoints: [Endpoint]) throws -> Experiment {
        var workload = try TraceArgument.read(trace, requests: requests, seed: seed.values.first ?? 1)
        if let poisson {
            let parts = poisson.split(separator: ",").map(String.init)
            guard parts.count == 2, let rate = Double(parts[0]), rate > 0, rate <= 1e6,
                let span = DurationArgument(argument: parts[1])
            else { throw ValidationError("--poisson takes REQUESTS-PER-SECOND,DURATION, such as 10,120s") }
            workload = SyntheticWorkload.poisson(
                lengthsOf: workload,
                rate: rate,
                duration: span.value.rawValue,
                seed: seed.values.first ?? 1
            )
        }
        if evenArrivals { workload = workload.evenlySpaced() }
        guard !workload.requests.isEmpty else { throw ValidationError("there are no requests") }
        var options = SimulationOptions()
        options.pickers = pickers
        options.scrapeInterval = scrapeInterval.value.rawValue
        options.controlDelay = controlDelay.value.rawValue
        options.prefillNoise = noise
        options.decodeNoise = noise / 2
        options.speedBias = speedBias
        options.sheddableShare = sheddableShare
        options.observedShare = observedShare
        options.streamingShare = streamingShare
        options.enginePriority = enginePriority
        options.prefillChunk = prefillChunk
        options.deadline = deadline.value.rawValue
        options.blockReports = BlockReports(loss: eventLoss, meanDelay: eventDelay.value.rawValue)
        options.serviceLevel = slo.rule
        options.faults = try fault.map { try FaultArgument.parse($0, endpoints, pickers: pickers) }
        var experiment = Experiment(workload: workload, endpoints: endpoints, options: options, mode: mode)
        experiment.stopwatch = monotonicNanoseconds
        if let target = control?.target { experiment.adjust = { $0.control = target } }
        return experiment
    }

    private var fleetName: String { fleet ?? StandardFleet.name }

    private var names: [PolicyName] { policy.values.compactMap { PolicyName($0) } }

    private func compare(_ experiment: Experiment, _ bar: ProgressBar) throws {
        var runs: [PolicyRun] = []
        var results = ExperimentResults(runs: [])
        for load in load.values {
            for seed in seed.values {
                var metrics: [String: PolicyMetrics] = [:]
                for name in names {
                    bar.begin("\(name.text) load \(load) seed \(seed)")
                    let run = try experiment.run(name, load: load, seed: seed, progress: bar.show)
                    metrics[name.text] = run.metrics
                    runs.append(run)
                }
                let bounds = experiment.bounds(load: load, seed: seed)
                results.runs.append(.init(load: load, seed: seed, policies: metrics, bounds: bounds))
            }
        }
        bar.clear()
        try write(experiment, runs, results)
    }

    private func search(_ experiment: Experiment, target: Double, _ bar: ProgressBar) throws {
        var loads: [String: Double] = [:]
        var runs: [PolicyRun] = []
        for name in names {
            bar.begin("highest load of \(name.text)")
            let found = try experiment.findMaximumLoad(name, target: target, seeds: seed.values, progress: bar.show)
            loads[name.text] = found.load
            runs += found.runs
        }
        bar.clear()
        var results = ExperimentResults(runs: [], maximumLoad: .init(attainment: target, loads: loads))
        var seen: Set<String> = []
        for run in runs where seen.insert("\(run.load) \(run.seed)").inserted {
            let same = runs.filter { $0.load == run.load && $0.seed == run.seed }
            let metrics = Dictionary(same.map { ($0.policy, $0.metrics) }, uniquingKeysWith: { first, _ in first })
            let bounds = experiment.bounds(load: run.load, seed: run.seed)
            results.runs.append(.init(load: run.load, seed: run.seed, policies: metrics, bounds: bounds))
        }
        results.runs.sort { ($0.load, $0.seed) < ($1.load, $1.seed) }
        try write(experiment, runs, results)
    }

    private func write(_ experiment: Experiment, _ runs: [PolicyRun], _ results: ExperimentResults) throws {
        if json != "-" {
            print(RunTable.rendered(runs))
            if findMaxLoad == nil { print("\n" + RunTable.bounds(results.runs)) }
            if let found = results.maximumLoad {
                print("\nhighest load with SLO attainment of at least \(found.attainment):")
                for name in names { print("  \(name.text)  \(Numbers.fixed(found.loads[name.text] ?? 0, 2))") }
            }
        }
        if let json { try ResultFile.write(try ResultFile.json(results), to: json) }
        try writePages(experiment, runs, results)
    }

    private func writePages(_ experiment: Experiment, _ runs: [PolicyRun], _ results: ExperimentResults) throws {
        guard report != nil || plots != nil else { return }
        let facts = [
            ("trace", "\(experiment.workload.name), \(experiment.workload.requests.count) requests"),
            ("fleet", "\(fleetName), \(experiment.endpoints.count) pods"),
            ("service level", slo.defaultValueDescription), ("mode", mode.rawValue),
            ("seeds", seed.defaultValueDescription),
            ("pickers", "\(pickers), scrapes every \(scrapeInterval.defaultValueDescription), noise \(noise)"),
        ]
        let page = HTMLReport(title: "epp-pd simulate", facts: facts, runs: runs, results: results)
        if let report { try ResultFile.write(page.html, to: report) }
        if let plots {
            for plot in page.plots { try ResultFile.write(plot.svg, to: "\(plots)/\(plot.name).svg") }
        }
    }
}
