// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

/// What a test looks at of an event.
private struct Seen: Equatable {
    var kind: KVEvent.Kind
    var hashes: [UInt64] = []
    var parent: UInt64?
    var tokens: [UInt32] = []
    var blockSize = 0
    var tier = CacheTier.gpu
    var adapter: String?
    var group = 0
    var salted: [Int] = []
}

private func decode(_ payload: [UInt8]) throws -> [Seen] {
    let event = KVEvent()
    return unsafe try payload.withUnsafeBytes { bytes in
        var decoder = try unsafe KVEventDecoder(bytes)
        var seen: [Seen] = []
        while try decoder.next(event) {
            seen.append(
                Seen(
                    kind: event.kind,
                    hashes: unsafe Array(event.hashes),
                    parent: event.parent,
                    tokens: unsafe Array(event.tokens),
                    blockSize: event.blockSize,
                    tier: event.tier,
                    adapter: event.adapter,
                    group: event.group,
                    salted: event.extraKeys.map(\.block)
                )
            )
        }
        return seen
    }
}

private func bytes(_ hex: String) -> [UInt8] {
    var result: [UInt8] = []
    var high: UInt8?
    for character in hex.utf8 {
        let digit = character > 96 ? character - 87 : character - 48
        if let first = high {
            result.append(first << 4 | digit)
            high = nil
        } else {
            high = digit
        }
    }
    return result
}

@Suite("KV events on the wire")
struct KVEventDecoderTests {
    /// Encoded by vLLM 0.33's own classes: BlockStored([1, 2], tokens [5, 6], block 2, GPU), BlockRemoved([1]), clear.
    static let golden =
        "93cb3ff800000000000093de0009a474797065ab426c6f636b53746f726564ac626c6f636b5f686173686573920102b1706172656e745f626c"
        + "6f636b5f68617368c0a9746f6b656e5f696473920506aa626c6f636b5f73697a6502a76c6f72615f6964c0a66d656469756da3475055a96c"
        + "6f72615f6e616d65c0a967726f75705f6964780083a474797065ac426c6f636b52656d6f766564ac626c6f636b5f6861736865739101a66d"
        + "656469756da347505581a474797065b0416c6c426c6f636b73436c656172656400"

