// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Router

/// Pods that are scaled together: like ones of one pool that serve one model.
package struct PodGroup: Sendable, Hashable, Comparable, Codable {
    package var pool: String
    package var role: Role
    package var accelerator: String
    package var model: String

    /// The model's name where nobody told one.
    package static let unknownModel = "unknown"

    package init(pool: String, role: Role, accelerator: String, model: String) {
        self.pool = pool
        self.role = role
        self.accelerator = accelerator
        self.model = model
    }

    /// The first name is the base model's: engines list adapters after it.
    package init(_ endpoint: Endpoint) {
        self.init(
            pool: endpoint.pool,
            role: endpoint.role,
            accelerator: endpoint.accelerator,
            model: endpoint.servedModels?.first ?? Self.unknownModel
        )
    }

    package static func < (a: PodGroup, b: PodGroup) -> Bool {
        (a.pool, a.role.rawValue, a.accelerator, a.model) < (b.pool, b.role.rawValue, b.accelerator, b.model)
    }
}
