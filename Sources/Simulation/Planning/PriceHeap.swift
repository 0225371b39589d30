// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Mixes by price, the cheapest on top; of equals the one that came first.
struct PriceHeap {
    private var items: [(price: Double, order: Int, mix: FleetMix)] = []
    private var count = 0

    private func precedes(_ a: Int, _ b: Int) -> Bool {
        (items[a].price, items[a].order) < (items[b].price, items[b].order)
    }

    mutating func insert(_ mix: FleetMix, price: Double) {
        items.append((price, count, mix))
        count += 1
        var child = items.count - 1
        while child > 0, precedes(child, (child - 1) / 2) {
            items.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    mutating func removeLeast() -> (FleetMix, Double)? {
        guard let first = items.first, let last = items.popLast() else { return nil }
        guard !items.isEmpty else { return (first.mix, first.price) }
        items[0] = last
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < items.count else { break }
            if child + 1 < items.count, precedes(child + 1, child) { child += 1 }
            guard precedes(child, parent) else { break }
            items.swapAt(child, parent)
            parent = child
        }
        return (first.mix, first.price)
    }
}
