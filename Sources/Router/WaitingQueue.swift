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
    /// The first pod that it may decode on. Requests that have it in common share the pods' time.
    var scope: EndpointID
    /// It has been about to miss its bound.
    var isEndangered = false

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
/// Order of service: last what the triage sets aside, so that as few as can be are late; of the others higher priority
/// first; among equals those that can still meet their bound before those that cannot; then by response ratio; those that
/// are late anyway by length, the shortest first. The response ratio is that of Brinch Hansen's HRRN, 1971.
struct WaitingQueue: Sendable {
    /// In no order: a removal moves the last one into the gap, so that none costs more with more waiting.
    private(set) var entries: [WaitingEntry] = []
    /// Beside the entries.
    private(set) var requests: [InferenceRequest] = []
    private(set) var bytes = 0
    private var ids: Set<RequestID> = []
    /// Bounds, no later than the true times, which `expire` of the Router then looks for: the first end of a hold, and the
    /// first time at which even a pod that is free is too late for a sheddable one.
    private(set) var nextHoldEnd = Double.infinity
    private(set) var nextDoom = Double.infinity
    /// Seconds of prompts that wait.
    private(set) var work = 0.0
    /// How many of each part of the fleet were not set aside when they were last put in order.
    private(set) var inOrder: [EndpointID: Int] = [:]
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
        max(request.bodyBytes, 0) &+ (request.prefix.hashes.count &+ (request.tokenPrefix?.hashes.count ?? 0)) &* 8
    }

    func hasRoom(for request: InferenceRequest) -> Bool {
        count < maximumRequests && Self.size(request) <= maximumBytes - bytes
    }

    mutating func add(_ entry: WaitingEntry, _ request: InferenceRequest) {
        bytes += Self.size(request)
        work += entry.base
        ids.insert(entry.id)
        entries.append(entry)
        requests.append(request)
        takeBounds(of: entry)
    }

    private mutating func takeBounds(of entry: WaitingEntry) {
        nextHoldEnd = min(nextHoldEnd, entry.holdUntil)
        if entry.isSheddable { nextDoom = min(nextDoom, entry.due - entry.base - entry.tail) }
    }

    mutating func hold(_ index: Int, until time: Double) {
        entries[index].holdUntil = time
        nextHoldEnd = min(nextHoldEnd, time)
    }

    /// Makes the bounds exact again.
    mutating func renewBounds() {
        nextHoldEnd = .infinity
        nextDoom = .infinity
        for entry in entries { takeBounds(of: entry) }
    }

    /// The last entry takes the place of the removed one.
    mutating func remove(at index: Int) -> InferenceRequest {
        entries.swapAt(index, entries.count - 1)
        requests.swapAt(index, requests.count - 1)
        let entry = entries.removeLast()
        let request = requests.removeLast()
        ids.remove(entry.id)
        bytes -= Self.size(request)
        // Sums of doubles do not return to zero exactly; an empty queue does.
        work = entries.isEmpty ? 0 : max(work - entry.base, 0)
        return request
    }

    mutating func remove(_ id: RequestID) -> InferenceRequest? { index(of: id).map { remove(at: $0) } }

    func index(of id: RequestID) -> Int? { ids.contains(id) ? entries.firstIndex { $0.id == id } : nil }
    func contains(_ id: RequestID) -> Bool { ids.contains(id) }

    /// What becomes of a request if it is served next.
    private enum Prospect: Int {
        case inTime, late, setAside
    }

    /// A request's place in the order of service.
    private struct Rank {
        var id: RequestID
        var index: Int
        var priority: Int
        var prospect: Prospect
        /// Response ratio, or what a late request has to say for itself: its shortness.
        var urgency: Double

        init(_ entry: WaitingEntry, _ index: Int, isSetAside: Bool, at now: Double) {
            id = entry.id
            self.index = index
            priority = entry.priority
            prospect = isSetAside ? .setAside : entry.slack(at: now) < 0 ? .late : .inTime
            urgency = prospect == .inTime ? entry.ratio(at: now) : -entry.base
        }

        func precedes(_ other: Rank) -> Bool {
            if (prospect == .setAside) != (other.prospect == .setAside) { return other.prospect == .setAside }
            if priority != other.priority { return priority > other.priority }
            if prospect != other.prospect { return prospect.rawValue < other.prospect.rawValue }
            // Of requests that came in one instant, the older id.
            return urgency != other.urgency ? urgency > other.urgency : id < other.id
        }
    }

    /// Where the first so many in the order of service stand in `entries`. The triage learns who is in danger.
    mutating func first(_ count: Int, at now: Double, triages: inout Triages, into order: inout [Int]) {
        order.removeAll(keepingCapacity: true)
        guard count > 0 else { return }
        triages.settle(at: now)
        for index in entries.indices { triages.watch(&entries[index], at: now) }
        var best: [Rank] = []
        best.reserveCapacity(count + 1)
        inOrder.removeAll(keepingCapacity: true)
        // Neighbours mostly share their scope: the table is asked once for a run of them.
        var scope = EndpointID(0)
        var ofScope = 0
        for (index, entry) in entries.enumerated() {
            let rank = Rank(entry, index, isSetAside: triages.setAside(entry), at: now)
            if rank.prospect != .setAside {
                if entry.scope != scope {
                    if ofScope > 0 { inOrder[scope, default: 0] += ofScope }
                    scope = entry.scope
                    ofScope = 0
                }
                ofScope += 1
            }
            if best.count == count, let last = best.last, !rank.precedes(last) { continue }
            var place = best.count
            while place > 0, rank.precedes(best[place - 1]) { place -= 1 }
            best.insert(rank, at: place)
            if best.count > count { best.removeLast() }
        }
        if ofScope > 0 { inOrder[scope, default: 0] += ofScope }
        for rank in best { order.append(rank.index) }
    }
}
