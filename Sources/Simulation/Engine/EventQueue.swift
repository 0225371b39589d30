// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What is due in a simulation. Trivial, so that the heap moves plain memory.
struct DueEvent: Sendable {
    enum Kind: UInt8, Sendable {
        /// `a` = request.
        case arrival
        /// `a` = server, `b` = version: older versions are void.
        case server
        /// `a` = request: its first job reaches the model server.
        case submission
        /// `a` = transfer, `b` = version.
        case transfer
        /// `a` = request, `b` = 0 for the pulled prefix, 1 for the prompt's KV.
        case kvArrival
        /// `a` = request: the prefill pod keeps its KV no longer.
        case keepTimeout
        case scrape
        /// `a` = picker.
        case wake
        /// `a` = index of the fault, `b` = 0 for its begin, 1 for its end.
        case fault
        /// Utilisation is sampled.
        case sample
        /// `a` = picker, `b` = index of a delayed report of cached blocks.
        case blockReport
    }

    var at: Double
    var order: UInt64
    var kind: Kind
    var a: Int32
    var b: UInt32
}

/// A binary heap of due events: earliest first, first come first among equals, so that a run never depends on chance.
struct EventQueue: Sendable {
    private var heap: [DueEvent] = []
    private var pushed: UInt64 = 0

    var isEmpty: Bool { heap.isEmpty }
    var count: Int { heap.count }
    var next: DueEvent? { heap.first }

    private static func precedes(_ x: DueEvent, _ y: DueEvent) -> Bool {
        x.at < y.at || (x.at == y.at && x.order < y.order)
    }

    mutating func push(at: Double, _ kind: DueEvent.Kind, _ a: Int = 0, _ b: UInt32 = 0) {
        let event = DueEvent(at: at, order: pushed, kind: kind, a: Int32(truncatingIfNeeded: a), b: b)
        pushed &+= 1
        heap.append(event)
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard Self.precedes(event, heap[parent]) else { break }
            heap[child] = heap[parent]
            child = parent
        }
        heap[child] = event
    }

    mutating func pop() -> DueEvent? {
        guard let first = heap.first, let last = heap.popLast() else { return nil }
        guard !heap.isEmpty else { return first }
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, Self.precedes(heap[child + 1], heap[child]) { child += 1 }
            guard Self.precedes(heap[child], last) else { break }
            heap[parent] = heap[child]
            parent = child
        }
        heap[parent] = last
        return first
    }
}
