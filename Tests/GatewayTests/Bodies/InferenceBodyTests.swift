// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation
import PrefixIndex
import Router
import TestSupport
import Testing

@testable import Gateway

@Suite("Inference bodies")
struct InferenceBodyTests {
    static func read(_ text: some Sequence<UInt8>, _ api: InferenceAPI = .chatCompletions) throws(APIError)
        -> InferenceBody
    {
        var reader = InferenceBodyReader(ExchangeOptions())
        var bytes = PaddedBytes()
        unsafe Array(text).withUnsafeBytes { unsafe bytes.append($0) }
        bytes.pad()
        return try reader.read(bytes, of: api)
    }

    static func read(_ text: String, _ api: InferenceAPI = .chatCompletions) throws -> InferenceBody {
        try read(text.utf8, api)
    }

    @Test(
        "Paths",
        arguments: [
            ("/v1/chat/completions", .chatCompletions), ("/v1/completions", .completions),
            ("/v1/responses", .responses),
            ("/v1/messages", .messages), ("/v1/embeddings", .embeddings), ("/v1/chat/completions/", .chatCompletions),
            ("/v1/completions?beta=true", .completions),
            ("/openai/v1/chat/completions?v=1", .chatCompletions), ("/a/b/v1/messages", .messages),
            ("/v1/threads/x/messages", .other), ("/v1/x/responses", .other), ("/xv1/messages", .other),
            ("/messages", .other), ("v1/messages", .other),
            ("/v1/completions/?a=/v1/messages", .completions), ("/v1/chat/completions/render", .other),
            ("/v1/messages/count_tokens", .other), ("/v1/models", .other), ("/mycompletions", .other), ("/", .other),
            ("", .other), ("completions", .other), ("/tokenize?x=/v1/completions", .other),
        ] as [(String, InferenceAPI)]
    )
    func paths(path: String, api: InferenceAPI) {
        #expect(InferenceAPI(path: path) == api)
    }

    static let captured: [(String, InferenceAPI, Int, Int?, Bool)] = [
        ("chat", .chatCompletions, 52, 8, false), ("chat-stream", .chatCompletions, 11, 6, true),
        ("completions", .completions, 31, 8, false), ("completions-stream", .completions, 31, 6, true),
        ("completions-token-prompt", .completions, 0, 4, false), ("responses", .responses, 11, 5, false),
        ("messages", .messages, 11, 5, false), ("embeddings-unsupported", .embeddings, 1, nil, false),
    ]

    @Test("Requests that a real vLLM took", arguments: captured)
    func capturedRequests(name: String, api: InferenceAPI, bytes: Int, limit: Int?, streams: Bool) throws {
        let body = try Self.read([UInt8](Data(contentsOf: fixture("vllm/\(name).txt.request.json"))), api)
        #expect(body.model == "tiny")
        #expect(body.promptBytes == bytes)
        #expect(body.maxOutputTokens == limit)
        #expect(body.streams == streams)
        #expect(body.promptTokens == (name == "completions-token-prompt" ? 6 : nil))
    }

