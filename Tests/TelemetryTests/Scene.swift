// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Autoscaling
import CostModel
import Router
import Telemetry

/// A small fleet and some requests on it, for the tests of this room.
enum Scene {
    static func endpoint(_ id: UInt32, _ role: Role, _ accelerator: String, models: [String] = ["m"]) -> Endpoint {
        let catalog = ProfileCatalog(documents: [])
        let resolution = catalog.resolve(ProfileQuery(accelerator: accelerator, model: "m", tensorParallel: 1))
        return Endpoint(
            id: EndpointID(id),
            name: "pod-\(id)",
            address: "10.0.0.\(id)",
            port: 8000,
            role: role,
            pool: "default",
            accelerator: accelerator,
            engine: "vllm",
            servedModels: models,
            kv: KVLayout(model: "m", dtype: "bfloat16", blockSize: 16, connector: nil, tensorParallel: 1),
            profile: resolution.profile,
            canPullKV: false,
            labels: [:]
        )
    }

    static func load(_ waiting: Int, _ running: Int, _ kvUse: Double) -> EndpointLoad {
        EndpointLoad(observedAt: Instant(1), waiting: waiting, running: running, kvUse: kvUse)
    }

    static let snapshot = FleetSnapshot(
        version: 1,
        endpoints: [
            EndpointStatus(endpoint: endpoint(0, .prefill, "h100-sxm"), load: load(2, 1, 0.25)),
            EndpointStatus(endpoint: endpoint(1, .decode, "h200-sxm"), load: load(0, 8, 0.5)),
            EndpointStatus(endpoint: endpoint(2, .decode, "h200-sxm"), load: load(1, 4, 0.25)),
            EndpointStatus(endpoint: endpoint(3, .both, "l40s"), unavailable: .unreachable),
        ],
        modelListsAreFresh: true
    )

    static func request(
        _ id: UInt64,
        model: String? = "m",
        tokens: Int = 1000,
        streams: Bool = true,
        level: ServiceLevel = ServiceLevel()
    ) -> InferenceRequest {
        InferenceRequest(
            id: RequestID(id),
            model: model,
            promptTokens: tokens,
            outputTokens: 100,
            streams: streams,
            serviceLevel: level
        )
    }

    static func decision(_ placement: Placement, ttft: Double = 0.5, tpot: Double = 0.02, cached: Int = 0) -> Decision {
        Decision(
            placement: placement,
            predictedTTFT: Seconds(ttft),
            predictedTPOT: Seconds(tpot),
            predictedDollars: Dollars(0.001),
            predictedCachedTokens: cached
        )
    }

    static let pair = Placement.pair(prefill: EndpointID(0), decode: EndpointID(1))

    /// A picker that has seen one of everything.
    static func busyMetrics() -> Metrics {
        let metrics = Metrics()
        metrics.fleetChanged(snapshot)
        metrics.arrived(request(1, level: ServiceLevel(ttft: Seconds(1), tpot: Seconds(0.01))), at: Instant(10))
        metrics.decided(Seconds(20e-6))
        metrics.dispatched(RequestID(1), decision(pair, cached: 256))
        metrics.firstToken(RequestID(1), at: Instant(10.6))
        let usage = Outcome(kind: .completed, status: 200, promptTokens: 1010, cachedTokens: 256, outputTokens: 101)
        metrics.ended(RequestID(1), usage, at: Instant(12.6))
        metrics.arrived(request(2, model: "a client's \"invention\""), at: Instant(11))
        metrics.dispatched(RequestID(2), decision(.both(EndpointID(3))))
        metrics.ended(RequestID(2), Outcome(kind: .unreachable, status: 503), at: Instant(11.1))
        metrics.arrived(request(3), at: Instant(12))
        metrics.refused(RequestID(3), .unknownModel("m"))
        metrics.arrived(request(4, tokens: 500), at: Instant(13))
        metrics.dispatched(RequestID(4), decision(.local(EndpointID(2))))
        return metrics
    }

    /// One group of which all is known, and one of which nothing is.
    static let scaling: ScalingReport = {
        var report = ScalingReport()
        var prefill = GroupReport(
            group: PodGroup(pool: "default", role: .prefill, accelerator: "h100-sxm", model: "m")
        )
        prefill.replicas = 1
        prefill.desiredReplicas = 3
        prefill.backlog = Seconds(2.5)
        prefill.utilization = 1.25
        prefill.kvUse = 0.25
        prefill.promptTokensPerSecond = 12_000
        prefill.outputTokensPerSecond = 4.5
        prefill.requestsInFlight = 3
        prefill.attainment = 0.97
        report.groups = [
            prefill,
            GroupReport(group: PodGroup(pool: "default", role: .decode, accelerator: "h200-sxm", model: "m")),
        ]
        var scaler = FleetScaler { _ in ServiceLevelRule() }
        report.pools = scaler.tick(snapshot.endpoints, own: OwnWork(), at: Instant(0)).pools
        return report
    }()

    static func samples() -> MetricSamples {
        var samples = MetricSamples()
        samples.lateBinding = [.init("default", 1), .init("other", 0)]
        samples.classes = [
            PriorityClass(minimumPriority: .min, dials: Mode.cost.dials),
            PriorityClass(minimumPriority: 10, dials: Mode.latency.dials),
        ]
        samples.scrapes = 100
        samples.scaling = scaling
        samples.scrapeErrors = [.init("refused", 3), .init("timeout", 0)]
        samples.modelLists = 4
        samples.snapshots = 50
        samples.failedReloads = 1
        samples.fileIsBad = true
        samples.immediateAnswers = [.init("400", 1), .init("404", 1)]
        samples.indexBytes = 4096
        samples.indexBlocks = 12
        samples.index.heldBlocks = 20
        samples.index.budgetBytes = 1 << 20
        samples.index.events = [.init("stored", 128), .init("orphan", 2)]
        samples.index.batches = 9
        samples.index.malformedBatches = 1
        samples.index.gaps = 1
        samples.index.lostBatches = 3
        samples.index.publishers = 4
        samples.index.doubtfulPublishers = 1
        samples.index.predictedTokens = 1_000
        samples.index.reportedTokens = 750
        samples.index.missedTokens = 250
        samples.index.engineQueries = 4_000
        samples.index.engineHits = 1_000
        samples.index.distrustedEndpoints = 1
        samples.index.keys = [.init("engine", 5), .init("text", 7)]
        samples.processorSeconds = 1.25
        samples.residentBytes = 50_000_000
        samples.isReady = true
        samples.version = "0.1.0"
        return samples
    }
}
