// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// The pods of a run as they truly are, and as pickers are told of them.
extension Simulation {
    static func servers(
        _ endpoints: [Endpoint],
        _ workload: Workload,
        _ options: SimulationOptions,
        _ speeds: [Double]
    ) -> [ModelServer] {
        endpoints.indices.map { index in
            let configuration = ModelServerConfiguration(
                profile: endpoints[index].profile,
                batching: batching(endpoints[index].role, options),
                ordering: options.enginePriority ? .priority : .fifo,
                blockSize: workload.blockSize,
                slowness: speeds[index],
                prefillNoise: options.prefillNoise,
                decodeNoise: options.decodeNoise,
                reportsBlocks: !options.blockReports.areExact
            )
            var seeds = RandomStream(seed: options.seed, kind: 0x5E4, index: UInt64(index))
            return ModelServer(configuration: configuration, seed: seeds.next())
        }
    }

    private static func batching(_ role: Role, _ options: SimulationOptions) -> ModelServerConfiguration.Batching {
        guard role == .prefill else { return .chunked(tokenBudget: ModelServerConfiguration.defaultTokenBudget) }
        return options.prefillChunk.map { .chunked(tokenBudget: $0) } ?? .wholePrompt
    }

    /// Prefill and decode pods that name no connector get the run's own. Pods of both roles without one stay plain
    /// engines, which no policy pairs: two of them that keep each other's KV can wait for each other's memory for ever.
    static func connected(_ endpoints: [Endpoint]) -> [Endpoint] {
        endpoints.map { endpoint in
            var copy = endpoint
            if endpoint.role != .both { copy.kv.connector = endpoint.kv.connector ?? Connector.simulated.name }
            return copy
        }
    }

    static func scaled(_ endpoints: [Endpoint], by speeds: [Double]) -> [Endpoint] {
        zip(endpoints, speeds).map { endpoint, speed in
            var copy = endpoint
            copy.profile = endpoint.profile.slowed(by: speed)
            return copy
        }
    }
}
