// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

@testable import PrefixIndex

/// What the trie must be equal to: a table of (lane, chain of blocks) with counts.
struct NaiveIndex {
    struct Key: Hashable {
        var lane: UInt16
        var engine: UInt64
    }

    /// Copies of each held block.
    var copies: [Key: Int] = [:]

    /// Every engine hash stands for one chain: the world that engines live in.
    mutating func store(_ lane: UInt16, _ engine: [UInt64], counted: Bool) {
        for hash in engine {
            let key = Key(lane: lane, engine: hash)
            let old = copies[key] ?? 0
            copies[key] = old == 0 || counted ? old + 1 : old
        }
    }

    mutating func remove(_ lane: UInt16, _ engine: UInt64) {
        let key = Key(lane: lane, engine: engine)
        guard let old = copies[key] else { return }
        copies[key] = old > 1 ? old - 1 : nil
    }

    mutating func clear(_ lanes: ClosedRange<UInt16>) {
        copies = copies.filter { !lanes.contains($0.key.lane) }
    }

    func depth(_ lane: UInt16, _ engine: [UInt64]) -> Int {
        engine.prefix { copies[Key(lane: lane, engine: $0)] != nil }.count
    }
}
