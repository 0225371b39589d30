// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

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

    var endpoints: [EndpointStatus]
    var pods: [PodConclusion]?
    var cluster: Cluster?
}
