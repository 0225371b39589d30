// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import HeapModule

/// Requests by the time at which they are predicted to end, the first end on top.
struct PredictedEnds: Sendable {
    private struct End: Sendable, Comparable {
        var at: Double
        var request: RequestID

        static func < (a: End, b: End) -> Bool { (a.at, a.request) < (b.at, b.request) }
    }

    private var heap = Heap<End>()

    /// Infinite without any.
    var first: Double { heap.min?.at ?? .infinity }

    mutating func add(_ request: RequestID, at time: Double) { heap.insert(End(at: time, request: request)) }

    /// Removes the request that ends first.
    mutating func removeFirst() -> RequestID? { heap.popMin()?.request }
}
