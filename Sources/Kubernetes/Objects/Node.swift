// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A node: its labels say which accelerators it has, and where it stands.
package struct Node: KubernetesObject, Hashable {
    package var metadata: ObjectMetadata

    package init(metadata: ObjectMetadata) { self.metadata = metadata }
}
