// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// Requests that wait while no pod exists that could answer any: scaled to zero, or not there yet. Bounded in time and
/// number; in the order of their coming.
struct PodlessRequests: Sendable {
    /// More than a pod that just started answers before clients give up. Their bodies count against the gateway's budget.
    static let limit = 1024

    private let wait: Seconds
    private var entries: [(request: InferenceRequest, deadline: Instant)] = []

    init(wait: Seconds) { self.wait = wait }

    var count: Int { entries.count }

    /// True while the fleet has no pod for output at all. A pod that is there and unwell is the Router's matter.
    static func isNeeded(_ fleet: [EndpointStatus]) -> Bool { !fleet.contains { $0.endpoint.role.canDecode } }

    /// - Returns: when its wait ends; nil where it shall not wait.
    mutating func add(_ request: InferenceRequest, at now: Instant) -> Instant? {
        guard wait > .zero, request.isInference, request.shadow == nil, entries.count < Self.limit else { return nil }
        let deadline = now + wait
        entries.append((request, deadline))
        return deadline
    }

    mutating func remove(_ id: RequestID) { entries.removeAll { $0.request.id == id } }

    mutating func takeAll() -> [InferenceRequest] {
        defer { entries = [] }
        return entries.map(\.request)
    }

    /// All have waited equally long at their end, so that the overdue ones are the first ones.
    mutating func takeOverdue(at now: Instant) -> [InferenceRequest] {
        // A timer may fire a moment early.
        let overdue = entries.prefix { $0.deadline.rawValue <= now.rawValue + 1e-3 }
        entries.removeFirst(overdue.count)
        return overdue.map(\.request)
    }
}