    @Test("bytes of vLLM 0.33")
    func vllm() throws {
        #expect(
            try decode(bytes(Self.golden)) == [
                Seen(kind: .stored, hashes: [1, 2], tokens: [5, 6], blockSize: 2), Seen(kind: .removed, hashes: [1]),
                Seen(kind: .cleared),
            ]
        )
        unsafe #expect(try bytes(Self.golden).withUnsafeBytes { try unsafe KVEventDecoder.rank($0) } == 0)
    }

    @Test("arrays, as older vLLM and SGLang write them")
    func arrays() throws {
        // [1.5, [["BlockStored", [2^64 - 1, -2], 7, [1, 2], 1, 3, "CPU"], ["BlockRemoved", [9], nil, 1], ["AllBlocksCleared"],
        //  ["Novel", 1, [2]]]]
        let stored =
            "97ab426c6f636b53746f726564" + "92cfffffffffffffffffd0fe" + "07" + "920102" + "01" + "03" + "a3435055"
        let removed = "94ac426c6f636b52656d6f766564" + "9109" + "c0" + "01"
        let payload =
            "92cb3ff8000000000000" + "94" + stored + removed + "91b0416c6c426c6f636b73436c6561726564"
            + "93a54e6f76656c019102"
        #expect(
            try decode(bytes(payload)) == [
                Seen(
                    kind: .stored,
                    hashes: [.max, .max - 1],
                    parent: 7,
                    tokens: [1, 2],
                    blockSize: 1,
                    tier: .cpu,
                    adapter: "lora:3"
                ),
                Seen(kind: .removed, hashes: [9], group: 1), Seen(kind: .cleared), Seen(kind: .other),
            ]
        )
    }

    @Test("hashes of 32 bytes count by their last eight")
    func byteHashes() throws {
        let hash = String(repeating: "11", count: 24) + "8000000000000001"
        let payload =
            "92cb3ff8000000000000" + "91" + "92ac426c6f636b52656d6f766564" + "92c420" + hash + "da0008"
            + "0102030405060708"
        #expect(
            try decode(bytes(payload)) == [
                Seen(kind: .removed, hashes: [0x8000_0000_0000_0001, 0x0102_0304_0506_0708])
            ]
        )
    }

    @Test("what the encoder writes is read back", arguments: 0..<30 as Range<UInt64>)
    func roundTrip(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        var encoder = KVEventEncoder()
        var expected: [Seen] = []
        for _ in 0..<Int.random(in: 0...40, using: &random) {
            let hashes = (0..<Int.random(in: 0...40, using: &random)).map { _ in
                random.next() >> UInt64.random(in: 0...63, using: &random)
            }
            switch Int.random(in: 0..<5, using: &random) {
            case 0:
                encoder.cleared()
                expected.append(Seen(kind: .cleared))
            case 1:
                encoder.removed(hashes, tier: .storage)
                expected.append(Seen(kind: .removed, hashes: hashes, tier: .storage))
            default:
                let tokens = (0..<(hashes.count * 3)).map { _ in
                    UInt32.random(in: 0...(.max >> UInt32.random(in: 0...31, using: &random)), using: &random)
                }
                let parent = Bool.random(using: &random) ? random.next() : nil
                let salt = Bool.random(using: &random) ? "tenant" : nil
                encoder.stored(
                    hashes,
                    parent: parent,
                    tokens: tokens,
                    blockSize: 3,
                    tier: .cpu,
                    adapter: "sql",
                    cacheSalt: salt
                )
                expected.append(
                    Seen(
                        kind: .stored,
                        hashes: hashes,
                        parent: parent,
                        tokens: tokens,
                        blockSize: 3,
                        tier: .cpu,
                        adapter: "sql",
                        salted: parent == nil && salt != nil && !hashes.isEmpty ? [0] : []
                    )
                )
            }
        }
        let payload = encoder.batch(time: 12.5, rank: 3)
        #expect(try decode(payload) == expected)
        unsafe #expect(try payload.withUnsafeBytes { try unsafe KVEventDecoder.rank($0) } == 3)
        #expect(encoder.isEmpty)
        // Cut anywhere, it is refused and nothing is read behind the end.
        for _ in 0..<20 where !expected.isEmpty {
            let cut = Int.random(in: 0..<(payload.count - 1), using: &random)
            if let seen = try? decode(Array(payload[..<cut])) { #expect(seen == expected) }
        }
    }

    @Test("headers of every legal size")
    func headers() throws {
        let reference = try decode(bytes(Self.golden))
        func variants(_ text: String) -> [String] {
            let body = String(text.dropFirst(2))
            let count = text.prefix(2).suffix(1)
            switch text.first {
            case "9": return ["9\(count)", "dc000\(count)", "dd0000000\(count)"].map { $0 + body }
            default: return ["8\(count)", "de000\(count)", "df0000000\(count)"].map { $0 + body }
            }
        }
        let removed =
            "83a474797065ac426c6f636b52656d6f766564ac626c6f636b5f686173686573" + "9101" + "a66d656469756da3475055"
        for outer in variants("93") {
            for list in variants("91") {
                for map in variants(removed) {
                    let payload = outer + "cb3ff8000000000000" + list + map + "00"
                    #expect(try decode(bytes(payload)) == [reference[1]])
                }
            }
        }
        for hashes in [
            "9101", "dc000101", "dd0000000101", "91cc01", "91cd0001", "91ce00000001", "91cf0000000000000001", "91d001",
            "91d10001", "91d200000001", "91d30000000000000001",
        ] {
            let payload = "92cb3ff8000000000000" + "91" + "92ac426c6f636b52656d6f766564" + hashes
            #expect(try decode(bytes(payload)) == [reference[1]])
        }
    }

    @Test("counts that the bytes cannot hold are not believed")
    func hugeCounts() {
        for payload in [
            "dd7fffffff", "92cb3ff8000000000000ddffffffff", "92cb3ff800000000000091dfffffffff",
            "92cb3ff8000000000000" + "91" + "92ac426c6f636b52656d6f766564" + "ddffffffff", "", "c0", "92cb",
        ] {
            #expect(throws: MessagePackError.self) { try decode(bytes(payload)) }
        }
    }
}
