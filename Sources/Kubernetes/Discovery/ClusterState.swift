// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What is known of the cluster: the last good state of everything that is watched.
package struct ClusterState: Sendable, Equatable {
    package struct Pool: Sendable, Equatable {
        package var name: String
        /// nil: it does not exist, or it cannot be read.
        package var ports: [UInt16]?
        package var selector: String?
        /// The Service that gateways ask for this pool's routes.
        package var picker: String?
        /// Sorted by name.
        package var pods: [Pod]
        /// Why it has no pods, or may have other ones; for people.
        package var trouble: String?

        package init(
            name: String,
            ports: [UInt16]? = nil,
            selector: String? = nil,
            picker: String? = nil,
            pods: [Pod] = [],
            trouble: String? = nil
        ) {
            self.name = name
            self.ports = ports
            self.selector = selector
            self.picker = picker
            self.pods = pods
            self.trouble = trouble
        }
    }

    /// Of pools and pods.
    package var namespace = ""
    /// In the order of the selection.
    package var pools: [Pool] = []
    package var nodes: [String: Node] = [:]
    /// Those of our pools, sorted by name; where both API groups have one of a name, the newer group's.
    package var objectives: [InferenceObjective] = []
    package var rewrites: [InferenceModelRewrite] = []
    package var models: [InferenceModel] = []

    package init() {}
}

/// How one watch stands, for debug pages and metrics.
package struct WatchReport: Sendable, Hashable {
    package var kind: String
    package var standing: WatchStanding
    package var isSynced: Bool
    package var counts: WatchCounts
    /// Objects that cannot be read, by name.
    package var invalid: [String: String]
    /// Without it the picker can still serve.
    package var isOptional: Bool
}
