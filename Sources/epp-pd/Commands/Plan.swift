// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel
import Router
import Simulation

/// `epp-pd plan`
struct Plan: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Search the cheapest fleet that serves a trace within its service level.",
        discussion: """
            Searches among fleets of the given accelerators, with the simulator as judge: up in price until one holds, then \
            among the cheaper ones. A bound that no policy can beat spares most runs. An accelerator may say its tensor parallelism and dtype: \
            h100-sxm:4:fp8. Without them those that compute prompts, and those that decode, for the fewest dollars are \
            taken.

            EXAMPLE
              epp-pd plan --trace mooncake_conversation_trace.jsonl.gz --model llama-3.1-70b \\
                --accelerators h100-sxm:4:fp8,l40s:4:fp8 --requests 2000
            """
    )

    @Option(help: "A Mooncake JSONL or an Azure CSV trace, .gz or not, or synthetic:KIND[,rate=N].")
    var trace: String
    @Option(help: "A list of accelerators, each NAME[:TENSOR-PARALLEL[:DTYPE]].")
    var accelerators: ListArgument<String>
    @Option(help: "The model that is served.")
    var model = "llama-3.1-70b"
    @Option(help: "Number format of the weights. Default: the model's native one.")
    var dtype: String?
    @Option(help: "Service level that requests must keep.")
    var slo = ServiceLevelArgument.standard
    @Option(help: "Share of requests that must keep it.")
    var attainment = 0.95
    @Option(help: "Divides the trace's gaps.")
    var load = 1.0
    @Option(help: "Only the first so many requests.")
    var requests: Int?
    @Option(help: "A list of seeds; their mean must hold.")
    var seed = ListArgument<UInt64>([1])
    @Option(help: "The policy that the fleet will run under.")
    var policy = "joint"
    @Option(help: "What our policies weigh: latency, balanced or cost.")
    var mode = Mode.latency
    @Option(help: "Pods of a fleet at most.")
    var maxPods = 12
    @Option(help: "Fleets that are simulated at most.")
    var maxRuns = 100
    @Option(help: "Write the result as JSON; - is standard output.")
    var json: String?
    @Option(help: "Write the cheapest fleet as a fleet file.")
    var writeFleet: String?
    @Option(help: "Folder of profiles. Default: the ones that come with epp-pd.")
    var profiles: String?

    mutating func validate() throws {
        guard let name = PolicyName(policy) else {
            throw ValidationError("no policy is named \(policy): \(PolicyName.all.joined(separator: ", "))")
        }
        guard !name.isTuned else { throw ValidationError("--policy takes one with a setting, not \(policy)") }
        guard requests.map({ $0 > 0 && $0 <= TraceReading.maximumRequests }) ?? true else {
            throw ValidationError("--requests must be from 1 to \(TraceReading.maximumRequests)")
        }
        guard (0...1).contains(attainment) else { throw ValidationError("--attainment must be from 0 to 1") }
        guard load.isFinite, load > 0, load <= 1000 else {
            throw ValidationError("--load must be above 0 and at most 1000")
        }
        guard (1...256).contains(maxPods), (1...100_000).contains(maxRuns) else {
            throw ValidationError("--max-pods must be from 1 to 256, --max-runs from 1 to 100000")
        }
        guard !accelerators.values.isEmpty, accelerators.values.count <= 8, !seed.values.isEmpty else {
            throw ValidationError("--accelerators takes from 1 to 8 names, --seed at least one number")
        }
    }

    func run() throws {
        for path in [json, writeFleet].compactMap({ $0 }) { try ResultFile.check(path) }
        let catalog = try SimulatedFleet.catalog(profiles)
        let workload = try TraceArgument.read(trace, requests: requests, seed: seed.values.first ?? 1)
        var choices: [PodChoice] = []
        for name in accelerators.values {
            choices += try PodChoices.named(name, model: model, dtype: dtype, catalog, workload, slo.rule)
        }
        var options = SimulationOptions()
        options.serviceLevel = slo.rule
        let experiment = Experiment(workload: workload, endpoints: [], options: options, mode: mode)
        guard let name = PolicyName(policy) else { return }
        var plan = FleetPlan(choices: choices, experiment: experiment, policy: name)
        (plan.load, plan.seeds, plan.attainment) = (load, seed.values, attainment)
        (plan.maximumPods, plan.maximumRuns) = (maxPods, maxRuns)
        let bar = ProgressBar()
        let result: FleetPlan.Result
        do {
            result = try plan.search { found in
                bar.begin("\(found.looked) fleets looked at, \(found.runs) simulated")
                bar.show(Double(found.runs) / Double(maxRuns))
            }
        } catch {
            bar.clear()
            Console.error("the simulation stopped: \(error)")
            throw ExitCode(1)
        }
        bar.clear()
        let report = PlanReport(plan: plan, result: result)
        if json != "-" { print(report.text) }
        if let json { try ResultFile.write(try ResultFile.json(report.document), to: json) }
        guard let best = result.best else { throw ExitCode(1) }
        if let writeFleet { try ResultFile.write(report.fleetFile(best, model: model), to: writeFleet) }
    }
}

