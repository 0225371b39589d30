// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Names one endpoint for as long as the process lives: never reused, so stale knowledge cannot reach a successor.
package struct EndpointID: Sendable, Hashable, Comparable, Codable {
    package var rawValue: UInt32

    package init(_ rawValue: UInt32) { self.rawValue = rawValue }
    package static func < (a: EndpointID, b: EndpointID) -> Bool { a.rawValue < b.rawValue }

    /// Numbers that the process gives out itself: no client can choose ones that collide, so a multiplication is enough.
    package func _rawHashValue(seed: Int) -> Int { ScatteredNumber.hash(UInt64(rawValue), seed: seed) }

    package init(from decoder: any Decoder) throws {
        rawValue = try decoder.singleValueContainer().decode(UInt32.self)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }
}

/// What an endpoint may be asked to do.
package enum Role: String, Sendable, Hashable, Codable, CaseIterable {
    case prefill, decode, both

    package var canPrefill: Bool { self != .decode }
    package var canDecode: Bool { self != .prefill }
}

/// One model server (or one data-parallel rank of it) as discovery describes it. Changes only with the fleet.
package struct Endpoint: Sendable, Hashable, Codable {
    package var id: EndpointID
    /// Unique in the fleet, for people.
    package var name: String
    /// An IPv4 or IPv6 literal, without brackets.
    package var address: String
    package var port: UInt16
    package var role: Role
    package var pool: String
    /// Canonical accelerator name, as profiles spell it.
    package var accelerator: String
    /// `vllm`, `sglang`, `trtllm`, `triton`, or a configured name.
    package var engine: String
    /// Names under which the API serves models here. nil = never told: nothing is refused for this pod.
    package var servedModels: [String]?
    /// Those of them that are LoRA adapters. nil = the server does not tell them apart, or was not asked yet.
    package var adapters: [String]?
    package var kv: KVLayout
    package var profile: PodProfile
    /// Can fetch a missing prefix from a peer.
    package var canPullKV: Bool
    /// Accelerator, model, tensor parallelism, weight dtype and engine as one name: what pods have alike when their
    /// profiles are wrong in the same way.
    package var configuration: String
    package var labels: [String: String]

    package init(
        id: EndpointID,
        name: String,
        address: String,
        port: UInt16,
        role: Role,
        pool: String,
        accelerator: String,
        engine: String,
        servedModels: [String]?,
        kv: KVLayout,
        profile: PodProfile,
        canPullKV: Bool,
        configuration: String? = nil,
        labels: [String: String]
    ) {
        self.id = id
        self.name = name
        self.address = address
        self.port = port
        self.role = role
        self.pool = pool
        self.accelerator = accelerator
        self.engine = engine
        self.servedModels = servedModels
        self.kv = kv
        self.profile = profile
        self.canPullKV = canPullKV
        self.configuration = configuration ?? "\(accelerator)/\(kv.model)/tp\(kv.tensorParallel)/\(engine)"
        self.labels = labels
    }

    /// `ip:port`, with brackets round an IPv6 literal: the form that Envoy's ORIGINAL_DST cluster understands.
    package var hostPort: String { address.contains(":") ? "[\(address)]:\(port)" : "\(address):\(port)" }
}
