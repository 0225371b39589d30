// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import Transport

/// The exchanges whose bodies are on their way, since when. Confined to one loop.
struct Uploads {
    struct Token {
        fileprivate let slot: Int
        fileprivate let generation: UInt32
    }

    private struct Slot {
        var exchange: (any PendingExchange)?
        var since: MonotonicTime
        var generation: UInt32 = 0
    }

    private var slots: [Slot] = []
    private var free: [Int] = []

    var isEmpty: Bool { free.count == slots.count }

    mutating func add(_ exchange: any PendingExchange, at now: MonotonicTime) -> Token {
        guard let slot = free.popLast() else {
            slots.append(Slot(exchange: exchange, since: now))
            return Token(slot: slots.count - 1, generation: 0)
        }
        slots[slot].exchange = exchange
        slots[slot].since = now
        return Token(slot: slot, generation: slots[slot].generation)
    }

    /// Does nothing for one that is gone.
    mutating func remove(_ token: Token) {
        guard slots[token.slot].generation == token.generation else { return }
        _ = take(token.slot)
    }

    private mutating func take(_ slot: Int) -> (any PendingExchange)? {
        slots[slot].generation &+= 1
        free.append(slot)
        return slots[slot].exchange.take()
    }

    /// Takes out those that have been on their way for `span` or longer, the longest first.
    mutating func takeLate(by span: Duration, at now: MonotonicTime) -> [any PendingExchange] {
        let late = slots.indices.filter { slots[$0].exchange != nil && slots[$0].since + span <= now }
        return late.sorted { (slots[$0].since, $0) < (slots[$1].since, $1) }.compactMap { take($0) }
    }
}
