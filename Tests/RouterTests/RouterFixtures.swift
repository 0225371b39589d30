// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex
import Synchronization
import TestSupport

@testable import Router

/// Pods of Llama-3.1-70B with coefficients as in profiles/, rounded.
enum Pods {
    static func profile(
        base: Double,
        perThousand: Double,
        perMillionPairs: Double,
        step: Double,
        perSequence: Double,
        perMillionKV: Double,
        hourly: Double,
        capacity: Int,
        network: Double
    ) -> PodProfile {
        PodProfile(
            prefill: PrefillCoefficients(
                knee: 256,
                base: base / 1e3,
                perTokenBelowKnee: perThousand / 1e6,
                perTokenAboveKnee: perThousand / 1e6,
                perPair: perMillionPairs / 1e9,
                perContextToken: 0
            ),
            decode: DecodeCoefficients(
                knee: 128,
                base: step / 1e3,
                perSequenceBelowKnee: perSequence / 1e3,
                perSequenceAboveKnee: perSequence / 1e3,
                perKVToken: perMillionKV / 1e9
            ),
            mixed: StepCoefficients(
                knee: 256,
                base: base / 1e3,
                perTokenBelowKnee: perThousand / 1e6,
                perTokenAboveKnee: perThousand / 1e6,
                perPair: perMillionPairs / 1e9,
                perSequence: perSequence / 1e3,
                perKVToken: perMillionKV / 1e9
            ),
            ttftOverhead: Seconds(0.008),
            prefillError: 0.1,
            decodeError: 0.1,
            kvBytesPerToken: 327_680,
            kvCapacityTokens: capacity,
            layers: 80,
            networkBytesPerSecond: network,
            memoryBytesPerSecond: 13e12,
            dollarsPerSecond: hourly / 3600,
            source: .fitted
        )
    }

    static let h100 = profile(
        base: 11.2,
        perThousand: 48.4,
        perMillionPairs: 0.956,
        step: 10.9,
        perSequence: 0.040,
        perMillionKV: 27.5,
        hourly: 15.96,
        capacity: 480_000,
        network: 140e9
    )
    static let h200 = profile(
        base: 13.6,
        perThousand: 66.2,
        perMillionPairs: 2.0,
        step: 14.0,
        perSequence: 0.068,
        perMillionKV: 36.2,
        hourly: 9.18,
        capacity: 470_000,
        network: 70e9
    )
    static let a100 = profile(
        base: 16.6,
        perThousand: 101,
        perMillionPairs: 1.81,
        step: 17.5,
        perSequence: 0.159,
        perMillionKV: 25.7,
        hourly: 22.32,
        capacity: 1_200_000,
        network: 140e9
    )

    static func layout(model: String = "llama-3.1-70b", connector: String? = "nixl") -> KVLayout {
        KVLayout(model: model, dtype: "bfloat16", blockSize: 16, connector: connector, tensorParallel: 4)
    }

    static func endpoint(
        _ id: UInt32,
        _ role: Role,
        _ profile: PodProfile = h100,
        served: [String]? = ["m"],
        kv: KVLayout = layout(),
        pool: String = "default",
        accelerator: String = "h100-sxm",
        canPull: Bool = false,
        labels: [String: String] = [:]
    ) -> Endpoint {
        Endpoint(
            id: EndpointID(id),
            name: "\(role.rawValue)-\(id)",
            address: "10.0.0.\(id)",
            port: 8000,
            role: role,
            pool: pool,
            accelerator: accelerator,
            engine: "vllm",
            servedModels: served,
            kv: kv,
            profile: profile,
            canPullKV: canPull,
            labels: labels
        )
    }

    static func snapshot(_ endpoints: [Endpoint], version: UInt64 = 1, fresh: Bool = false) -> FleetSnapshot {
        FleetSnapshot(
            version: version,
            endpoints: endpoints.map { EndpointStatus(endpoint: $0, modelListIsFresh: fresh) },
            modelListsAreFresh: fresh
        )
    }

