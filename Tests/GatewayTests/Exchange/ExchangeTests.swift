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
        #expect(bench.picker.requests.first?.bodyBytes == Self.body.count)
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
                ParsedRequest(id: RequestID(1), api: .other, externalID: "r-1")
            ]
        )
    }

    @Test("A megabyte in many chunks comes back in pieces of 62,000 bytes, byte for byte")
    func megabyte() throws {
        let bench = try Bench()
        let path = [(":method", "POST"), (":path", "/upload"), ("content-length", "1048576")]
        #expect(try bench.send(EnvoyMessage.requestHeaders(path)) == [])
        let body = (0..<1_048_576).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) }
        for start in stride(from: 0, to: body.count, by: 32_768) {
            #expect(try bench.send(EnvoyMessage.requestBody(body[start..<start + 32_768], endOfStream: false)) == [])
        }
        let answers = try bench.send(EnvoyMessage.requestBody([], endOfStream: true))
        #expect(answers.first == Self.routed)
        let pieces = answers.dropFirst().map { answer in
            if case .requestBody(.streamed(let bytes, let end)) = answer { (bytes, end) } else { ([UInt8](), false) }
        }
        #expect(pieces.map(\.0.count) == [Int](repeating: 62_000, count: 16) + [56_576])
        #expect(pieces.map(\.1) == [Bool](repeating: false, count: 16) + [true])
        #expect(pieces.flatMap(\.0) == body)
    }

    @Test("Trailers: the body is answered without an end, then the trailers")
    func trailers() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders())
        #expect(try bench.send(EnvoyMessage.requestBody(Self.body, endOfStream: false)) == [])
        #expect(
            try bench.send(EnvoyMessage.requestTrailers) == [
                Self.routed, .requestBody(.streamed(Self.body, endOfStream: false)), .requestTrailers,
            ]
        )
        #expect(try bench.send(EnvoyMessage.responseHeaders()) == [Self.passed])
        let chunk = Array("x".utf8)
        #expect(
            try bench.send(EnvoyMessage.responseBody(chunk, endOfStream: false)) == [
                .responseBody(.streamed(chunk, endOfStream: false))
            ]
        )
        #expect(try bench.send(EnvoyMessage.responseTrailers) == [.responseTrailers])
        #expect(bench.picker.outcomes.map(\.kind) == [.completed])
    }

    @Test("A response without a body ends with its headers")
    func responseWithoutBody() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders([(":path", "/health")], endOfStream: true))
        #expect(try bench.send(EnvoyMessage.responseHeaders(endOfStream: true)) == [Self.passed])
        #expect(bench.picker.outcomes == [Outcome(kind: .completed, status: 200)])
        #expect(bench.picker.firstTokens == 0)
    }

    @Test("An answer of 4xx or 5xx is a failure and bears no token", arguments: [400, 404, 500, 503])
    func upstreamError(status: Int) throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders([(":path", "/v1/models")], endOfStream: true))
        try bench.send(EnvoyMessage.responseHeaders(status))
        try bench.send(EnvoyMessage.responseBody(Array("{}".utf8), endOfStream: true))
        #expect(bench.picker.outcomes == [Outcome(kind: .failed, status: status)])
        #expect(bench.picker.firstTokens == 0)
    }

    @Test("Envoy's own 503 means that the pod was not reached")
    func localAnswer() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders([(":path", "/v1/models")], endOfStream: true))
        let headers = [("content-length", "91"), ("content-type", "text/plain")]
        #expect(try bench.send(EnvoyMessage.responseHeaders(503, headers)) == [Self.passed])
        let text = Array("upstream connect error or disconnect/reset before headers.".utf8)
        #expect(
            try bench.send(EnvoyMessage.responseBody(text, endOfStream: true)) == [
                .responseBody(.streamed(text, endOfStream: true))
            ]
        )
        #expect(bench.picker.outcomes == [Outcome(kind: .unreachable, status: 503)])
    }

    @Test(
        "A server's 503 in plain text is the server's",
        arguments: ["date", "server", "x-envoy-upstream-service-time"]
    )
    func serversAnswer(mark: String) throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders([(":path", "/v1/models")], endOfStream: true))
        try bench.send(
            EnvoyMessage.responseHeaders(503, [("content-type", "text/plain"), (mark, "1")], endOfStream: true)
        )
        #expect(bench.picker.outcomes == [Outcome(kind: .failed, status: 503)])
    }

    @Test("Envoy answers the client itself before the request is whole")
    func localAnswerBeforeRouting() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders())
        try bench.send(EnvoyMessage.requestBody(Self.body, endOfStream: false))
        #expect(try bench.send(EnvoyMessage.responseHeaders(408)) == [Self.passed])
        // What was on its way of the request is no error, and is not answered.
        #expect(try bench.send(EnvoyMessage.requestBody([], endOfStream: true)) == [])
        #expect(
            try bench.send(EnvoyMessage.responseBody([1], endOfStream: true)) == [
                .responseBody(.streamed([1], endOfStream: true))
            ]
        )
        bench.handler.closed(.reset(errorCode: 2))
        #expect(bench.picker.events.isEmpty)
        #expect(bench.call.status == nil)
    }

    @Test("Envoy answers the client itself while the picker thinks")
    func localAnswerWhileDeciding() throws {
        let bench = try Bench(ScriptedPicker(nil))
        try bench.send(EnvoyMessage.requestHeaders(endOfStream: true))
        #expect(try bench.send(EnvoyMessage.responseHeaders(504)) == [Self.passed])
        #expect(bench.picker.outcomes.map(\.kind) == [.cancelled])
        bench.picker.pending[RequestID(1)]?.resolve(.route(Route(destinations: ["10.0.0.1:8000"])))
        #expect(try bench.answers() == [])
    }

    @Test(
        "The client leaves: before the body is whole, while the picker thinks, before and within the answer",
        arguments: 0..<5
    )
    func clientLeaves(after step: Int) throws {
        let bench = try Bench(ScriptedPicker(nil))
        try bench.send(EnvoyMessage.requestHeaders())
        if step > 0 { try bench.send(EnvoyMessage.requestBody(Self.body, endOfStream: true)) }
        let exchange = bench.picker.pending[RequestID(1)]
        if step > 1 { exchange?.resolve(.route(Route(destinations: ["10.0.0.1:8000"]))) }
        if step > 2 { try bench.send(EnvoyMessage.responseHeaders()) }
        if step > 3 { try bench.send(EnvoyMessage.responseBody([1], endOfStream: false)) }
        _ = try bench.answers()
        bench.handler.remoteEnded()
        #expect(bench.call.status == .ok)
        bench.handler.closed(.finished)
        exchange?.resolve(.route(Route(destinations: ["10.0.0.1:8000"])))
        #expect(try bench.answers() == [])
        #expect(bench.picker.outcomes.map(\.kind) == (step > 0 ? [.cancelled] : []))
        #expect(bench.picker.outcomes.first?.status == (step > 2 ? 200 : nil))
        #expect(bench.picker.firstTokens == (step > 3 ? 1 : 0))
    }

    @Test("A reset after the response's end was answered is a normal end")
    func resetAfterEnd() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders(endOfStream: true))
        try bench.send(EnvoyMessage.responseHeaders())
        try bench.send(EnvoyMessage.responseBody([1], endOfStream: true))
        bench.handler.closed(.reset(errorCode: 2))
        #expect(bench.picker.outcomes.map(\.kind) == [.completed])
    }

    @Test("A refusal by the picker reaches the client, and ends the call")
    func refusal() throws {
        let answer = ImmediateAnswer(
            status: 503,
            headers: [.init("retry-after", "1")],
            body: "full",
            details: "no_endpoint"
        )
        let bench = try Bench(ScriptedPicker(.answer(answer)))
        try bench.send(EnvoyMessage.requestHeaders())
        #expect(
            try bench.send(EnvoyMessage.requestBody(Self.body, endOfStream: true)) == [
                .immediate(status: 503, headers: ["retry-after: 1 [2]"], body: "full", details: "no_endpoint")
            ]
        )
        #expect(bench.call.status == .ok)
        bench.handler.closed(.reset(errorCode: 2))
        #expect(bench.picker.outcomes.isEmpty)
    }

    @Test("The picker can cut short a request that it has routed", arguments: 0..<3)
    func deadline(after step: Int) throws {
        let bench = try Bench(ScriptedPicker(nil))
        try bench.send(EnvoyMessage.requestHeaders(endOfStream: true))
        let exchange = try #require(bench.picker.pending[RequestID(1)])
        exchange.resolve(.route(Route(destinations: ["10.0.0.1:8000"])))
        if step > 0 { try bench.send(EnvoyMessage.responseHeaders()) }
        if step > 1 { try bench.send(EnvoyMessage.responseBody([1], endOfStream: false)) }
        _ = try bench.answers()
        exchange.resolve(.answer(ImmediateAnswer(status: 504, body: "late", details: "deadline")))
        #expect(try bench.answers() == [.immediate(status: 504, headers: [], body: "late", details: "deadline")])
        #expect(bench.picker.outcomes.map(\.kind) == [.timedOut])
        // The rest of the answer is on its way, and no longer wanted.
        #expect(try bench.send(EnvoyMessage.responseBody([1], endOfStream: true)) == [])
        bench.handler.closed(.reset(errorCode: 2))
        #expect(bench.picker.outcomes.count == 1)
    }

    @Test("A route without a destination is an answer of 503, and a failure")
    func noDestination() throws {
        let bench = try Bench(ScriptedPicker(.route(Route(destinations: []))))
        let answers = try bench.send(EnvoyMessage.requestHeaders(endOfStream: true))
        guard case .immediate(503, _, _, _)? = answers.first else { return #expect(Bool(false), "\(answers)") }
        #expect(bench.picker.outcomes.map(\.kind) == [.failed])
    }

    @Test("A call of another method is not taken")
    func otherMethod() throws {
        let bench = try Bench()
        #expect(
            bench.service.handler(path: "/envoy.service.ext_proc.v3.ExternalProcessor/Other", call: bench.call) == nil
        )
    }
}