/// Which pods an accelerator's name stands for.
enum PodChoices {
    static func named(
        _ text: String,
        model: String,
        dtype: String?,
        _ catalog: ProfileCatalog,
        _ workload: Workload,
        _ slo: ServiceLevelRule
    ) throws -> [PodChoice] {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard (1...3).contains(parts.count), !parts[0].isEmpty else {
            throw ValidationError("--accelerators takes NAME[:TENSOR-PARALLEL[:DTYPE]], not \(text)")
        }
        let stated = parts.count > 2 ? parts[2] : dtype
        if let stated, !WeightDtype.isAccepted(stated) { throw ValidationError("no dtype is named \(stated)") }
        if parts.count > 1 {
            guard let ranks = Int(parts[1]), (1...1024).contains(ranks) else {
                throw ValidationError("\(text): tensor parallelism must be from 1 to 1024")
            }
            guard let choice = try choice(parts[0], model, ranks, stated, catalog) else {
                throw ValidationError("\(text): \(model) does not fit into its memory")
            }
            return [choice]
        }
        let all = try [1, 2, 4, 8].compactMap { try choice(parts[0], model, $0, stated, catalog) }
        guard !all.isEmpty else { throw ValidationError("\(text): \(model) does not fit into eight of them") }
        let count = max(workload.requests.count, 1)
        let prompt = workload.requests.reduce(0) { $0 + $1.promptTokens } / count
        let output = workload.requests.reduce(0) { $0 + $1.outputTokens } / count
        let computing = all.min { $0.prefillDollars(prompt) < $1.prefillDollars(prompt) }
        let decoding = all.min {
            $0.decodeDollars(prompt + output / 2, slo) < $1.decodeDollars(prompt + output / 2, slo)
        }
        let chosen = [computing, decoding].compactMap { $0 }
        return chosen.count == 2 && chosen[0] == chosen[1] ? [chosen[0]] : chosen
    }

    /// Share of the longest sensible context below which a pod has too little memory for KV.
    private static let leastCapacity = 32_768

    private static func choice(
        _ accelerator: String,
        _ model: String,
        _ ranks: Int,
        _ dtype: String?,
        _ catalog: ProfileCatalog
    ) throws -> PodChoice? {
        let query = ProfileQuery(accelerator: accelerator, model: model, tensorParallel: ranks, dtype: dtype)
        let resolution = catalog.resolve(query)
        guard resolution.isKnownAccelerator else {
            throw ValidationError("no profile knows the accelerator \(accelerator)")
        }
        guard resolution.isKnownModel else { throw ValidationError("no profile knows the model \(model)") }
        guard resolution.profile.kvCapacityTokens >= leastCapacity else { return nil }
        let endpoint = Endpoint(
            id: EndpointID(0),
            name: "",
            address: "",
            port: 0,
            role: .both,
            pool: "default",
            accelerator: resolution.accelerator,
            engine: "vllm",
            servedModels: nil,
            kv: KVLayout(
                model: catalog.modelIdentity(model),
                dtype: resolution.kvDtype.rawValue,
                blockSize: nil,
                connector: nil,
                tensorParallel: ranks
            ),
            profile: resolution.profile,
            canPullKV: true,
            labels: [:]
        )
        let label = "\(resolution.accelerator) TP\(ranks) \(resolution.dtype.rawValue)"
        return PodChoice(label: label, endpoint: endpoint, dtype: resolution.dtype.rawValue)
    }
}

extension PodChoice {
    /// Dollars of one mean prompt without cache.
    fileprivate func prefillDollars(_ tokens: Int) -> Double {
        endpoint.profile.prefill.duration(newTokens: tokens, cachedTokens: 0).rawValue
            * endpoint.profile.dollarsPerSecond
    }

    /// Dollars of a token in the largest batch within the TPOT bound and memory.
    fileprivate func decodeDollars(_ context: Int, _ slo: ServiceLevelRule) -> Double {
        let profile = endpoint.profile
        let room = max(min(Double(profile.kvCapacityTokens) / Double(max(context, 1)), 256), 1)
        var best = Double.infinity
        for batch in stride(from: 1.0, through: room, by: 1) {
            let step = profile.decode.step(batch: batch, kvTokens: batch * Double(context)).rawValue
            if step > slo.tpot?.rawValue ?? .infinity, batch > 1 { break }
            best = step / batch
        }
        return best * profile.dollarsPerSecond
    }
}
