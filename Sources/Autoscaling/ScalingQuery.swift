// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Router

/// Which groups are asked about. nil = any.
package struct ScalingQuery: Sendable, Hashable {
    package var pool: String?
    package var role: Role?
    package var accelerator: String?
    package var model: String?

    package init(pool: String? = nil, role: Role? = nil, accelerator: String? = nil, model: String? = nil) {
        self.pool = pool
        self.role = role
        self.accelerator = accelerator
        self.model = model
    }

    package func matches(_ group: PodGroup) -> Bool {
        (pool == nil || pool == group.pool) && (role == nil || role == group.role)
            && (accelerator == nil || accelerator == group.accelerator) && (model == nil || model == group.model)
    }
}

extension ScalingReport {
    package func groups(_ query: ScalingQuery) -> [GroupReport] { groups.filter { query.matches($0.group) } }

    /// Whether there should be any pod of these groups. Of groups that were never seen: while requests wait.
    package func isActive(_ query: ScalingQuery) -> Bool {
        let asked = groups(query)
        return asked.isEmpty ? held > 0 : asked.contains { $0.desiredReplicas > 0 || $0.requestsInFlight > 0 }
    }
}
