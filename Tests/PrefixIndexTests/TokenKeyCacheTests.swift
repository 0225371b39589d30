// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import PrefixIndex

/// Texts are cut in words of changing length here: nothing like the chunks that the keys of text are made of.
@Suite("Keys of prompts' starts that were asked for before")
struct TokenKeyCacheTests {
    private static func textKeys(_ text: String) -> PrefixKeys {
        var hasher = TextKeyHasher(model: "m", cacheSalt: nil)
        hasher.update(text)
        return hasher.finish()
    }

    /// A token for each word.
    private static func tokenKeys(_ text: String) -> PrefixKeys {
        var hasher = TokenKeyHasher(model: "m", cacheSalt: nil)
        for word in text.split(separator: " ") {
            hasher.append(word.utf8.reduce(7) { $0 &* 31 &+ UInt32($1) })
        }
        return hasher.finish()
    }

    private static func words(_ count: Int, _ random: inout SplitMix64) -> String {
        (0..<count).map { _ in
            String(repeating: "abcdefgh".randomElement(using: &random) ?? "a", count: Int(random.next() % 9) + 1)
        }
        .joined(separator: " ")
    }

    @Test("what is found is always a true start of the prompt's keys", arguments: [1, 2, 3, 4, 5] as [UInt64])
    func isExact(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        var cache = TokenKeyCache(budget: 1 << 20)
        var prompts = ["", Self.words(2_000, &random)]
        var found = 0
        for _ in 0..<200 {
            // A prompt that shares a start, cut anywhere, with an earlier one.
            let old = prompts[Int(random.next() % UInt64(prompts.count))]
            let start = old.prefix(Int(random.next() % UInt64(old.count + 1)))
            let prompt = start + Self.words(Int(random.next() % 300), &random)
            let (text, tokens) = (Self.textKeys(String(prompt)), Self.tokenKeys(String(prompt)))
            if let known = cache.find(text, share: 0.5) {
                found += 1
                #expect(known.textBlocks <= text.hashes.count)
                #expect(tokens.hashes.starts(with: known.keys.hashes))
            }
            cache.insert(text, tokens)
            prompts.append(String(prompt))
        }
        #expect(found > 10, "\(found)")
    }

    @Test("the third prompt under a common start is known, and only where it is most of it")
    func third() throws {
        var random = SplitMix64(seed: 9)
        var cache = TokenKeyCache(budget: 1 << 20)
        let system = Self.words(5_000, &random) + " "
        func insert(_ tail: String) { cache.insert(Self.textKeys(system + tail), Self.tokenKeys(system + tail)) }
        insert("one question")
        #expect(cache.find(Self.textKeys(system + "another question"), share: 0.9) == nil)
        insert("quite another question")
        let known = try #require(cache.find(Self.textKeys(system + "a third question"), share: 0.9))
        let all = Self.tokenKeys(system).hashes
        #expect(all.starts(with: known.keys.hashes) && known.keys.hashes.count > all.count - 40)
        #expect(cache.find(Self.textKeys(system + Self.words(5_000, &random)), share: 0.9) == nil)
        #expect(cache.find(Self.textKeys("x" + system), share: 0) == nil)
    }

    @Test("the budget holds, and the oldest go first")
    func budget() {
        var random = SplitMix64(seed: 4)
        var cache = TokenKeyCache(budget: 100_000)
        var prompts: [String] = []
        for _ in 0..<200 {
            let start = Self.words(400, &random)
            for tail in ["x", "y"] {
                cache.insert(Self.textKeys(start + " \(tail)" + start), Self.tokenKeys(start + " \(tail)" + start))
            }
            prompts.append(start + " z" + start)
            #expect(cache.bytes <= 100_000)
        }
        #expect(cache.find(Self.textKeys(prompts[0]), share: 0.3) == nil)
        #expect(cache.find(Self.textKeys(prompts[199]), share: 0.3) != nil)
        var none = TokenKeyCache(budget: 0)
        none.insert(Self.textKeys(prompts[0]), Self.tokenKeys(prompts[0]))
        #expect(none.count == 0 && none.bytes == 0)
    }
}