    /// As deploy/examples/fleets/mixed-70b-5p4d.yaml: five prefill pods, four decode pods.
    static let mixed = snapshot([
        endpoint(1, .prefill, h100), endpoint(2, .prefill, h100), endpoint(3, .prefill, h200),
        endpoint(4, .prefill, h200), endpoint(5, .prefill, a100, accelerator: "a100-sxm"),
        endpoint(6, .decode, h200), endpoint(7, .decode, h200), endpoint(8, .decode, h100),
        endpoint(9, .decode, a100, accelerator: "a100-sxm"),
    ])

    static func request(
        _ id: UInt64,
        prompt: Int = 2000,
        output: Int = 200,
        streams: Bool = true,
        priority: Int = 0,
        model: String? = "m",
        level: ServiceLevel = ServiceLevel(),
        hashes: [UInt64] = [],
        subset: [String]? = nil,
        isInference: Bool = true
    ) -> InferenceRequest {
        InferenceRequest(
            id: RequestID(id),
            model: model,
            promptTokens: prompt,
            outputTokens: output,
            streams: streams,
            priority: priority,
            serviceLevel: level,
            prefix: PrefixKeys(kind: .text, tokensPerBlock: 16, hashes: hashes),
            subset: subset,
            isInference: isInference
        )
    }
}

/// An index of exact prefixes, as simple as it can be.
final class FakePrefixes: PrefixAnswers {
    private let known = Mutex<[EndpointID: [[UInt64]]]>([:])

    func holders(of keys: PrefixKeys, into result: inout [PrefixHolding]) {
        result.removeAll(keepingCapacity: true)
        let all = known.withLock { $0 }
        for (endpoint, prompts) in all.sorted(by: { $0.key < $1.key }) {
            let blocks = prompts.map { zip($0, keys.hashes).prefix { $0 == $1 }.count }.max() ?? 0
            if blocks > 0 {
                result.append(PrefixHolding(endpoint: endpoint, tokens: Int(Double(blocks) * keys.tokensPerBlock)))
            }
        }
    }

    func learn(_ keys: PrefixKeys, at endpoint: EndpointID) {
        known.withLock {
            var prompts = $0[endpoint] ?? []
            if prompts.contains(keys.hashes) { return }
            prompts.append(keys.hashes)
            $0[endpoint] = prompts.suffix(64)
        }
    }
}

/// A Router with a clock, for tests that tell a story.
struct Story {
    var router: Router
    let prefixes = FakePrefixes()
    var now = 0.0
    var lastDispatched: UInt64 = 0

    init(_ fleet: FleetSnapshot, options: RouterOptions = RouterOptions(), seed: UInt64 = 1) {
        router = Router(options: options, prefixes: prefixes, seed: seed)
        _ = send(.fleetChanged(fleet))
    }

    mutating func send(_ event: RouterEvent, after seconds: Double = 0) -> [RouterAction] {
        now += seconds
        var actions: [RouterAction] = []
        router.handle(event, at: Instant(now), into: &actions)
        for case .dispatch(let id, _) in actions { lastDispatched = id.rawValue }
        return actions
    }

    /// The decision of a request that is placed at once.
    mutating func decide(_ request: InferenceRequest, after seconds: Double = 0) -> Decision? {
        for case .dispatch(request.id, let decision) in send(.arrived(request), after: seconds) { return decision }
        return nil
    }

    mutating func refusal(_ request: InferenceRequest) -> Refusal? {
        for case .refuse(request.id, let refusal) in send(.arrived(request)) { return refusal }
        return nil
    }

    mutating func end(_ id: UInt64, _ kind: Outcome.Kind = .completed, status: Int? = nil) {
        _ = send(.ended(RequestID(id), Outcome(kind: kind, status: status)))
    }
}
