// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

@Suite("Engine hashes checked while serving")
struct HashCheckTests {
    private static let source = EventSourceID(holder: 1, rank: 0)

    @Test("a real vLLM's hashes are recognized, by both algorithms", arguments: ["run1", "run2-cbor"])
    func captured(name: String) throws {
        let run = try CapturedRun(name)
        let index = try EventPrefixIndex(budget: 8 << 20)
        var total = EventOutcome()
        for payload in run.payloads { total += index.apply(payload, from: Self.source) }
        #expect(total.recognizedHashes > 1 && total.differentHashes == 0)
    }

    private static func batch(_ tokens: [UInt32], _ hash: UInt64) -> [UInt8] {
        var encoder = KVEventEncoder()
        encoder.stored([hash], parent: nil, tokens: tokens, blockSize: 16)
        return encoder.batch(time: 0)
    }

    @Test("hashes that were right and no longer are show; unknown ones do not")
    func different() throws {
        let index = try EventPrefixIndex(budget: 8 << 20)
        let tokens = (100..<116).map { UInt32($0) }
        // The vector of the reference: tokens 100 to 115, sha256_cbor, default seed.
        let first = index.apply(Self.batch(tokens, 10_428_775_992_902_877_628), from: Self.source)
        #expect(first.recognizedHashes == 1 && first.differentHashes == 0)
        let second = index.apply(Self.batch(tokens.reversed(), 7), from: Self.source)
        #expect(second.recognizedHashes == 0 && second.differentHashes == 1)
        let stranger = EventSourceID(holder: 2, rank: 0)
        for number in 0..<20 as Range<UInt32> {
            let outcome = index.apply(Self.batch(tokens.map { $0 + number + 1 }, UInt64(number)), from: stranger)
            #expect(outcome.recognizedHashes == 0 && outcome.differentHashes == 0)
        }
    }
}
