// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// A request that was looked at and is held: its cheapest candidate was a pod that is not free, or has no room, yet.
struct Hold: Sendable {
    var request: RequestID
    /// Indices of the pods that its cheapest candidate would compute and decode on.
    var prefiller: Int
    var destination: Int
    /// What that candidate cost, the draw included.
    var cost: Double
    var tpotLimit: Double
    var lookedAt: Double
    /// What the look priced with.
    var formula: CostFormula
    var floor: DecodeFloor
    var peer: Peer?
    /// What each pod held of the prompt, by id.
    var holdings: [PrefixHolding]
    /// Something changed that may let it go.
    var isDue = false

    func held(by id: EndpointID) -> Int {
        var low = 0
        var high = holdings.count
        while low < high {
            let middle = (low + high) / 2
            let holding = holdings[middle]
            if holding.endpoint == id { return max(holding.tokens, 0) }
            if holding.endpoint < id { low = middle + 1 } else { high = middle }
        }
        return 0
    }
}

/// Whom the queue holds, and which pods were open when it was last looked at.
///
/// A look prices the whole fleet, so a held request is not looked at again before that can change anything. Of its
/// candidates the cheapest was one that is not free yet. As time goes by, all backlogs shrink alike and that one stays the
/// cheapest, until
/// - its pod opens, or gets room: the request is due;
/// - another pod opens, by an event or its backlog's end, and a lower bound of what that pod would cost is not above the
///   held candidate's cost: due. Where the bound is above, the pod cannot be the cheapest, and a look would hold it again;
/// - `reviewAfter` has passed: due. Placing others, steps getting shorter, and news of other pods change costs slowly.
struct Holds: Sendable {
    /// Per pod.
    var open: [Bool] = []
    var requests: [Hold] = []

    /// Held requests that are remembered: those that fell back in the order are looked at again when they return.
    static let most = 32

    mutating func clear() {
        open.removeAll(keepingCapacity: true)
        requests.removeAll(keepingCapacity: true)
    }

    /// True when the request is held, and nothing happened that could let it go.
    func isHeld(_ id: RequestID) -> Bool { requests.contains { $0.request == id && !$0.isDue } }

    mutating func forget(_ id: RequestID) { requests.removeAll { $0.request == id } }

    mutating func add(_ hold: Hold) {
        if let known = requests.firstIndex(where: { $0.request == hold.request }) {
            requests[known] = hold
            return
        }
        if requests.count >= Self.most { requests.removeFirst() }
        requests.append(hold)
    }
}
