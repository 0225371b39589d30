// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// What the last good scrape of an endpoint said, and when.
package struct EndpointLoad: Sendable, Hashable, Codable {
    package var observedAt: Instant
    /// Requests waiting in the engine's queue.
    package var waiting: Int
    /// Requests in the engine's running batch.
    package var running: Int
    /// Share of KV blocks in use by running requests, 0…1. Says nothing about what is cached.
    package var kvUse: Double
    /// Blocks of the engine's KV cache and tokens per block, where the engine says.
    package var kvBlocks: Int?
    package var kvBlockSize: Int?
    /// Requests that were thrown out of the batch for lack of KV since the engine started, where it says.
    package var preemptions: Int?
    /// LoRA adapters of its requests, where it says.
    package var adapters: AdapterSlots?

    package init(
        observedAt: Instant,
        waiting: Int,
        running: Int,
        kvUse: Double,
        kvBlocks: Int? = nil,
        kvBlockSize: Int? = nil,
        preemptions: Int? = nil,
        adapters: AdapterSlots? = nil
    ) {
        self.observedAt = observedAt
        self.waiting = waiting
        self.running = running
        self.kvUse = kvUse
        self.kvBlocks = kvBlocks
        self.kvBlockSize = kvBlockSize
        self.preemptions = preemptions
        self.adapters = adapters
    }
}

/// Why an endpoint is left out of the candidates for the time being.
package enum Unavailability: String, Sendable, Hashable, Codable {
    /// Its scrapes worked before and then all failed for longer than the staleness limit.
    case unreachable
    /// Connect failures in a row, as Envoy's own 503 answers tell.
    case refusesConnections
    /// 5xx answers in a row to pairs that named it as prefill pod.
    case failsPrefills
    /// It is being drained.
    case draining
    /// Discovery says that it does not serve now.
    case notReady

    /// Discovery has said so: such an endpoint is not even taken when no other is left.
    package var isFinal: Bool { self == .draining || self == .notReady }
}

/// An endpoint and what is known of its state now. Missing knowledge is nil, and never makes it ineligible.
package struct EndpointStatus: Sendable, Hashable, Codable {
    package var endpoint: Endpoint
    /// nil = no scrape has worked yet, or the last good one is older than the staleness limit.
    package var load: EndpointLoad?
    package var unavailable: Unavailability?
    /// True when the endpoint's own model list was read lately. While it is false, `servedModels` holds only what
    /// discovery said, and the endpoint may serve other names too: prefer one that names the model, refuse nothing.
    package var modelListIsFresh: Bool

    package init(
        endpoint: Endpoint,
        load: EndpointLoad? = nil,
        unavailable: Unavailability? = nil,
        modelListIsFresh: Bool = false
    ) {
        self.endpoint = endpoint
        self.load = load
        self.unavailable = unavailable
        self.modelListIsFresh = modelListIsFresh
    }

    /// Tokens per block of its KV cache: as discovery says, else as the engine says, else vLLM's default.
    package var blockSize: Int { max(endpoint.kv.blockSize ?? load?.kvBlockSize ?? 16, 1) }
}

/// Every endpoint, sorted by id: the one immutable value through which knowledge reaches the Router.
package struct FleetSnapshot: Sendable, Hashable {
    package var version: UInt64
    package var endpoints: [EndpointStatus]
    /// True when every endpoint's model list is fresh, so that an unknown model may be refused.
    package var modelListsAreFresh: Bool

    package init(version: UInt64, endpoints: [EndpointStatus], modelListsAreFresh: Bool) {
        self.version = version
        self.endpoints = endpoints
        self.modelListsAreFresh = modelListsAreFresh
    }

    package static let empty = FleetSnapshot(version: 0, endpoints: [], modelListsAreFresh: false)
}
