// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation
import Router
import TestSupport
import Testing

@testable import Gateway

/// Bad input, limits and rewriting, as Envoy sees them.
@Suite("Bodies in an exchange")
struct BodyExchangeTests {
    struct ErrorBody: Decodable, Equatable {
        struct Inner: Decodable, Equatable {
            var message: String
            var type: String
            var param: String?
            var code: Int
        }

        var error: Inner
    }

    static func error(_ answers: [EnvoyAnswer]) throws -> ErrorBody.Inner {
        guard answers.count == 1, case .immediate(let status, let headers, let body, _)? = answers.first else {
            throw WireMessage.Malformed()
        }
        #expect(headers == ["content-type: application/json [2]"])
        let error = try JSONDecoder().decode(ErrorBody.self, from: Data(body.utf8)).error
        #expect(error.code == Int(status))
        return error
    }

    @Test("A bad body on a known path is 400 with an error object, before the picker is asked")
    func badBody() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders())
        let error = try Self.error(bench.send(EnvoyMessage.requestBody(Array("{\"mod".utf8), endOfStream: true)))
        #expect(
            error
                == .init(message: "the request body is not valid JSON", type: "BadRequestError", param: nil, code: 400)
        )
        #expect(bench.call.status == .ok)
        #expect(bench.picker.events.isEmpty)
        #expect(bench.observer.notes == ["answered 400"])
    }

    @Test(
        "A POST without a body on a known path is 400, whether its headers or its trailers end it",
        arguments: [(UInt64(4), false), (4, true), (2, false), (1, false), (0, false)]
    )
    func emptyBody(mode: UInt64, hasTrailers: Bool) throws {
        let bench = try Bench()
        let headers = [(":method", "POST"), (":path", "/v1/chat/completions")]
        var answers = try bench.send(EnvoyMessage.requestHeaders(headers, endOfStream: !hasTrailers, modes: (mode, 4)))
        if hasTrailers { answers = try bench.send(EnvoyMessage.requestTrailers) }
        #expect(try Self.error(answers).code == 400)
        #expect(bench.picker.events.isEmpty)
    }

    @Test("Requests without a body that are no POST, or go elsewhere, are routed by their headers")
    func emptyBodyElsewhere() throws {
        for (method, path) in [("GET", "/v1/responses"), ("POST", "/reset_prefix_cache"), ("POST", "/v1/files")] {
            let bench = try Bench()
            try bench.send(EnvoyMessage.requestHeaders([(":method", method), (":path", path)], endOfStream: true))
            #expect(bench.picker.requests.map(\.api) == [.other], "\(method) \(path)")
        }
    }

    @Test("A missing model is 400 and names the parameter; buffered bodies too", arguments: [UInt64(4), 2])
    func missingModel(mode: UInt64) throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders(modes: (mode, 4)))
        let error = try Self.error(bench.send(EnvoyMessage.requestBody(Array("{}".utf8), endOfStream: true)))
        #expect(error.param == "model")
    }

    @Test("On an unknown path any body goes")
    func otherPath() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders([(":path", "/tokenize")]))
        let body = Array("not json".utf8)
        #expect(
            try bench.send(EnvoyMessage.requestBody(body, endOfStream: true)) == [
                ExchangeTests.routed, .requestBody(.streamed(body, endOfStream: true)),
            ]
        )
        #expect(bench.picker.requests.map(\.api) == [.other])
    }

    @Test("A body over the limit is 413: announced, or found out on the way", arguments: [UInt64(4), 2])
    func tooLarge(mode: UInt64) throws {
        var options = ExchangeOptions()
        options.bodyLimit = 1_000
        let announced = try Bench(ScriptedPicker(), options)
        let headers = [(":path", "/v1/completions"), ("content-length", "1001")]
        #expect(try Self.error(announced.send(EnvoyMessage.requestHeaders(headers, modes: (mode, 4)))).code == 413)
        #expect(announced.call.status == .ok)
        #expect(announced.observer.notes == ["answered 413"])

        let found = try Bench(ScriptedPicker(), options)
        try found.send(EnvoyMessage.requestHeaders(modes: (mode, 4)))
        if mode == 4 {
            let chunk = [UInt8](repeating: 32, count: 500)
            #expect(try found.send(EnvoyMessage.requestBody(chunk, endOfStream: false)) == [])
            #expect(try found.send(EnvoyMessage.requestBody(chunk, endOfStream: false)) == [])
            #expect(try Self.error(found.send(EnvoyMessage.requestBody([32], endOfStream: false))).code == 413)
            // What Envoy had already sent.
            #expect(try found.send(EnvoyMessage.requestBody(chunk, endOfStream: true)) == [])
        } else {
            let body = [UInt8](repeating: 32, count: 1_001)
            #expect(try Self.error(found.send(EnvoyMessage.requestBody(body, endOfStream: true))).code == 413)
        }
        #expect(found.picker.events.isEmpty)
        #expect(found.observer.notes == ["answered 413"])
    }

    @Test("A body of exactly the limit passes")
    func atLimit() throws {
        var options = ExchangeOptions()
        options.bodyLimit = 1_000
        let bench = try Bench(ScriptedPicker(), options)
        try bench.send(EnvoyMessage.requestHeaders([(":path", "/x"), ("content-length", "1000")]))
        let body = [UInt8](repeating: 32, count: 1_000)
        #expect(try bench.send(EnvoyMessage.requestBody(body, endOfStream: true)).count == 2)
    }

    static let rewriting = Route(destinations: ["10.0.0.1:8000"], rewriteModel: "longer-name")
    static let rewritten = Array(#"{"model":"longer-name","messages":[{"role":"user","content":"hi"}]}"#.utf8)

    @Test("A rewritten body has a new length where the client announced one", arguments: [true, false])
    func rewrite(announced: Bool) throws {
        let bench = try Bench(ScriptedPicker(.route(Self.rewriting)))
        let headers = [(":path", "/v1/chat/completions")] + (announced ? [("content-length", "57")] : [])
        try bench.send(EnvoyMessage.requestHeaders(headers))
        let answers = try bench.send(EnvoyMessage.requestBody(ExchangeTests.body, endOfStream: true))
        guard case .requestHeaders(let head)? = answers.first else { return #expect(Bool(false), "\(answers)") }
        let length = "content-length: \(Self.rewritten.count) [2]"
        #expect(head.set == ["x-gateway-destination-endpoint: 10.0.0.1:8000 [2]"] + (announced ? [length] : []))
        #expect(answers.last == .requestBody(.streamed(Self.rewritten, endOfStream: true)))
    }

    static let prioritising = Route(destinations: ["10.0.0.1:8000"], enginePriority: 42)
    static let prioritised = Array(#"{"priority":42,"model":"m","messages":[{"role":"user","content":"hi"}]}"#.utf8)

    @Test("An engine's priority is put into the body, whose length is told", arguments: [true, false])
    func priority(buffered: Bool) throws {
        let bench = try Bench(ScriptedPicker(.route(Self.prioritising)))
        let headers = [(":path", "/v1/chat/completions"), ("content-length", "57")]
        try bench.send(EnvoyMessage.requestHeaders(headers, modes: buffered ? (2, 0) : (4, 4)))
        let answers = try bench.send(EnvoyMessage.requestBody(ExchangeTests.body, endOfStream: true))
        let length = "content-length: \(Self.prioritised.count) [2]"
        if buffered {
            guard case .requestBody(.routed(let head))? = answers.first else {
                return #expect(Bool(false), "\(answers)")
            }
            #expect(head.contentReplaced == Self.prioritised && head.set.last == length)
        } else {
            guard case .requestHeaders(let head)? = answers.first else { return #expect(Bool(false), "\(answers)") }
            #expect(head.set.last == length)
            #expect(answers.last == .requestBody(.streamed(Self.prioritised, endOfStream: true)))
        }
    }

    @Test("Bodies of other APIs are no engine's to prioritise", arguments: ["/v1/messages", "/v1/files"])
    func priorityElsewhere(path: String) throws {
        let bench = try Bench(ScriptedPicker(.route(Self.prioritising)))
        try bench.send(EnvoyMessage.requestHeaders([(":path", path)]))
        let answers = try bench.send(EnvoyMessage.requestBody(ExchangeTests.body, endOfStream: true))
        #expect(answers.last == .requestBody(.streamed(Array(ExchangeTests.body), endOfStream: true)))
    }

    @Test("A buffered body is replaced in its answer")
    func rewriteBuffered() throws {
        let bench = try Bench(ScriptedPicker(.route(Self.rewriting)))
        try bench.send(EnvoyMessage.requestHeaders(modes: (2, 0)))
        let answers = try bench.send(EnvoyMessage.requestBody(ExchangeTests.body, endOfStream: true))
        guard case .requestBody(.routed(let head))? = answers.first else { return #expect(Bool(false), "\(answers)") }
        #expect(head.contentReplaced == Self.rewritten)
        #expect(head.set.last == "content-length: \(Self.rewritten.count) [2]")
        #expect(head.metadata == ["envoy.lb/x-gateway-destination-endpoint=10.0.0.1:8000"])
    }

    @Test("A body without a model to replace stays as it is")
    func nothingToRewrite() throws {
        let bench = try Bench(ScriptedPicker(.route(Self.rewriting)))
        try bench.send(EnvoyMessage.requestHeaders([(":path", "/tokenize")]))
        let body = Array(#"{"model":"m"}"#.utf8)
        let answers = try bench.send(EnvoyMessage.requestBody(body, endOfStream: true))
        #expect(answers == [ExchangeTests.routed, .requestBody(.streamed(body, endOfStream: true))])
    }

    @Test("What the picker hears of a chat")
    func parsed() throws {
        let bench = try Bench()
        let headers = [
            (":method", "POST"), (":path", "/v1/chat/completions?x=1"), ("x-request-id", "id-7"),
            ("x-slo-ttft-ms", "200"),
        ]
        try bench.send(EnvoyMessage.requestHeaders(headers))
        let text =
            #"{"messages":[{"role":"user","content":"hello"}],"stream":true,"max_tokens":9,"cache_salt":"s","#
            + #""user":"u","prompt_cache_key":"k","model":"m"}"#
        try bench.send(EnvoyMessage.requestBody(text.utf8, endOfStream: true))
        let request = try #require(bench.picker.requests.first)
        #expect(request.api == .chatCompletions)
        #expect(request.externalID == "id-7")
        #expect(request.model == "m")
        #expect(request.streams)
        #expect(request.maxOutputTokens == 9)
        #expect(request.cacheSalt == "s")
        #expect(request.promptCacheKey == "k")
        #expect(request.user == "u")
        #expect(request.promptBytes == 5)
        #expect(request.serviceLevel.ttft?.milliseconds == 200)
    }

    @Test("A streamed answer of a real vLLM, cut at every byte, comes back whole and tells its usage once")
    func capturedStream() throws {
        let answer = try CapturedAnswer("chat-stream")
        for split in stride(from: 1, to: answer.body.count, by: 37) {
            let bench = try Bench()
            try bench.send(EnvoyMessage.requestHeaders())
            try bench.send(EnvoyMessage.requestBody(ExchangeTests.body, endOfStream: true))
            try bench.send(EnvoyMessage.responseHeaders(200, [("content-type", answer.head.contentType)]))
            var echoed: [UInt8] = []
            for (chunk, end) in [(answer.body[..<split], false), (answer.body[split...], false), ([], true)] {
                for case .responseBody(.streamed(let bytes, _)) in try bench.send(
                    EnvoyMessage.responseBody(chunk, endOfStream: end)
                ) {
                    echoed += bytes
                }
            }
            #expect(echoed == answer.body)
            #expect(
                bench.picker.outcomes == [Outcome(kind: .completed, status: 200, promptTokens: 12, outputTokens: 6)]
            )
            #expect(bench.picker.firstTokens == 1)
        }
    }

    @Test("Error objects escape what they quote")
    func escaping() throws {
        let message = "a \"quoted\" \\ line\nwith \u{1} and 日本"
        let body = APIError(status: 404, message: message, param: "mod\"el").body
        let error = try JSONDecoder().decode(ErrorBody.self, from: Data(body.utf8)).error
        #expect(error == .init(message: message, type: "NotFoundError", param: "mod\"el", code: 404))
    }
}
