// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Requests by the time at which they are predicted to end: a binary heap, the first end on top.
struct PredictedEnds: Sendable {
    private struct End: Sendable {
        var at: Double
        var request: RequestID

        func precedes(_ other: End) -> Bool { (at, request) < (other.at, other.request) }
    }

    private var heap: [End] = []

    /// Infinite without any.
    var first: Double { heap.first?.at ?? .infinity }

    mutating func add(_ request: RequestID, at time: Double) {
        heap.append(End(at: time, request: request))
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard heap[child].precedes(heap[parent]) else { return }
            heap.swapAt(child, parent)
            child = parent
        }
    }

    /// Removes the request that ends first.
    mutating func removeFirst() -> RequestID? {
        guard let top = heap.first else { return nil }
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var least = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count && heap[child].precedes(heap[least])
            {
                least = child
            }
            guard least != parent else { return top.request }
            heap.swapAt(parent, least)
            parent = least
        }
    }
}
