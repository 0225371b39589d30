// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex

/// What the queue knows of a request that waits for its pods. Trivial: rounds walk arrays of these.
struct WaitingEntry: Sendable {
    var id: RequestID
    var priority: Int
    var isSheddable: Bool
    var arrivedAt: Double
    /// Predicted seconds that its prompt takes on the pod that is fastest for it.
    var base: Double
    /// Predicted seconds from the prompt's end to the first token, at best.
    var tail: Double
    /// When the first token is due; infinite without a bound.
    var due: Double
    /// No later than this it is placed or refused.
    var holdUntil: Double

    /// Seconds that it could still wait and meet its bound.
    func slack(at now: Double) -> Double { due - now - base - tail }

    /// Response ratio: time in the system over time of service (Brinch Hansen's HRN, 1971). It grows while a request
    /// waits, the faster the shorter the prompt is, so short ones go first and long ones are not starved.
    func ratio(at now: Double) -> Double {
        let service = max(base, 1e-3)
        return (now - arrivedAt + service) / service
    }
}

/// The bounded central queue.
///
/// Order of service: higher priority first; among equals those that can still meet their bound before those that cannot;
/// then by response ratio. The prototype's SLO-HRRN (policy, section 3).
struct WaitingQueue: Sendable {
    private(set) var entries: [WaitingEntry] = []
    /// In the same order.
    private(set) var requests: [InferenceRequest] = []
    private(set) var bytes = 0
    private let maximumRequests: Int
    private let maximumBytes: Int

    init(_ settings: QueueSettings) {
        maximumRequests = max(settings.maximumRequests, 0)
        maximumBytes = max(settings.maximumBytes, 0)
    }

    var count: Int { entries.count }
    var isEmpty: Bool { entries.isEmpty }

    /// What one request holds while it waits.
    private static func size(_ request: InferenceRequest) -> Int {
        max(request.bodyBytes, 0) &+ request.prefix.hashes.count &* 8
    }

    func hasRoom(for request: InferenceRequest) -> Bool {
        count < maximumRequests && Self.size(request) <= maximumBytes - bytes
    }

    mutating func add(_ entry: WaitingEntry, _ request: InferenceRequest) {
        bytes += Self.size(request)
        entries.append(entry)
        requests.append(request)
    }

    mutating func remove(at index: Int) -> InferenceRequest {
        entries.remove(at: index)
        let request = requests.remove(at: index)
        bytes -= Self.size(request)
        return request
    }

    mutating func remove(_ id: RequestID) -> InferenceRequest? { index(of: id).map { remove(at: $0) } }

    func index(of id: RequestID) -> Int? { entries.firstIndex { $0.id == id } }
    func contains(_ id: RequestID) -> Bool { index(of: id) != nil }

    /// A request's place in the order of service.
    private struct Rank {
        var id: RequestID
        var priority: Int
        var isLate: Bool
        var ratio: Double

        init(_ entry: WaitingEntry, at now: Double) {
            id = entry.id
            priority = entry.priority
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
    func first(_ count: Int, at now: Double, into order: inout [RequestID]) {
        order.removeAll(keepingCapacity: true)
        guard count > 0 else { return }
        var best: [Rank] = []
        best.reserveCapacity(count + 1)
        for entry in entries {
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
    var work: Double { entries.reduce(0) { $0 + $1.base } }
}
