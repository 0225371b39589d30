// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Kubernetes
import Router

/// `/debug/fleet`: the endpoints as decisions see them, and in a cluster each pod with what was concluded of it.
struct FleetPage: Encodable {
    struct Cluster: Encodable {
        struct Watch: Encodable {
            var kind: String
            var standing: String
            /// Objects that cannot be read, and why.
            var invalid: [String: String]
        }

        var isSynced: Bool
        var trouble: String?
        var watches: [Watch]

        init(_ standing: ClusterService.Standing) {
            isSynced = standing.isSynced
            trouble = standing.trouble
            watches = standing.watches.map {
                Watch(kind: $0.kind, standing: $0.standing.description, invalid: $0.invalid)
            }
        }
    }

    /// Where endpoints stand, and what that does to transfers of KV between them.
    struct Network: Encodable {
        struct Place: Encodable {
            var endpoint: String
            var zone: String?
            var rack: String?
            var host: String?
        }

        /// Pairs of a prefill and a decode pod, by the widest boundary between them.
        struct Pairs: Encodable {
            var span: String
            var pairs: Int
            /// nil: as much as the pods' own networks carry.
            var gbps: Double?
            var latencyMilliseconds: Double
        }

        var places: [Place] = []
        var links: [Pairs] = []

        /// nil where nobody says where any endpoint stands.
        init?(_ endpoints: [EndpointStatus], _ topology: NetworkTopology) {
            var numbers = PlaceNumbers()
            var senders: [PodPlace?] = []
            var receivers: [PodPlace?] = []
            for endpoint in endpoints.lazy.map(\.endpoint) {
                let location = Location(labels: endpoint.labels)
                let place = numbers.place(location)
                if endpoint.role == .prefill { senders.append(place) }
                if endpoint.role.canDecode { receivers.append(place) }
                guard place != nil else { continue }
                places.append(
                    Place(endpoint: endpoint.name, zone: location.zone, rack: location.rack, host: location.host)
                )
            }
            guard !places.isEmpty else { return nil }
            var counts: [NetworkSpan: Int] = [:]
            var together = 0
            for sender in senders {
                for receiver in receivers {
                    if let span = NetworkSpan(between: sender, and: receiver) {
                        counts[span, default: 0] += 1
                    } else {
                        together += 1
                    }
                }
            }
            links.append(Pairs(span: "together", pairs: together, gbps: nil, latencyMilliseconds: 0))
            for span in NetworkSpan.allCases {
                let link = topology.link(span)
                links.append(
                    Pairs(
                        span: span.rawValue,
                        pairs: counts[span] ?? 0,
                        gbps: link.bytesPerSecond.map { $0 * 8 / 1e9 },
                        latencyMilliseconds: link.latency.milliseconds
                    )
                )
            }
        }
    }

    var endpoints: [EndpointStatus]
    var network: Network?
    var pods: [PodConclusion]?
    var cluster: Cluster?
}
