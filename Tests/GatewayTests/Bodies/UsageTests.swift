// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation
import TestSupport
import Testing

@testable import Gateway

/// A captured answer of a real vLLM, as `curl -i` printed it.
struct CapturedAnswer {
    var head = ResponseHead()
    var body: [UInt8]

    init(_ name: String) throws {
        let bytes = [UInt8](try Data(contentsOf: fixture("vllm/\(name).txt")))
        let end = try #require(bytes.firstRange(of: Array("\r\n\r\n".utf8)))
        body = Array(bytes[end.upperBound...])
        for line in String(decoding: bytes[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n") {
            if line.hasPrefix("HTTP/") {
                head.status = line.split(separator: " ").dropFirst().first.flatMap { Int($0) }
            }
            if line.hasPrefix("content-type: ") { head.contentType = String(line.dropFirst("content-type: ".count)) }
        }
    }
}

@Suite("Usage")
struct UsageTests {
    static let captured: [(String, TokenUsage?)] = [
        ("chat", TokenUsage(promptTokens: 25, outputTokens: 8)),
        ("chat-stream", TokenUsage(promptTokens: 12, outputTokens: 6)),
        ("chat-stream-continuous-usage", TokenUsage(promptTokens: 12, outputTokens: 3)),
        ("chat-stream-nousage", nil),
        ("chat-prompt-token-details-2nd", TokenUsage(promptTokens: 42, cachedTokens: 32, outputTokens: 6)),
        ("completions", TokenUsage(promptTokens: 8, outputTokens: 8)),
        ("completions-stream", TokenUsage(promptTokens: 8, outputTokens: 6)),
        ("completions-token-prompt", TokenUsage(promptTokens: 6, outputTokens: 4)),
        ("responses", TokenUsage(promptTokens: 12, cachedTokens: 0, outputTokens: 5)),
        ("messages", TokenUsage(promptTokens: 12, outputTokens: 5)),
        ("embeddings-unsupported", nil), ("err-unknown-model", nil),
    ]

    @Test("Captured answers, whole, cut in two at every byte, and byte by byte", arguments: captured)
    func everySplit(name: String, expected: TokenUsage?) throws {
        let answer = try CapturedAnswer(name)
        for split in 0...answer.body.count {
            #expect(
                try Self.read([answer.body[..<split], answer.body[split...]], answer.head) == expected,
                "at \(split)"
            )
        }
        #expect(try Self.read(answer.body.indices.map { answer.body[$0...$0] }, answer.head) == expected)
    }

    static func read(_ chunks: [ArraySlice<UInt8>], _ head: ResponseHead) throws -> TokenUsage? {
        var reader = try #require(UsageReader(head))
        for chunk in chunks { unsafe chunk.withUnsafeBytes { unsafe reader.read($0) } }
        return reader.usage
    }

    static let json = ResponseHead(status: 200, contentType: "application/json")
    static let events = ResponseHead(status: 200, contentType: "text/event-stream")

    static func read(_ text: String, _ head: ResponseHead = json) throws -> TokenUsage? {
        let bytes = Array(text.utf8)
        let whole = try read([bytes[...]], head)
        for split in bytes.indices {
            #expect(try read([bytes[..<split], bytes[split...]], head) == whole, "at \(split)")
        }
        return whole
    }

