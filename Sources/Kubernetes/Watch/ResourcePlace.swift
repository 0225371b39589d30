// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Which objects a watch follows.
package struct ResourcePlace: Sendable, Hashable {
    /// For people: `pods`, `inferencepools.inference.networking.k8s.io`.
    package var kind: String
    /// Every API server has it: where one is told not to know it, whoever answers is none.
    package let isBuiltIn: Bool
    /// Path of the collection.
    package var path: String
    package var labelSelector: String?
    package var fieldSelector: String?

    /// - Parameters:
    ///   - group: empty for the core group.
    ///   - version: such as `v1`.
    ///   - plural: the resource's name in paths.
    ///   - namespace: nil for all namespaces, and for what belongs to none.
    ///   - labelSelector: as kubectl writes it.
    ///   - fieldSelector: as kubectl writes it.
    package init(
        group: String = "",
        version: String,
        plural: String,
        namespace: String? = nil,
        labelSelector: String? = nil,
        fieldSelector: String? = nil
    ) {
        kind = group.isEmpty ? plural : "\(plural).\(group)"
        isBuiltIn = group.isEmpty
        let root = group.isEmpty ? "/api/\(version)" : "/apis/\(group)/\(version)"
        path = root + (namespace.map { "/namespaces/\($0)" } ?? "") + "/\(plural)"
        self.labelSelector = labelSelector
        self.fieldSelector = fieldSelector
    }

    var selectors: [KubernetesRequest.Parameter] {
        [labelSelector.map { .init("labelSelector", $0) }, fieldSelector.map { .init("fieldSelector", $0) }]
            .compactMap { $0 }
    }
}

/// The paces and bounds of a watch.
package struct WatchSettings: Sendable, Hashable {
    /// Objects in a page: what client-go uses.
    package var pageSize = 500
    /// How long the server is asked to keep a watch open; drawn from its upper quarter. Short enough that a server that
    /// hangs is noticed within two minutes; a new watch costs the server next to nothing.
    package var watchTimeout = Seconds(90)
    /// What a watch may outlive its time-out by before it counts as hanging.
    package var hangGrace = Seconds(5)
    package var listTimeout = Seconds(30)
    package var firstRetry = Seconds(0.5)
    package var longestRetry = Seconds(30)
    /// How often a kind that is not installed is looked for.
    package var absentRetry = Seconds(30)
    /// A watch that lived so long is no sign of trouble when it ends.
    package var steadyAfter = Seconds(1)
    /// A page of 500 pods of a hundred kilobytes each.
    package var maxListBytes = 64 << 20
    /// A cluster's limit is 150,000 pods; one picker's fleet is far smaller.
    package var maxObjects = 100_000

    package init() {}
}