    @Test(
        "Which limit counts",
        arguments: [
            (InferenceAPI.chatCompletions, #""max_tokens":5"#, 5),
            (.chatCompletions, #""max_tokens":5,"max_completion_tokens":7"#, 7),
            (.chatCompletions, #""max_completion_tokens":null,"max_tokens":5"#, 5),
            (.completions, #""max_tokens":5,"max_completion_tokens":7"#, 5), (.responses, #""max_output_tokens":9"#, 9),
            (.responses, #""max_tokens":9"#, nil), (.messages, #""max_tokens":3"#, 3),
            (.embeddings, #""max_tokens":3"#, nil),
            (.chatCompletions, #""max_tokens":-5"#, nil), (.chatCompletions, #""max_tokens":1.5"#, nil),
            (.chatCompletions, #""max_tokens":"9""#, nil),
            (.chatCompletions, #""max_tokens":18446744073709551615"#, nil),
            (.chatCompletions, #""max_tokens":0"#, 0),
        ] as [(InferenceAPI, String, Int?)]
    )
    func limits(api: InferenceAPI, fields: String, expected: Int?) throws {
        #expect(try Self.read("{\"model\":\"m\",\(fields)}", api).maxOutputTokens == expected)
    }

    @Test(
        "What is counted as prompt",
        arguments: [
            (InferenceAPI.chatCompletions, #""messages":[{"role":"user","content":"h\u00e9\n"}]"#, 4),
            (
                .chatCompletions,
                #""messages":[{"content":[{"type":"text","text":"ab"},{"type":"image_url","image_url":{"url":"data:long"}}]}]"#,
                2
            ),
            (.chatCompletions, #""messages":[{"content":null,"tool_calls":[ 1, 2 ]}],"tools":[ {"a" : 1} ]"#, 9 + 5),
            (.chatCompletions, #""messages":[{"role":"tool"}]"#, 15), (.chatCompletions, #""messages":"x""#, 0),
            (.completions, #""prompt":["ab","cde"]"#, 5), (.completions, #""prompt":[]"#, 0),
            (.completions, #""prompt":null"#, 0), (.completions, #""prompt":[1.5,-1,null,{}]"#, 0),
            (.messages, #""system":"sys","messages":[{"role":"user","content":"ab"}]"#, 5),
            (.messages, #""system":[{"type":"text","text":"sys"}],"messages":[]"#, 3),
            (.responses, #""instructions":"in","input":"put""#, 5),
            (.responses, #""input":[{"role":"user","content":[{"type":"input_text","text":"abc"}]},"x"]"#, 3 + 3),
            (.embeddings, #""input":["ab","c"]"#, 3), (.embeddings, #""prompt":"unread""#, 0),
        ] as [(InferenceAPI, String, Int)]
    )
    func promptBytes(api: InferenceAPI, fields: String, expected: Int) throws {
        #expect(try Self.read("{\"model\":\"m\",\(fields)}", api).promptBytes == expected)
    }

    @Test("Token ids: one prompt, several, and what is none")
    func tokens() throws {
        let one = try Self.read(#"{"model":"m","prompt":[1,2,3]}"#, .completions)
        #expect(one.promptTokens == 3)
        #expect(one.tokenKeys?.kind == .tokens)
        let several = try Self.read(#"{"model":"m","prompt":[[1,2],[3,4,5]]}"#, .completions)
        #expect(several.promptTokens == 5)
        let none = try Self.read(#"{"model":"m","prompt":[4294967296,-1]}"#, .completions)
        #expect(none.promptTokens == nil)
        let ids = (0..<64).map(String.init).joined(separator: ",")
        let long = try Self.read("{\"model\":\"m\",\"cache_salt\":\"s\",\"prompt\":[\(ids)]}", .completions)
        var hasher = TokenKeyHasher(model: "m", cacheSalt: "s")
        hasher.update((0..<64).map { UInt32($0) })
        #expect(long.tokenKeys == hasher.finish())
        #expect(long.textKeys.hashes.count == 1)
    }

    @Test("A model's name of the longest length passes, a longer one is 400")
    func modelNameLimit() throws {
        let longest = String(repeating: "m", count: InferenceBodyReader.maxModelBytes)
        #expect(try Self.read("{\"model\":\"\(longest)\"}").model == longest)
        let error = APIError(status: 400, message: "the model's name is longer than 1024 bytes", param: "model")
        #expect(throws: error) { try Self.read("{\"model\":\"\(longest)m\"}") }
    }

    @Test("Cache keys and users of the longest length are taken, longer ones and what is no text are as none")
    func keyLimit() throws {
        let longest = String(repeating: "k", count: InferenceBodyReader.maxKeyBytes)
        let taken = try Self.read("{\"model\":\"m\",\"user\":\"\(longest)\",\"prompt_cache_key\":\"é\"}")
        #expect(taken.user == longest)
        #expect(taken.promptCacheKey == "é")
        let left = try Self.read("{\"model\":\"m\",\"user\":\"\(longest)k\",\"prompt_cache_key\":7}")
        #expect(left.user == nil && left.promptCacheKey == nil)
        #expect(try Self.read("{\"model\":\"m\",\"user\":\"\"}").user == nil)
    }

    @Test("Keys agree as far as prompts do, and not across models, salts and pictures")
    func keys() throws {
        func keys(_ tail: String, model: String = "m", extra: String = "", image: String = "") throws -> [UInt64] {
            let system = String(repeating: "You are careful. ", count: 64)
            let picture = image.isEmpty ? "" : "{\"type\":\"image_url\",\"image_url\":{\"url\":\"\(image)\"}},"
            let text = """
                {"model":"\(model)",\(extra)"messages":[{"role":"system","content":[\(picture){"type":"text","text":"\(system)"}]},
                {"role":"user","content":"\(tail)"}]}
                """
            return try Self.read(text).textKeys.hashes
        }
        let long = String(repeating: "x", count: 600)
        let (a, b) = (try keys(long + "a"), try keys("other " + long))
        let shared = zip(a, b).prefix { $0 == $1 }.count
        #expect(shared == 4)
        #expect(a.count == 6)
        #expect(try keys(long + "a", model: "n").first != a.first)
        #expect(try keys(long + "a", extra: "\"cache_salt\":\"s\",").first != a.first)
        #expect(try keys(long + "a", extra: "\"temperature\":0,\"stream\":true,") == a)
        #expect(try keys(long + "a", extra: "\"tools\":[{\"name\":\"f\"}],").first != a.first)
        let red = try keys(long, image: "data:" + String(repeating: "A", count: 100_000))
        let blue = try keys(long, image: "data:" + String(repeating: "A", count: 99_999) + "B")
        #expect(red.count == blue.count)
        #expect(red.first != blue.first)
        #expect(red.count < 10)
    }

    @Test(
        "Refused",
        arguments: [
            ("", "not valid JSON"), ("{\"model\":", "not valid JSON"), ("not json", "not valid JSON"),
            ("{\"model\":\"m\"} x", "not valid JSON"), ("{\"model\":\"m\",}", "not valid JSON"),
            ("{\"model\":\"m\",\"x\":\"\u{1}\"}", "not valid JSON"), ("{\"model\":\"m\",\"x\":01}", "not valid JSON"),
            ("[]", "no JSON object"), ("\"model\"", "no JSON object"), ("{}", "names no model"),
            ("{\"model\":null}", "names no model"), ("{\"model\":\"\"}", "names no model"),
            ("{\"model\":[\"m\"]}", "names no model"), ("{\"x\":{\"model\":\"m\"}}", "names no model"),
            (
                "{\"model\":\"m\",\"x\":" + String(repeating: "[", count: 5_000) + String(repeating: "]", count: 5_000)
                    + "}", "nested too deeply"
            ),
        ]
    )
    func refused(text: String, message: String) {
        #expect {
            try Self.read(text)
        } throws: { error in
            guard let error = error as? APIError else { return false }
            return error.status == 400 && error.message.contains(message)
        }
    }

    @Test("Text that is no UTF-8 is refused")
    func badUTF8() {
        let bytes = Array("{\"model\":\"m\",\"x\":\"".utf8) + [0xC3, 0x28] + Array("\"}".utf8)
        #expect(throws: APIError.self) { try Self.read(bytes) }
    }

    @Test("Of duplicate keys the last one counts")
    func duplicates() throws {
        let body = try Self.read(#"{"model":"a","stream":true,"model":"b","stream":false,"mod\u0065l":"c"}"#)
        #expect(body.model == "c")
        #expect(!body.streams)
    }

    @Test("Members that may have to be rewritten are not repeated without end")
    func tooManyDuplicates() throws {
        func text(_ count: Int) -> String {
            "{" + [String](repeating: #""model":"a","priority":1"#, count: count).joined(separator: ",") + "}"
        }
        #expect(try Self.read(text(JSONParser.mostRanges)).model == "a")
        #expect(throws: APIError.self) { try Self.read(text(JSONParser.mostRanges + 1)) }
    }

    @Test("A parser that has met a bad or a huge document reads the next one")
    func reuse() throws {
        var reader = InferenceBodyReader(ExchangeOptions())
        func body(_ text: String) -> PaddedBytes {
            var bytes = PaddedBytes()
            unsafe Array(text.utf8).withUnsafeBytes { unsafe bytes.append($0) }
            bytes.pad()
            return bytes
        }
        #expect(throws: APIError.self) { try reader.read(body("{"), of: .chatCompletions) }
        let huge = "{\"model\":\"m\",\"prompt\":\"\(String(repeating: "a", count: 3 << 20))\"}"
        #expect(try reader.read(body(huge), of: .completions).promptBytes == 3 << 20)
        #expect(try reader.read(body("{\"model\":\"n\"}"), of: .completions).model == "n")
    }
}
