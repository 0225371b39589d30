// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

@testable import Simulation

/// Small fleets and workloads whose runs can be followed by hand.
enum Scene {
    static func endpoint(_ id: UInt32, _ role: Role, _ profile: PodProfile = .round(), tensorParallel: Int = 1)
        -> Endpoint
    {
        Endpoint(
            id: EndpointID(id),
            name: "\(role)-\(id)",
            address: "10.0.0.\(id + 1)",
            port: 8000,
            role: role,
            pool: "default",
            accelerator: "h100-sxm",
            engine: "vllm",
            servedModels: nil,
            kv: KVLayout(
                model: "m",
                dtype: "bfloat16",
                blockSize: nil,
                connector: nil,
                tensorParallel: tensorParallel
            ),
            profile: profile,
            canPullKV: true,
            labels: [:]
        )
    }

    static let pair = [endpoint(0, .prefill), endpoint(1, .decode)]

    static func fleet(prefill: Int, decode: Int, both: Int = 0) -> [Endpoint] {
        var all: [Endpoint] = []
        for _ in 0..<prefill { all.append(endpoint(UInt32(all.count), .prefill)) }
        for _ in 0..<decode { all.append(endpoint(UInt32(all.count), .decode)) }
        for _ in 0..<both { all.append(endpoint(UInt32(all.count), .both)) }
        return all
    }

    /// A truth that is what profiles say, seen at once.
    static var exact: SimulationOptions {
        var options = SimulationOptions()
        options.controlDelay = 0
        options.prefillNoise = 0
        options.decodeNoise = 0
        options.speedBias = 0
        options.connectors = [connector(setup: 0)]
        return options
    }

    static func connector(setup: Double, isLayerwise: Bool = true) -> Connector {
        Connector(
            name: "simulated",
            fixedCost: Seconds(setup),
            efficiency: 1,
            isLayerwise: isLayerwise,
            allowsUnequalTensorParallel: true
        )
    }

    static func workload(_ requests: [OfferedRequest], blockSize: Int = 100) -> Workload {
        Workload(name: "scene", blockSize: blockSize, requests: requests)
    }

    /// Requests of random lengths, some of which share prefixes.
    static func mixed(_ count: Int, rate: Double, seed: UInt64) -> Workload {
        var draw = RandomStream(seed: seed)
        var t = 0.0
        let requests = (0..<count).map { _ -> OfferedRequest in
            t += draw.exponential() / rate
            let prompt = 100 + Int(draw.uniform() * 3000)
            let family = draw.next() % 5
            let shared = Int(draw.uniform() * Double(prompt / 100))
            let hashes = (0..<prompt / 100).map { block in
                block < shared ? family << 32 | UInt64(block + 1) : draw.next()
            }
            return OfferedRequest(
                arrival: t,
                promptTokens: prompt,
                outputTokens: 1 + Int(draw.uniform() * 200),
                promptHashes: hashes
            )
        }
        return workload(requests)
    }

    static func maker(_ rule: any BaselineRule, pulls: Bool = false) -> PolicyMaker {
        { _, prefixes, seed in BaselinePolicy(rule: rule, prefixes: prefixes, pulls: pulls, seed: seed) }
    }
}
