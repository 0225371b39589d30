// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

/// Token ids are decoded by several chains at once, which begin at guesses: whatever the mixture of sizes, the answer must be
/// that of one value after the other.
@Suite("Decoding of token ids")
struct TokenDecodingTests {
    /// MessagePack of one integer; `wide`: in more bytes than needed.
    private static func encoded(_ token: UInt32, wide: Int) -> [UInt8] {
        let big = (0..<8).map { UInt8(truncatingIfNeeded: UInt64(token) >> UInt64(8 * (7 - $0))) }
        switch (token, wide) {
        case (_, 1): return [0xCF] + big
        case (0...0x7FFF_FFFF, 2): return [0xD2] + big[4...]
        case (0...0x7F, 0): return [UInt8(token)]
        case (0...0xFF, 0): return [0xCC] + big[7...]
        case (0...0xFFFF, 0): return [0xCD] + big[6...]
        default: return [0xCE] + big[4...]
        }
    }

    private static func decoded(_ bytes: [UInt8], _ count: Int) throws -> (tokens: [UInt32], left: Int) {
        try unsafe bytes.withUnsafeBytes { buffer in
            var reader = try #require(unsafe MessagePackReader(buffer))
            var tokens = [UInt32](repeating: .max, count: count)
            try unsafe tokens.withUnsafeMutableBufferPointer { target in
                guard let start = target.baseAddress else { return }
                unsafe try reader.tokens(count, to: start)
            }
            return (tokens, reader.left)
        }
    }

    @Test("any mixture of sizes, with anything behind it", arguments: 1...40 as ClosedRange<UInt64>)
    func mixtures(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        // Few of the odd kinds, many, or none; a vocabulary of one size, or of all.
        let odd = [0, 0, 200, 10][Int(seed % 4)]
        let bits = [7, 8, 15, 17, 18, 32][Int(seed % 6)]
        for _ in 0..<30 {
            let count = Int.random(in: 0...3_000, using: &random)
            var tokens: [UInt32] = []
            var bytes: [UInt8] = []
            for _ in 0..<count {
                let size = Bool.random(using: &random) ? bits : Int.random(in: 1...bits, using: &random)
                let token = UInt32(truncatingIfNeeded: random.next() >> UInt64(64 - size))
                let isOdd = odd > 0 && Int.random(in: 0..<odd, using: &random) == 0
                tokens.append(token)
                bytes += Self.encoded(token, wide: isOdd ? Int.random(in: 1...3, using: &random) : 0)
            }
            let behind = Int.random(in: 0...4_000, using: &random)
            for _ in 0..<behind { bytes.append(UInt8(truncatingIfNeeded: random.next() >> 50)) }
            let found = try Self.decoded(bytes, count)
            #expect(found.tokens == tokens)
            #expect(found.left == behind)
        }
    }

    @Test("values that look like the starts of others")
    func lookalikes() throws {
        // 0xCECD and the like: every byte of them could be a value's first.
        let values: [UInt32] = [0xCECD, 0xCDCE, 0xCECE_CDCD, 0xCDCD_CDCD, 0xCECE_CECE, 0xCC, 0x7F]
        var random = SplitMix64(seed: 3)
        for count in [47, 48, 64, 500, 2_048] {
            let tokens = (0..<count).map { _ in values.randomElement(using: &random) ?? 0 }
            let bytes = tokens.flatMap { Self.encoded($0, wide: 0) }
            #expect(try Self.decoded(bytes, count).tokens == tokens)
        }
    }

    @Test("what is no token, or too few of them, is refused wherever it stands")
    func refusals() throws {
        for place in [0, 3, 100, 700, 1_999] {
            var bytes: [UInt8] = []
            for at in 0..<2_000 as Range<UInt32> {
                bytes += at == UInt32(place) ? [0xC3] : Self.encoded(at &* 40, wide: 0)
            }
            #expect(throws: MessagePackError.unexpected(byte: 0xC3)) { try Self.decoded(bytes, 2_000) }
        }
        let whole = (0..<2_000 as Range<UInt32>).flatMap { Self.encoded($0 &* 40, wide: 0) }
        #expect(throws: MessagePackError.truncated) { try Self.decoded(Array(whole.dropLast()), 2_000) }
    }
}
