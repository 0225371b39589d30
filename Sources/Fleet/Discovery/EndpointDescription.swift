// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Router

/// One model server as a fleet file (or another source of discovery) describes it, before profiles are known.
package struct EndpointDescription: Sendable, Hashable, Codable {
    /// Unique in the fleet.
    package var name: String
    package var role: Role
    /// As the file spells it; the catalogue of profiles knows the canonical name.
    package var accelerator: String
    /// The profile's model.
    package var model: String
    /// Names under which the API serves it, where they differ from `model`.
    package var servedModels: [String]?
    /// An IPv4 or IPv6 literal without brackets. Empty in a fleet that is simulated only.
    package var address: String
    /// 0 in a fleet that is simulated only.
    package var port: UInt16
    package var tensorParallel: Int
    /// Weights: `bfloat16`, `fp8`, `fp4`, `int4`. nil: the model's native one.
    package var dtype: String?
    /// As the engine's `--kv-cache-dtype`; `auto` means bfloat16, whatever the weights are.
    package var kvDtype: String
    package var blockSize: Int?
    package var pool: String
    package var engine: String
    package var metrics: MetricsPlace
    /// Dollars per accelerator and hour. nil: the accelerator's profile knows.
    package var pricePerHour: Double?
    /// Gigabits per second and accelerator. nil: the accelerator's profile knows.
    package var networkGbps: Double?
    /// Can fetch a missing prefix from a peer. nil: yes in the simulator, no in serve.
    package var kvPull: Bool?
    package var kvEvents: KVEventsPlace?
    package var labels: [String: String]
    /// KV connector, where it is known.
    package var connector: String?
    /// Whether discovery wants requests to be sent to it.
    package var standing = EndpointStanding.serving

    package init(
        name: String,
        role: Role,
        accelerator: String,
        model: String,
        servedModels: [String]? = nil,
        address: String,
        port: UInt16,
        tensorParallel: Int = 1,
        dtype: String? = nil,
        kvDtype: String = "auto",
        blockSize: Int? = nil,
        pool: String = "default",
        engine: String = "vllm",
        metrics: MetricsPlace? = nil,
        pricePerHour: Double? = nil,
        networkGbps: Double? = nil,
        kvPull: Bool? = nil,
        kvEvents: KVEventsPlace? = nil,
        labels: [String: String] = [:]
    ) {
        self.name = name
        self.role = role
        self.accelerator = accelerator
        self.model = model
        self.servedModels = servedModels
        self.address = address
        self.port = port
        self.tensorParallel = tensorParallel
        self.dtype = dtype
        self.kvDtype = kvDtype
        self.blockSize = blockSize
        self.pool = pool
        self.engine = engine
        self.metrics = metrics ?? MetricsPlace(port: port)
        self.pricePerHour = pricePerHour
        self.networkGbps = networkGbps
        self.kvPull = kvPull
        self.kvEvents = kvEvents
        self.labels = labels
    }
}

/// What discovery says of an endpoint's fitness for new requests.
package enum EndpointStanding: String, Sendable, Hashable, Codable {
    case serving, notReady, draining
}

/// Where an endpoint's metrics page is: on its own address.
package struct MetricsPlace: Sendable, Hashable, Codable {
    package var port: UInt16
    package var path: String

    package init(port: UInt16, path: String = "/metrics") {
        self.port = port
        self.path = path
    }
}

/// Where an endpoint publishes KV-cache events: ZeroMQ addresses.
package struct KVEventsPlace: Sendable, Hashable, Codable {
    /// Of the first data-parallel rank. Empty where the server is to be asked.
    package var endpoint: String
    /// Where lost events can be asked for again.
    package var replay: String?
    /// Prefix of the topics to subscribe to; empty for all.
    package var topic: String
    /// Data-parallel ranks, each with ports of its own that count up with the rank.
    package var ranks: Int
    /// Ask the server itself: GET /kv_event_sources.
    package var discovers: Bool

    package init(
        endpoint: String,
        replay: String? = nil,
        topic: String = "",
        ranks: Int = 1,
        discovers: Bool = false
    ) {
        self.endpoint = endpoint
        self.replay = replay
        self.topic = topic
        self.ranks = ranks
        self.discovers = discovers
    }

    package static let discovered = KVEventsPlace(endpoint: "", discovers: true)
    package static let maxRanks = 256

    /// The picker binds there, and publishers connect: vLLM's own rule for a `*`, seen from the other side.
    package var isBoundByPicker: Bool {
        endpoint.hasPrefix("tcp://*:") || endpoint.hasPrefix("tcp://0.0.0.0:") || endpoint.hasPrefix("tcp://[::]:")
    }

    /// The place of one rank.
    package func place(ofRank rank: Int) -> KVEventsPlace {
        guard rank > 0, !isBoundByPicker else { return self }
        var copy = self
        copy.endpoint = ZMQAddress(endpoint)?.raised(by: rank) ?? endpoint
        copy.replay = replay.map { ZMQAddress($0)?.raised(by: rank) ?? $0 }
        return copy
    }
}
