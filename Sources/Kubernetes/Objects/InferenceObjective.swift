// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// An InferenceObjective: the priority of the requests whose header names it.
package struct InferenceObjective: KubernetesObject, Hashable {
    package struct Spec: Decodable, Sendable, Hashable {
        package var priority: Int32?
        package var poolRef: PoolReference
    }

    package var metadata: ObjectMetadata
    package var spec: Spec

    package init(metadata: ObjectMetadata, pool: String, priority: Int32?) {
        self.metadata = metadata
        spec = Spec(priority: priority, poolRef: PoolReference(name: pool))
    }

    /// The schema's default.
    package var priority: Int { Int(spec.priority ?? 0) }
}
