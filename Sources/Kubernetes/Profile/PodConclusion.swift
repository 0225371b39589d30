// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Fleet

/// Whence a fact about a pod is known.
package enum FactSource: String, Sendable, Hashable, Codable {
    case annotation
    case label
    /// The container's command line.
    case arguments
    /// Devices in the container's resource limits.
    case resources
    /// The server's own pages: /v1/models and /metrics.
    case server
    case node
    case nodeSelector
    /// The pool's entry in the configuration.
    case configuration
    /// Nobody says so; what the engine does when it is told nothing.
    case standard
}

/// One thing that was concluded of a pod.
package struct PodFact: Sendable, Hashable, Codable {
    package var field: String
    package var value: String
    package var from: FactSource
}

/// A pod as the picker sees it: what it is taken for, whence that is known, and what is missing.
package struct PodConclusion: Sendable, Hashable, Codable {
    package enum State: String, Sendable, Hashable, Codable {
        case serving
        /// Its readiness probe fails, or it has no address yet.
        case notReady
        /// On its way out: takes no new requests.
        case draining
        /// Its containers have ended.
        case over
        /// Encode-only, or a role that nobody knows.
        case unused
        /// Another pool, named before, has it already.
        case duplicate
    }

    package var name: String
    package var namespace: String
    package var pool: String
    package var node: String?
    package var role: String
    package var state: State
    /// Names of its endpoints: one for each port.
    package var endpoints: [String]
    package var facts: [PodFact]
    /// Fields that nobody says, and that matter for the prediction.
    package var missing: [String]
    /// What was said and cannot be used.
    package var problems: [String]

    /// Model and accelerator are known: a profile can be found.
    package var hasProfile: Bool { !missing.contains("model") && !missing.contains("accelerator") }
}

/// A cluster's pods as endpoints, with what was concluded of each.
package struct PodMap: Sendable, Hashable {
    package var endpoints: [EndpointDescription] = []
    package var pods: [PodConclusion] = []

    package init() {}
}
