// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import HeapModule

/// Mixes by price, the cheapest on top; of equals the one that came first.
struct PriceHeap {
    private struct Item: Comparable {
        var price: Double
        var order: Int
        var mix: FleetMix

        static func < (a: Item, b: Item) -> Bool { (a.price, a.order) < (b.price, b.order) }
    }

    private var items = Heap<Item>()
    private var count = 0

    var isEmpty: Bool { items.isEmpty }

    mutating func insert(_ mix: FleetMix, price: Double) {
        items.insert(Item(price: price, order: count, mix: mix))
        count += 1
    }

    mutating func removeLeast() -> (FleetMix, Double)? { items.popMin().map { ($0.mix, $0.price) } }
}
