// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Actions that wait for their moment: a binary heap whose entries can be taken out again.
///
/// Most deadlines of requests are cancelled, so a cancelled one leaves at once: O(log n), no garbage.
struct TimerQueue {
    struct Token: Sendable, Hashable {
        fileprivate var slot: Int
        fileprivate var generation: UInt32
    }

    private struct Entry {
        var deadline: MonotonicTime
        /// Order of adding: decides between equal deadlines.
        var sequence: UInt64
        var slot: Int

        func isBefore(_ other: Entry) -> Bool {
            deadline != other.deadline ? deadline < other.deadline : sequence < other.sequence
        }
    }

    private struct Slot {
        var position = 0
        var generation: UInt32 = 0
        var action: (() -> Void)?
    }

    private var heap: [Entry] = []
    private var slots: [Slot] = []
    private var freeSlots: [Int] = []
    private var nextSequence: UInt64 = 0

    var count: Int { heap.count }
    var nextDeadline: MonotonicTime? { heap.first?.deadline }

    mutating func add(at deadline: MonotonicTime, _ action: @escaping () -> Void) -> Token {
        let slot = freeSlots.popLast() ?? slots.count
        if slot == slots.count { slots.append(Slot()) }
        slots[slot].action = action
        heap.append(Entry(deadline: deadline, sequence: nextSequence, slot: slot))
        nextSequence &+= 1
        siftUp(heap.count - 1)
        return Token(slot: slot, generation: slots[slot].generation)
    }

    /// - Returns: whether the action was still waiting.
    @discardableResult
    mutating func cancel(_ token: Token) -> Bool {
        guard token.slot < slots.count, slots[token.slot].generation == token.generation,
            slots[token.slot].action != nil
        else { return false }
        _ = remove(at: slots[token.slot].position)
        return true
    }

    /// Takes out the first action whose moment has come.
    mutating func popDue(_ now: MonotonicTime) -> (() -> Void)? {
        guard let first = heap.first, first.deadline <= now else { return nil }
        return remove(at: 0)
    }

    mutating func removeAll() { self = TimerQueue() }

    private mutating func remove(at position: Int) -> (() -> Void)? {
        let slot = heap[position].slot
        let last = heap.removeLast()
        if position < heap.count {
            place(last, at: position)
            siftUp(position)
            siftDown(position)
        }
        let action = slots[slot].action
        slots[slot].action = nil
        slots[slot].generation &+= 1
        freeSlots.append(slot)
        return action
    }

    private mutating func place(_ entry: Entry, at position: Int) {
        heap[position] = entry
        slots[entry.slot].position = position
    }

    private mutating func siftUp(_ start: Int) {
        var position = start
        let entry = heap[position]
        while position > 0 {
            let parent = (position - 1) / 2
            guard entry.isBefore(heap[parent]) else { break }
            place(heap[parent], at: position)
            position = parent
        }
        place(entry, at: position)
    }

    private mutating func siftDown(_ start: Int) {
        var position = start
        let entry = heap[position]
        while true {
            var child = 2 * position + 1
            guard child < heap.count else { break }
            if child + 1 < heap.count, heap[child + 1].isBefore(heap[child]) { child += 1 }
            guard heap[child].isBefore(entry) else { break }
            place(heap[child], at: position)
            position = child
        }
        place(entry, at: position)
    }
}
