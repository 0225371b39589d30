// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex

/// A request that waits to be given its pods.
struct WaitingRequest: Sendable {
    var request: InferenceRequest
    var arrivedAt: Instant
    /// Predicted seconds that its prompt takes on the pod that is fastest for it.
    var base: Double
    /// Predicted seconds from the prompt's end to the first token, at best.
    var tail: Double
    /// When the first token is due. nil: no bound.
    var due: Instant?
    /// No later than this it is placed or refused.
    var holdUntil: Instant

    /// Seconds that it could still wait and meet its bound.
    func slack(at now: Instant) -> Double {
        due.map { ($0 - now).rawValue - base - tail } ?? .infinity
    }

    /// Response ratio: time in the system over time of service (Brinch Hansen's HRN, 1971). It grows while a request
    /// waits, the faster the shorter the prompt is, so short ones go first and long ones are not starved.
    func ratio(at now: Instant) -> Double {
        let service = max(base, 1e-3)
        return ((now - arrivedAt).rawValue + service) / service
    }
}

/// The bounded central queue.
///
/// Order of service: higher priority first; among equals those that can still meet their bound before those that cannot;
/// then by response ratio. The prototype's SLO-HRRN (policy, section 3).
struct WaitingQueue: Sendable {
    private(set) var waiting: [WaitingRequest] = []
    private(set) var bytes = 0
    private let maximumRequests: Int
    private let maximumBytes: Int

    init(_ settings: QueueSettings) {
        maximumRequests = max(settings.maximumRequests, 0)
        maximumBytes = max(settings.maximumBytes, 0)
    }

    var count: Int { waiting.count }
    var isEmpty: Bool { waiting.isEmpty }

    /// What one request holds while it waits.
    private static func size(_ request: InferenceRequest) -> Int {
        max(request.bodyBytes, 0) &+ request.prefix.hashes.count &* 8
    }

    func hasRoom(for request: InferenceRequest) -> Bool {
        waiting.count < maximumRequests && Self.size(request) <= maximumBytes - bytes
    }

    func contains(_ id: RequestID) -> Bool { waiting.contains { $0.request.id == id } }

    mutating func add(_ entry: WaitingRequest) {
        bytes += Self.size(entry.request)
        waiting.append(entry)
    }

    mutating func remove(at index: Int) -> WaitingRequest {
        let entry = waiting.remove(at: index)
        bytes -= Self.size(entry.request)
        return entry
    }

    mutating func remove(_ id: RequestID) -> WaitingRequest? {
        waiting.firstIndex { $0.request.id == id }.map { remove(at: $0) }
    }

    func entry(_ id: RequestID) -> WaitingRequest? { waiting.first { $0.request.id == id } }

    /// A request's place in the order of service.
    private struct Rank {
        var id: RequestID
        var priority: Int
        var isLate: Bool
        var ratio: Double

        init(_ entry: WaitingRequest, at now: Instant) {
            id = entry.request.id
            priority = entry.request.priority
            isLate = entry.slack(at: now) < 0
            ratio = entry.ratio(at: now)
        }

        func precedes(_ other: Rank) -> Bool {
            if priority != other.priority { return priority > other.priority }
            if isLate != other.isLate { return !isLate }
            // Of requests that came in one instant, the older id.
            return ratio != other.ratio ? ratio > other.ratio : id < other.id
        }
    }

    /// The first so many in the order of service.
    func first(_ count: Int, at now: Instant, into order: inout [RequestID]) {
        order.removeAll(keepingCapacity: true)
        guard count > 0 else { return }
        var best: [Rank] = []
        best.reserveCapacity(count + 1)
        for entry in waiting {
            let rank = Rank(entry, at: now)
            if best.count == count, let last = best.last, !rank.precedes(last) { continue }
            var place = best.count
            while place > 0, rank.precedes(best[place - 1]) { place -= 1 }
            best.insert(rank, at: place)
            if best.count > count { best.removeLast() }
        }
        for rank in best { order.append(rank.id) }
    }

    /// Seconds of prompts that wait.
    var work: Double { waiting.reduce(0) { $0 + $1.base } }
}