    @Test("Anthropic's events: usage comes in parts, cached tokens apart")
    func anthropic() throws {
        let events = """
            event: message_start
            data: {"type":"message_start","message":{"id":"m","content":[],"usage":{"input_tokens":5,"cache_read_input_tokens":100,"output_tokens":1}}}

            event: content_block_delta
            data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"usage {\\"usage\\":{\\"input_tokens\\":9}}"}}

            event: message_delta
            data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}


            """
        #expect(
            try Self.read(events, Self.events) == TokenUsage(promptTokens: 105, cachedTokens: 100, outputTokens: 15)
        )
    }

    @Test("The Responses API's last event holds the usage")
    func responseCompleted() throws {
        let events =
            "data: {\"type\":\"response.created\",\"response\":{\"usage\":null}}\r\n\r\n"
            + "data:{\"type\":\"response.completed\",\"response\":{\"output\":[{\"usage\":{\"input_tokens\":1}}],"
            + "\"usage\":{\"input_tokens\":7,\"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":2}}}\r\n\r\n"
        #expect(try Self.read(events, Self.events) == TokenUsage(promptTokens: 7, cachedTokens: 4, outputTokens: 2))
    }

    @Test(
        "What looks like usage and is none",
        arguments: [
            #"{"choices":[{"usage":{"prompt_tokens":1}}],"x":{"usage":{"prompt_tokens":2}}}"#,
            #"{"text":"\"usage\":{\"prompt_tokens\":3}"}"#, #"{"usage":null}"#, #"{"usage":"prompt_tokens"}"#,
            #"{"usage":{"prompt_tokens":-5,"completion_tokens":1.5,"total_tokens":9}}"#,
            #"{"usage":{"prompt_tokens":"7","completion_tokens":[1]}}"#,
            #"{"usage":{"prompt_tokens":99999999999999999999999999}}"#, #"{"us\u0061ge":{"prompt_tokens":3}}"#, "",
            "[1]",
            "upstream error", "{", #"{"usage"{"prompt_tokens":1}}"#,
        ]
    )
    func none(text: String) throws {
        #expect(try Self.read(text) == nil)
    }

    @Test("The last value counts, white space and order do not")
    func order() throws {
        let text =
            "{ \"usage\" : { \"prompt_tokens\" : 1 , \"prompt_tokens_details\" : { \"cached_tokens\" : 2 } ,\n\"prompt_tokens\":3}\t, "
            + "\"id\":\"\\\\\",\"usage\":{\"completion_tokens\":4}}"
        #expect(try Self.read(text) == TokenUsage(promptTokens: 3, cachedTokens: 2, outputTokens: 4))
    }

    @Test("The quick look for the usage's name finds it wherever it stands, and nothing else", arguments: 0..<20)
    func quickLook(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let letters = Array("usagu\n".utf8)
        for _ in 0..<200 {
            let count = Int.random(in: 0...40, using: &random)
            let bytes = (0..<count).map { _ in letters.randomElement(using: &random) ?? 0 }
            let start = Int.random(in: 0...count, using: &random)
            let end = Int.random(in: start...count, using: &random)
            let expected = bytes[start..<end].firstRange(of: Array("usag".utf8)) != nil
            let found = unsafe bytes.withUnsafeBytes { unsafe $0.holdsUsage(start..<end) }
            #expect(found == expected, "\(bytes) \(start) \(end)")
        }
    }

    @Test("Compressed answers and other content are not read")
    func otherContent() {
        #expect(UsageReader(ResponseHead(contentType: "text/plain")) == nil)
        #expect(UsageReader(ResponseHead(contentType: "application/json", isEncoded: true)) == nil)
        #expect(UsageReader(ResponseHead(contentType: "application/json; charset=utf-8")) != nil)
    }

    /// Any JSON, with usage somewhere in it or not, against a parser that builds the whole tree.
    @Test("Random documents against Foundation's parser", arguments: 0..<20)
    func oracle(block: UInt64) throws {
        for seed in block * 20..<(block + 1) * 20 {
            var random = SplitMix64(seed: seed)
            var generator = RandomJSON(keys: [
                "usage", "response", "message", "prompt_tokens", "input_tokens", "output_tokens", "completion_tokens",
                "prompt_tokens_details", "cached_tokens", "cache_read_input_tokens", "x",
            ])
            let text = generator.object(depth: 5, &random)
            let bytes = Array(text.utf8)
            let split = Int.random(in: 0...bytes.count, using: &random)
            let found = try Self.read([bytes[..<split], bytes[split...]], Self.json)
            let tree = try #require(try JSONSerialization.jsonObject(with: Data(bytes)) as? [String: Any])
            #expect(found == Self.usage(in: tree), "seed \(seed): \(text)")
        }
    }

    /// The same rules over a whole tree. Keys are unique in it, but for aliases of one count, which the generator never
    /// puts together.
    private static func usage(in tree: [String: Any]) -> TokenUsage? {
        var result = TokenUsage.none
        var places: [Any?] = [tree["usage"]]
        for wrapper in ["response", "message"] { places.append((tree[wrapper] as? [String: Any])?["usage"]) }
        for case let usage as [String: Any] in places {
            result.promptTokens =
                natural(usage["prompt_tokens"]) ?? natural(usage["input_tokens"]) ?? result.promptTokens
            result.outputTokens =
                natural(usage["completion_tokens"]) ?? natural(usage["output_tokens"]) ?? result.outputTokens
            let details = usage["prompt_tokens_details"] as? [String: Any]
            result.cachedTokens =
                natural(details?["cached_tokens"]) ?? natural(usage["cache_read_input_tokens"]) ?? result.cachedTokens
        }
        guard result != .none else { return nil }
        if let cached = result.cachedTokens, let prompt = result.promptTokens, cached > prompt {
            result.promptTokens = prompt + cached
        }
        return result
    }

    private static func natural(_ value: Any?) -> Int? {
        guard let number = value as? NSNumber, !(value is Bool) else { return nil }
        return Int(exactly: number.doubleValue).flatMap { $0 >= 0 ? $0 : nil }
    }
}
