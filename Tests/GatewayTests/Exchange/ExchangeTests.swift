// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router
import TestSupport
import Testing

@testable import Gateway

/// The sequences that a real Envoy 1.40 sends, and what must be answered to each.
@Suite("Exchange")
struct ExchangeTests {
    static let body = Array(#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#.utf8)

    static let routed = EnvoyAnswer.requestHeaders(
        EnvoyAnswer.Headers(
            set: ["x-gateway-destination-endpoint: 10.0.0.1:8000 [2]"],
            removed: [
                "x-gateway-destination-endpoint-subset", "x-gateway-destination-endpoint-served",
                "x-prefiller-host-port", "x-encoder-hosts-ports", "x-kv-cache-source-host-port",
                "x-data-parallel-host-port", "x-data-parallel-rank",
            ],
            clearsRouteCache: true,
            metadata: ["envoy.lb/x-gateway-destination-endpoint=10.0.0.1:8000"]
        )
    )
    static let passed = EnvoyAnswer.responseHeaders(EnvoyAnswer.Headers())

    @Test("A small POST over HTTP/1.1: the body's end comes alone")
    func smallPost() throws {
        let bench = try Bench()
        #expect(try bench.send(EnvoyMessage.requestHeaders()) == [])
        #expect(try bench.send(EnvoyMessage.requestBody(Self.body, endOfStream: false)) == [])
        #expect(
            try bench.send(EnvoyMessage.requestBody([], endOfStream: true)) == [
                Self.routed, .requestBody(.streamed(Self.body, endOfStream: true)),
            ]
        )
        #expect(try bench.send(EnvoyMessage.responseHeaders()) == [Self.passed])
        let answer = Array(#"{"usage":{"prompt_tokens":7,"completion_tokens":3}}"#.utf8)
        #expect(
            try bench.send(EnvoyMessage.responseBody(answer, endOfStream: false)) == [
                .responseBody(.streamed(answer, endOfStream: false))
            ]
        )
        #expect(bench.picker.outcomes.isEmpty)
        #expect(
            try bench.send(EnvoyMessage.responseBody([], endOfStream: true)) == [
                .responseBody(.streamed([], endOfStream: true))
            ]
        )
        bench.handler.closed(.reset(errorCode: 2))
        let id = RequestID(1)
        let outcome = Outcome(kind: .completed, status: 200, promptTokens: 7, outputTokens: 3)
        #expect(bench.picker.events == [.asked(id), .firstToken(id), .ended(id, outcome)])
        #expect(bench.picker.requests.first?.model == "m")
        #expect(bench.picker.requests.first?.api == .chatCompletions)
        #expect(bench.call.status == nil)
        #expect(bench.observer.notes.isEmpty)
    }

    @Test("A small POST over HTTP/2: the body's end comes with it")
    func endWithBody() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders())
        #expect(
            try bench.send(EnvoyMessage.requestBody(Self.body, endOfStream: true)) == [
                Self.routed, .requestBody(.streamed(Self.body, endOfStream: true)),
            ]
        )
    }

    @Test("A request without a body is routed by its headers", arguments: [UInt64(0), 1, 2, 4])
    func headersOnly(mode: UInt64) throws {
        let bench = try Bench()
        let headers = [(":method", "GET"), (":path", "/v1/models"), ("x-request-id", "r-1")]
        let message = EnvoyMessage.requestHeaders(headers, endOfStream: true, modes: (mode, 4))
        #expect(try bench.send(message) == [Self.routed])
        #expect(
            bench.picker.requests == [
                ParsedRequest(id: RequestID(1), api: .other, method: "GET", path: "/v1/models", externalID: "r-1")
            ]
        )
    }
}
