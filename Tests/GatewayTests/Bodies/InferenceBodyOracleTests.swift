// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation
import TestSupport
import Testing

@testable import Gateway

/// Random bodies against Foundation's decoder, which shares no code with what is tested.
@Suite("Inference bodies against JSONDecoder")
struct InferenceBodyOracleTests {
    struct Chat: Decodable {
        struct Message: Decodable {
            var content: String
        }

        var model: String
        var stream: Bool?
        var max_tokens: Int?
        var cache_salt: String?
        var messages: [Message]
    }

    /// A chat whose members stand in any order among unknown ones.
    static func body(_ random: inout SplitMix64) -> String {
        var generator = RandomJSON(keys: ["temperature", "usage", "x", "y", "z"])
        let messages = (0..<Int.random(in: 0..<4, using: &random)).map { _ in
            let content = "\"content\":\(generator.space(&random))\"\(generator.string(&random))\""
            let other = "\"extra\":\(generator.value(depth: 2, &random))"
            return "{" + [content, other].shuffled(using: &random).joined(separator: ",") + "}"
        }
        var members = [
            "\"model\"\(generator.space(&random)):\(generator.space(&random))\"m\(generator.string(&random))\"",
            "\"messages\":[\(messages.joined(separator: ","))]", "\"unknown\":\(generator.object(depth: 4, &random))",
        ]
        if Bool.random(using: &random) { members.append("\"stream\":\(Bool.random(using: &random))") }
        if Bool.random(using: &random) { members.append("\"max_tokens\":\(Int.random(in: 0..<9_999, using: &random))") }
        if Bool.random(using: &random) { members.append("\"cache_salt\":\"\(generator.string(&random))\"") }
        members.shuffle(using: &random)
        return generator.space(&random) + "{" + members.joined(separator: ",\(generator.space(&random))") + "}"
            + generator.space(&random)
    }

    @Test("Every member is read as the decoder reads it", arguments: 0..<10)
    func members(block: UInt64) throws {
        for seed in block * 40..<(block + 1) * 40 {
            var random = SplitMix64(seed: seed)
            let text = Self.body(&random)
            let chat = try JSONDecoder().decode(Chat.self, from: Data(text.utf8))
            let body = try InferenceBodyTests.read(text)
            #expect(body.model == chat.model, "seed \(seed)")
            #expect(body.streams == chat.stream ?? false, "seed \(seed)")
            #expect(body.maxOutputTokens == chat.max_tokens, "seed \(seed)")
            #expect(body.cacheSalt == chat.cache_salt, "seed \(seed)")
            #expect(body.promptBytes == chat.messages.reduce(0) { $0 + $1.content.utf8.count }, "seed \(seed)")
        }
    }

    @Test("A new model name changes nothing else", arguments: 0..<10)
    func rewriting(block: UInt64) throws {
        for seed in block * 40..<(block + 1) * 40 {
            var random = SplitMix64(seed: seed)
            let text = Self.body(&random)
            let name = ["m", "a/b-Q8", "with \"quotes\"\n", "日本", String(repeating: "long", count: 100)][Int(seed % 5)]
            var options = ExchangeOptions()
            options.bodyLimit = 1 << 20
            var reader = InferenceBodyReader(options)
            var bytes = PaddedBytes()
            unsafe Array(text.utf8).withUnsafeBytes { unsafe bytes.append($0) }
            bytes.pad()
            guard let replaced = reader.rewritten(bytes, BodyRewrite(model: name)) else {
                Issue.record("seed \(seed): nothing replaced")
                continue
            }
            let result = unsafe String(decoding: replaced.bytes, as: UTF8.self)
            #expect(try InferenceBodyTests.read(result).model == name, "seed \(seed)")
            // Put the old name back where the new one stands: the old text must come out.
            let start = try #require(text.firstRange(of: "\"model\""))
            let colon = try #require(text[start.upperBound...].firstIndex(of: ":"))
            let old = try #require(text[colon...].firstIndex(of: "\""))
            #expect(result.utf8.starts(with: text[..<old].utf8), "seed \(seed)")
            var end = text.index(after: old)
            while text[end] != "\"" { end = text.index(end, offsetBy: text[end] == "\\" ? 2 : 1) }
            let tail = text[text.index(after: end)...]
            #expect(result.utf8.reversed().starts(with: tail.utf8.reversed()), "seed \(seed)")
            #expect(
                result.utf8.count == text[..<old].utf8.count + APIError.quoted(name).utf8.count + tail.utf8.count,
                "seed \(seed)"
            )
        }
    }

    @Test("Every top-level model is replaced, no nested one, and too many are left alone")
    func duplicates() throws {
        func replaced(_ text: String) -> String? {
            var reader = InferenceBodyReader(ExchangeOptions())
            var bytes = PaddedBytes()
            unsafe Array(text.utf8).withUnsafeBytes { unsafe bytes.append($0) }
            bytes.pad()
            guard let result = reader.rewritten(bytes, BodyRewrite(model: "n")) else { return nil }
            return unsafe String(decoding: result.bytes, as: UTF8.self)
        }
        #expect(
            replaced(#"{"model" : "a" ,"x":{"model":"b"},"mod\u0065l":"c"}"#)
                == #"{"model" : "n" ,"x":{"model":"b"},"mod\u0065l":"n"}"#
        )
        #expect(replaced(#"{"x":1}"#) == nil)
        #expect(replaced("{" + [String](repeating: #""model":"a""#, count: 17).joined(separator: ",") + "}") == nil)
    }

    @Test("A priority is added or replaced, and changes nothing else", arguments: 0..<10)
    func prioritising(block: UInt64) throws {
        for seed in block * 40..<(block + 1) * 40 {
            var random = SplitMix64(seed: seed)
            let plain = Self.body(&random)
            let own = seed % 3 == 0
            let text = own ? plain.replacing("{", with: #"{ "priority" : -7 ,"#, maxReplacements: 1) : plain
            var reader = InferenceBodyReader(ExchangeOptions())
            var bytes = PaddedBytes()
            unsafe Array(text.utf8).withUnsafeBytes { unsafe bytes.append($0) }
            bytes.pad()
            let read = try reader.read(bytes, of: .chatCompletions)
            #expect(read.hasPriority == own, "seed \(seed)")
            let value = Int.random(in: -1_000_000_000_000_000...1_000_000_000_000_000, using: &random)
            let name = seed % 2 == 0 ? "other" : nil
            let rewrite = BodyRewrite(model: name, priority: value, hasPriority: read.hasPriority)
            let rewritten = reader.rewritten(bytes, rewrite)
            guard let rewritten else {
                Issue.record("seed \(seed): nothing rewritten")
                continue
            }
            let result = unsafe String(decoding: rewritten.bytes, as: UTF8.self)
            let before = try #require(try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any])
            let after = try #require(try JSONSerialization.jsonObject(with: Data(result.utf8)) as? [String: Any])
            #expect(after["priority"] as? Int == value, "seed \(seed)")
            #expect(after["model"] as? String == name ?? before["model"] as? String, "seed \(seed)")
            let rest = { (fields: [String: Any]) in
                NSDictionary(dictionary: fields.filter { $0.key != "priority" && $0.key != "model" })
            }
            #expect(rest(before) == rest(after), "seed \(seed)")
        }
    }
}
