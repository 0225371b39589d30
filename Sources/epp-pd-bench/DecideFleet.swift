// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// Pods of Llama-3.1-70B on three kinds of accelerators, as the documents' mixed fleet has them.
enum DecideFleet {
    /// Coefficients of H100 TP4, H200 TP2 and A100 TP8 in bfloat16 (profiles/): milliseconds, and per thousand tokens,
    /// per million pairs, per sequence, per million KV tokens; dollars per hour.
    private static let kinds: [(name: String, prefill: [Double], decode: [Double], hourly: Double, capacity: Int)] = [
        ("h100-sxm", [11.2, 48.4, 0.956], [10.9, 0.040, 27.5], 15.96, 480_000),
        ("h200-sxm", [13.6, 66.2, 2.0], [14.0, 0.068, 36.2], 9.18, 470_000),
        ("a100-sxm", [16.6, 101, 1.81], [17.5, 0.159, 25.7], 22.32, 1_200_000),
    ]

    static func snapshot(pods: Int) -> FleetSnapshot {
        var endpoints: [EndpointStatus] = []
        for index in 0..<(2 * pods) {
            let kind = kinds[index % kinds.count]
            let endpoint = Endpoint(
                id: EndpointID(UInt32(index + 1)),
                name: "pod-\(index)",
                address: "10.\(index / 65_536).\(index / 256 % 256).\(index % 256)",
                port: 8000,
                role: index < pods ? .prefill : .decode,
                pool: "default",
                accelerator: kind.name,
                engine: "vllm",
                servedModels: ["m"],
                kv: KVLayout(
                    model: "llama-3.1-70b",
                    dtype: "bfloat16",
                    blockSize: 16,
                    connector: "nixl",
                    tensorParallel: 4
                ),
                profile: profile(kind.prefill, kind.decode, hourly: kind.hourly, capacity: kind.capacity),
                canPullKV: false,
                labels: [:]
            )
            endpoints.append(EndpointStatus(endpoint: endpoint, modelListIsFresh: true))
        }
        return FleetSnapshot(version: 1, endpoints: endpoints, modelListsAreFresh: true)
    }

    private static func profile(_ prefill: [Double], _ decode: [Double], hourly: Double, capacity: Int) -> PodProfile {
        PodProfile(
            prefill: PrefillCoefficients(
                knee: 256,
                base: prefill[0] / 1e3,
                perTokenBelowKnee: prefill[1] / 1e6,
                perTokenAboveKnee: prefill[1] / 1e6,
                perPair: prefill[2] / 1e9,
                perContextToken: 0
            ),
            decode: DecodeCoefficients(
                knee: 128,
                base: decode[0] / 1e3,
                perSequenceBelowKnee: decode[1] / 1e3,
                perSequenceAboveKnee: decode[1] / 1e3,
                perKVToken: decode[2] / 1e9
            ),
            mixed: StepCoefficients(
                knee: 256,
                base: prefill[0] / 1e3,
                perTokenBelowKnee: prefill[1] / 1e6,
                perTokenAboveKnee: prefill[1] / 1e6,
                perPair: prefill[2] / 1e9,
                perSequence: decode[1] / 1e3,
                perKVToken: decode[2] / 1e9
            ),
            ttftOverhead: Seconds(0.008),
            prefillError: 0.1,
            decodeError: 0.1,
            kvBytesPerToken: 327_680,
            kvCapacityTokens: capacity,
            layers: 80,
            networkBytesPerSecond: 140e9,
            memoryBytesPerSecond: 13e12,
            dollarsPerSecond: hourly / 3600,
            source: .fitted
        )
    }
}
