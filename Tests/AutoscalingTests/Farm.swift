// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Glibc
import Router
import TestSupport

@testable import Autoscaling

/// Model servers that count what Poisson arrivals bring them, without queues: for the properties of what is said of
/// them. Coefficients of a 70B model on four H100, as in profiles/, rounded.
struct Farm {
    static let profile = PodProfile(
        prefill: PrefillCoefficients(
            knee: 256,
            base: 0.0112,
            perTokenBelowKnee: 48.4e-6,
            perTokenAboveKnee: 48.4e-6,
            perPair: 0.956e-9,
            perContextToken: 0
        ),
        decode: DecodeCoefficients(
            knee: 128,
            base: 0.0109,
            perSequenceBelowKnee: 40e-6,
            perSequenceAboveKnee: 40e-6,
            perKVToken: 27.5e-9
        ),
        mixed: StepCoefficients(
            knee: 256,
            base: 0.0112,
            perTokenBelowKnee: 48.4e-6,
            perTokenAboveKnee: 48.4e-6,
            perPair: 0.956e-9,
            perSequence: 40e-6,
            perKVToken: 27.5e-9
        ),
        ttftOverhead: Seconds(0.008),
        prefillError: 0.1,
        decodeError: 0.1,
        kvBytesPerToken: 327_680,
        kvCapacityTokens: 480_000,
        layers: 80,
        networkBytesPerSecond: 140e9,
        memoryBytesPerSecond: 13e12,
        dollarsPerSecond: 15.96 / 3600,
        source: .fitted
    )
    static let rule = ServiceLevelRule(ttftBase: Seconds(2), tpot: Seconds(0.03))

    struct Server {
        var id: EndpointID
        var role: Role
        var counters = PodCounters()
        var running = 0
    }

    var servers: [Server] = []
    var random: SplitMix64
    var promptTokens = 4000.0
    var outputTokens = 300.0
    private var nextID: UInt32 = 1

    init(prefill: Int, decode: Int, seed: UInt64) {
        random = SplitMix64(seed: seed)
        for _ in 0..<prefill { add(.prefill) }
        for _ in 0..<decode { add(.decode) }
    }

    mutating func add(_ role: Role) {
        servers.append(Server(id: EndpointID(nextID), role: role))
        nextID += 1
    }

    mutating func removeOne(_ role: Role) {
        if let index = servers.lastIndex(where: { $0.role == role }) { servers.remove(at: index) }
    }

    /// The arrivals of `span` seconds at `rate` per second, spread evenly over the pods by draws.
    mutating func serve(rate: Double, span: Double) {
        let mean = rate * span
        let prefills = servers.indices.filter { servers[$0].role == .prefill }
        let decodes = servers.indices.filter { servers[$0].role == .decode }
        for _ in 0..<poisson(mean) {
            let length = exponentialDraw(promptTokens).rounded() + 1
            let output = exponentialDraw(outputTokens).rounded() + 1
            if let index = prefills.randomElement(using: &random) {
                servers[index].counters.requests += 1
                servers[index].counters.promptTokens += length
                servers[index].counters.generatedTokens += 1
            }
            if let index = decodes.randomElement(using: &random) {
                servers[index].counters.requests += 1
                servers[index].counters.promptTokens += length
                servers[index].counters.transferredTokens += length
                servers[index].counters.generatedTokens += output
            }
        }
        let tpot = 0.015
        for index in decodes {
            servers[index].running = poisson(rate * outputTokens * tpot / Double(decodes.count))
        }
    }

    private mutating func unit() -> Double { Double(random.next() >> 11) * 0x1p-53 }

    private mutating func exponentialDraw(_ mean: Double) -> Double { -mean * log(1 - unit()) }

    private mutating func poisson(_ mean: Double) -> Int {
        guard mean < 200 else { return max(Int(mean + normal() * mean.squareRoot()), 0) }
        var left = exp(-mean)
        var count = -1
        repeat {
            left /= unit()
            count += 1
        } while left < 1
        return count
    }

    private mutating func normal() -> Double {
        (0..<12).reduce(0) { sum, _ in sum + unit() } - 6
    }

    func endpoint(_ server: Server) -> Endpoint {
        Endpoint(
            id: server.id,
            name: "pod-\(server.id.rawValue)",
            address: "10.0.0.1",
            port: 8000,
            role: server.role,
            pool: "pool",
            accelerator: "h100",
            engine: "vllm",
            servedModels: ["llama"],
            kv: KVLayout(model: "llama", dtype: "bf16", blockSize: 16, connector: nil, tensorParallel: 4),
            profile: Self.profile,
            canPullKV: false,
            labels: [:]
        )
    }

    static func group(_ role: Role) -> PodGroup {
        PodGroup(pool: "pool", role: role, accelerator: "h100", model: "llama")
    }
}

/// One picker's view of a farm: it scrapes each pod at its own times.
struct Watcher {
    var scaler: FleetScaler
    private var due: [EndpointID: Double] = [:]
    private var statuses: [EndpointID: EndpointStatus] = [:]
    private var random: SplitMix64
    private(set) var report = ScalingReport()

    init(seed: UInt64, settings: FleetScaler.Settings = FleetScaler.Settings()) {
        random = SplitMix64(seed: seed)
        scaler = FleetScaler(settings) { _ in Farm.rule }
    }

    /// Scrapes what is due.
    mutating func look(_ farm: Farm, at now: Double) {
        for server in farm.servers where (due[server.id] ?? 0) <= now {
            due[server.id] = now + 0.05 + Double(random.next() >> 11) * 0x1p-53
            scaler.observed(server.id, PodReading(counters: server.counters, tellsTransfers: true))
            statuses[server.id] = EndpointStatus(
                endpoint: farm.endpoint(server),
                load: EndpointLoad(observedAt: Instant(now), waiting: 0, running: server.running, kvUse: 0.2)
            )
        }
        let present = Set(farm.servers.map(\.id))
        statuses = statuses.filter { present.contains($0.key) }
    }

    mutating func tick(_ own: OwnWork = OwnWork(), at now: Double) {
        let fleet = statuses.values.sorted { $0.endpoint.id < $1.endpoint.id }
        report = scaler.tick(fleet, own: own, at: Instant(now))
    }

    func desired(_ role: Role) -> Int {
        report.groups.first { $0.group == Farm.group(role) }?.desiredReplicas ?? -1
    }

    func group(_ role: Role) -> GroupReport? { report.groups.first { $0.group == Farm.group(role) } }
}
