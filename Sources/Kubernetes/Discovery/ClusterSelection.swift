// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Which pods of a cluster the picker serves.
package struct ClusterSelection: Sendable, Hashable {
    package enum Pods: Sendable, Hashable {
        /// InferencePools by name, the one that routes name first.
        case pools([String])
        /// Pods by label selector, as kubectl writes it, and the ports that they serve on: no InferencePool is needed.
        case selector(String, ports: [UInt16])
    }

    package var pods: Pods
    package var namespace: String
    /// API group of the pools. nil: either.
    package var poolGroup: String?

    package static let group = "inference.networking.k8s.io"
    package static let olderGroup = "inference.networking.x-k8s.io"
    package static let llmDGroup = "llm-d.ai"

    package init(pods: Pods, namespace: String, poolGroup: String? = nil) {
        self.pods = pods
        self.namespace = namespace
        self.poolGroup = poolGroup
    }

    /// Name under which the pods of a selector are grouped in metrics and configuration.
    package static let selectorPool = "default"

    package var poolNames: [String] {
        switch pods {
        case .pools(let names): names
        case .selector: [Self.selectorPool]
        }
    }
}
