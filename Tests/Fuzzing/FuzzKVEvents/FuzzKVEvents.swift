// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import PrefixIndex

/// A fuzzer's bytes as a batch of KV events: read, applied, looked up, and nothing may crash, hang or grow.
///
/// Run it with `scripts/fuzz FuzzKVEvents`.
@unsafe @_cdecl("LLVMFuzzerTestOneInput")
public func fuzzKVEvents(_ start: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
    let input = unsafe [UInt8](UnsafeBufferPointer(start: start, count: count))
    FuzzedEvents.shared.play(input)
    return 0
}

/// One index for all inputs, so that a batch meets what earlier ones left behind.
private final class FuzzedEvents: Sendable {
    static let shared = FuzzedEvents()

    private static let budget = 4 << 20
    private let index: EventPrefixIndex

    private init() {
        guard let index = try? EventPrefixIndex(budget: Self.budget, unit: 4) else {
            preconditionFailure("no memory for the index")
        }
        self.index = index
    }

    func play(_ input: [UInt8]) {
        // The last byte chooses the publisher.
        let source = EventSourceID(holder: UInt32(input.last ?? 0) % 4, rank: KVEventDecoder.rank(of: input) ?? 0)
        let outcome = index.apply(input, from: source)
        precondition(outcome.storedBlocks >= 0 && outcome.removedBlocks >= 0)
        if input.count % 7 == 0 { index.clear(source) }
        if input.count % 13 == 0 { index.doubt(source, now: 0) }
        if input.count % 29 == 0 { index.remove(holder: source.holder) }
        var hasher = TokenKeyHasher(model: nil, cacheSalt: nil, tokensPerBlock: 4)
        hasher.update(input.map { UInt32($0) })
        var found: [TierMatch] = []
        index.matches(of: hasher.finish(), into: &found)
        let statistics = index.statistics
        precondition(statistics.trie.bytes <= Self.budget + (1 << 20), "the budget")
        precondition(statistics.trie.blocks >= 0 && statistics.trie.heldBlocks >= statistics.trie.blocks)
        _ = index.maintain(now: Double(input.count))
    }
}
