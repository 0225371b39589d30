// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

@Suite("Keys of a request")
struct KeyHasherTests {
    private static func text(_ count: Int, seed: UInt64) -> [UInt8] {
        var random = SplitMix64(seed: seed)
        return (0..<count).map { _ in UInt8.random(in: 32...126, using: &random) }
    }

    private static func keys(
        _ text: [UInt8],
        cuts: [Int] = [],
        model: String = "m",
        salt: String? = nil,
        bytesPerBlock: Int = 64
    ) -> PrefixKeys {
        var hasher = TextKeyHasher(model: model, cacheSalt: salt, bytesPerBlock: bytesPerBlock)
        var from = 0
        for cut in cuts + [text.count] {
            unsafe text[from..<cut].withUnsafeBytes { unsafe hasher.update($0) }
            from = cut
        }
        return hasher.finish()
    }

    @Test("Blocks hashed together are hashed as each alone", arguments: [16, 64, 200, 256, 257, 999])
    func together(size: Int) {
        let text = Self.text(size * 7, seed: 5)
        var hashes = [UInt64](repeating: 0, count: 7)
        unsafe text.withUnsafeBytes { text in
            guard let start = text.baseAddress else { return }
            unsafe hashes.withUnsafeMutableBufferPointer {
                guard let room = $0.baseAddress else { return }
                unsafe BlockHash.bytes(start, size: size, blocks: 7, to: room)
            }
            for block in 0..<7 {
                #expect(unsafe hashes[block] == BlockHash.bytes(start + block * size, count: size))
            }
        }
    }

    @Test("Room made beforehand changes no key")
    func expected() {
        let text = Self.text(1_000, seed: 6)
        for count in [0, 64, 1_000, 1 << 40, -1] {
            var hasher = TextKeyHasher(model: "m", cacheSalt: nil, bytesPerBlock: 64, expectedBytes: count)
            unsafe text.withUnsafeBytes { unsafe hasher.update($0) }
            #expect(hasher.finish() == Self.keys(text))
        }
    }

    @Test("any way of cutting the text gives the same keys", arguments: 0..<20 as Range<UInt64>)
    func splitInvariance(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let text = Self.text(Int.random(in: 0...700, using: &random), seed: seed)
        let whole = Self.keys(text)
        #expect(whole.hashes.count == text.count / 64)
        #expect(Self.keys(text, cuts: Array(0..<text.count)) == whole)
        for _ in 0..<20 {
            let cuts = (0..<4).map { _ in Int.random(in: 0...text.count, using: &random) }.sorted()
            #expect(Self.keys(text, cuts: cuts) == whole)
        }
    }

    @Test("keys match as long as the texts do")
    func commonPrefix() {
        let a = Self.text(640, seed: 1)
        var b = a
        b[300] ^= 1
        let x = Self.keys(a).hashes
        let y = Self.keys(b).hashes
        #expect(x[..<4] == y[..<4])
        #expect(x[4] != y[4])
        #expect(x[5...] == y[5...], "blocks are hashed on their own")
    }

    @Test("model, salt and chunk size part prompts from the first block on")
    func seeds() {
        let text = Self.text(256, seed: 2)
        let variants = [
            Self.keys(text), Self.keys(text, model: "n"), Self.keys(text, salt: "s"), Self.keys(text, salt: "t"),
            Self.keys(text, model: "ms"), Self.keys(text, model: "", salt: "ms"),
        ]
        #expect(Set(variants.map { $0.hashes[0] }).count == variants.count)
        #expect(Self.keys(text, salt: "") == Self.keys(text))
    }

    @Test("a boundary is not text")
    func boundaries() {
        func keys(_ parts: [String]) -> PrefixKeys {
            var hasher = TextKeyHasher(model: "m", cacheSalt: nil, bytesPerBlock: 16)
            for part in parts {
                hasher.update(part)
                hasher.separate()
            }
            return hasher.finish()
        }
        let text = "0123456789abcdef0123456789abcdef"
        #expect(keys([text]) != keys([String(text.prefix(5)), String(text.dropFirst(5))]))
        #expect(
            keys([String(text.prefix(5)), String(text.dropFirst(5))])
                != keys([String(text.prefix(6)), String(text.dropFirst(6))])
        )
    }

    @Test("blocks behind the limit are counted, not hashed")
    func limit() {
        var hasher = TextKeyHasher(model: "m", cacheSalt: nil, bytesPerBlock: 16, maxBlocks: 3)
        hasher.update(String(repeating: "x", count: 1_000))
        hasher.update("y")
        #expect(hasher.finish().hashes.count == 3)
        #expect(hasher.byteCount == 1_001)
        var tokens = TokenKeyHasher(model: nil, cacheSalt: nil, tokensPerBlock: 2, maxBlocks: 3)
        tokens.update([UInt32](0..<100))
        tokens.append(7)
        #expect(tokens.finish().hashes.count == 3)
        #expect(tokens.tokenCount == 101)
    }

    @Test("estimated tokens per block")
    func tokensPerBlock() {
        let hasher = TextKeyHasher(model: "m", cacheSalt: nil)
        #expect(hasher.finish(tokensPerByte: 0.25).tokensPerBlock == 64)
        #expect(hasher.finish(tokensPerByte: 0.5).tokensPerBlock == 128)
    }

    @Test("token keys do not depend on how the ids arrive", arguments: [1, 2, 16, 32])
    func tokenSplits(size: Int) {
        let ids = (0..<100).map { UInt32($0) &* 7_919 }
        var whole = TokenKeyHasher(model: "m", cacheSalt: "s", tokensPerBlock: size)
        whole.update(ids)
        var single = TokenKeyHasher(model: "m", cacheSalt: "s", tokensPerBlock: size)
        for id in ids { single.append(id) }
        var odd = TokenKeyHasher(model: "m", cacheSalt: "s", tokensPerBlock: size)
        odd.update(Array(ids[..<33]))
        odd.update(Array(ids[33...]))
        #expect(whole.finish() == single.finish())
        #expect(whole.finish() == odd.finish())
        #expect(whole.finish().hashes.count == 100 / size)
        var salted = TokenKeyHasher(model: "m", cacheSalt: nil, tokensPerBlock: size)
        salted.update(ids)
        #expect(salted.finish().hashes[0] != whole.finish().hashes[0])
        #expect(salted.finish().hashes[1...] == whole.finish().hashes[1...])
    }
}
