// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router

/// Groups of like pods: pool, role and accelerator. Their numbers last as long as the process, so that what was counted
/// for a group stays its own when the fleet changes.
struct PodGroups: Sendable {
    struct Group: Sendable, Hashable {
        var pool: String
        var role: String
        var accelerator: String
    }

    /// More combinations than any fleet has; the rest shares the group `other`.
    static let limit = 128

    private(set) var groups = [
        Group(pool: LabelTable.overflow, role: LabelTable.overflow, accelerator: LabelTable.overflow)
    ]
    private var numbers: [Group: Int] = [:]
    private var ofEndpoint: [EndpointID: Int] = [:]
    /// The endpoints that the groups were worked out from.
    private var described: [EndpointStatus] = []

    mutating func update(_ statuses: [EndpointStatus]) {
        defer { described = statuses }
        let isSame =
            described.count == statuses.count
            && zip(described, statuses).allSatisfy { a, b in
                a.endpoint.id == b.endpoint.id && a.endpoint.pool == b.endpoint.pool
                    && a.endpoint.role == b.endpoint.role && a.endpoint.accelerator == b.endpoint.accelerator
            }
        guard !isSame else { return }
        ofEndpoint.removeAll(keepingCapacity: true)
        for status in statuses { ofEndpoint[status.endpoint.id] = number(of: status.endpoint) }
    }

    /// 0 for an endpoint that is not in the fleet.
    func group(of endpoint: EndpointID) -> Int { ofEndpoint[endpoint] ?? 0 }

    private mutating func number(of endpoint: Endpoint) -> Int {
        let group = Group(pool: endpoint.pool, role: endpoint.role.rawValue, accelerator: endpoint.accelerator)
        if let known = numbers[group] { return known }
        guard groups.count <= Self.limit else { return 0 }
        numbers[group] = groups.count
        groups.append(group)
        return groups.count - 1
    }
}
