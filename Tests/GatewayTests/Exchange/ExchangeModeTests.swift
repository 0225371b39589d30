// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router
import TestSupport
import Testing

@testable import Gateway

/// Modes other than full duplex, as `protocol_config` tells them.
@Suite("Exchange modes")
struct ExchangeModeTests {
    static let body = ExchangeTests.body

    @Test("Without request bodies a request is routed by its headers, and its trailers are answered")
    func noRequestBody() throws {
        let bench = try Bench()
        #expect(try bench.send(EnvoyMessage.requestHeaders(modes: (0, 4))) == [ExchangeTests.routed])
        #expect(bench.picker.requests.first?.api == .other)
        #expect(try bench.send(EnvoyMessage.requestTrailers) == [.requestTrailers])
    }

    @Test("A streamed request is routed by its headers; each chunk takes one bare answer", arguments: [UInt64(1), 3])
    func streamedRequest(mode: UInt64) throws {
        let bench = try Bench(ScriptedPicker(nil))
        #expect(try bench.send(EnvoyMessage.requestHeaders(modes: (mode, 1))) == [])
        // Envoy may be set to send chunks without waiting for the headers' answer.
        #expect(try bench.send(EnvoyMessage.requestBody(Self.body, endOfStream: false)) == [])
        bench.picker.pending[RequestID(1)]?.resolve(.route(Route(destinations: ["10.0.0.1:8000"])))
        #expect(try bench.answers() == [ExchangeTests.routed, .requestBody(.bare)])
        #expect(try bench.send(EnvoyMessage.requestBody([], endOfStream: true)) == [.requestBody(.bare)])
    }

    @Test("A buffered request is routed by its body: its answer carries the route")
    func bufferedRequest() throws {
        let bench = try Bench()
        let stripped = EnvoyAnswer.requestHeaders(EnvoyAnswer.Headers(removed: HeaderNames.steering))
        #expect(try bench.send(EnvoyMessage.requestHeaders(modes: (2, 2))) == [stripped])
        guard case .requestHeaders(let route) = ExchangeTests.routed else { return }
        #expect(
            try bench.send(EnvoyMessage.requestBody(Self.body, endOfStream: true)) == [.requestBody(.routed(route))]
        )
        #expect(bench.picker.requests.first?.model == "m")
    }

    @Test("A buffered request with trailers has a body without an end")
    func bufferedWithTrailers() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders(modes: (2, 2)))
        #expect(try bench.send(EnvoyMessage.requestBody(Self.body, endOfStream: false)).count == 1)
        #expect(try bench.send(EnvoyMessage.requestTrailers) == [.requestTrailers])
    }

    @Test("A buffered request of trailers alone cannot be routed")
    func bufferedTrailersAlone() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders(modes: (2, 2)))
        let answers = try bench.send(EnvoyMessage.requestTrailers)
        guard case .immediate(400, _, _, _)? = answers.first else { return #expect(Bool(false), "\(answers)") }
    }

    @Test("Streamed and buffered responses take one bare answer a message", arguments: [UInt64(1), 2, 3])
    func bareResponse(mode: UInt64) throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders(endOfStream: true, modes: (4, mode)))
        #expect(try bench.send(EnvoyMessage.responseHeaders()) == [ExchangeTests.passed])
        #expect(try bench.send(EnvoyMessage.responseBody([1], endOfStream: false)) == [.responseBody(.bare)])
        #expect(try bench.send(EnvoyMessage.responseBody([], endOfStream: true)) == [.responseBody(.bare)])
        #expect(bench.picker.outcomes.map(\.kind) == [.completed])
        #expect(bench.picker.firstTokens == 1)
    }

    @Test("Response bodies may come without response headers, and still tell usage")
    func noResponseHeaders() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders())
        try bench.send(EnvoyMessage.requestBody(Self.body, endOfStream: true))
        let events = Array("data: {\"usage\":{\"prompt_tokens\":4,\"completion_tokens\":2}}\n\n".utf8)
        try bench.send(EnvoyMessage.responseBody(events, endOfStream: true))
        #expect(bench.picker.outcomes == [Outcome(kind: .completed, promptTokens: 4, outputTokens: 2)])
    }

    @Test("Lean modes: the end of the stream is the end of the response", arguments: [false, true])
    func lean(sendsHeaders: Bool) throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders(modes: (4, 0)))
        try bench.send(EnvoyMessage.requestBody(Self.body, endOfStream: true))
        if sendsHeaders { #expect(try bench.send(EnvoyMessage.responseHeaders()) == [ExchangeTests.passed]) }
        #expect(bench.picker.outcomes.isEmpty)
        bench.handler.remoteEnded()
        #expect(bench.call.status == .ok)
        bench.handler.closed(.reset(errorCode: 2))
        #expect(bench.picker.outcomes == [Outcome(kind: .completed, status: sendsHeaders ? 200 : nil)])
    }

    @Test("Lean modes: once Envoy has shown response headers, a stream that ends before them was left by its client")
    func leftBeforeTheHeaders() throws {
        let bench = try Bench()
        let headers = EnvoyMessage.requestHeaders(endOfStream: true, modes: (4, 0))
        try bench.send(headers)
        try bench.send(EnvoyMessage.responseHeaders())
        bench.handler.closed(.reset(errorCode: 2))

        let later = try bench.another()
        unsafe headers.withUnsafeBytes { unsafe later.received($0) }
        later.remoteEnded()
        later.closed(.reset(errorCode: 2))
        #expect(bench.picker.outcomes == [Outcome(kind: .completed, status: 200), Outcome(kind: .cancelled)])
    }

    @Test("Headers that come with bodies say nothing of listeners without them")
    func headersWithBodies() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders(endOfStream: true))
        try bench.send(EnvoyMessage.responseHeaders(endOfStream: true))
        let lean = try bench.another()
        unsafe EnvoyMessage.requestHeaders(endOfStream: true, modes: (4, 0)).withUnsafeBytes {
            unsafe lean.received($0)
        }
        lean.closed(.reset(errorCode: 2))
        #expect(bench.picker.outcomes.map(\.kind) == [.completed, .completed])
    }

    @Test("Lean modes: a status tells a failure, a stream that ends before the route a client that left")
    func leanFailures() throws {
        let failed = try Bench()
        try failed.send(EnvoyMessage.requestHeaders(endOfStream: true, modes: (4, 0)))
        try failed.send(EnvoyMessage.responseHeaders(500))
        failed.handler.closed(.reset(errorCode: 2))
        #expect(failed.picker.outcomes == [Outcome(kind: .failed, status: 500)])

        let left = try Bench(ScriptedPicker(nil))
        try left.send(EnvoyMessage.requestHeaders(endOfStream: true, modes: (4, 0)))
        left.handler.closed(.reset(errorCode: 8))
        #expect(left.picker.outcomes == [Outcome(kind: .cancelled)])

        let lost = try Bench()
        try lost.send(EnvoyMessage.requestHeaders(endOfStream: true, modes: (4, 0)))
        lost.handler.closed(.connectionLost)
        #expect(lost.picker.outcomes == [Outcome(kind: .cancelled)])
    }

    @Test("Lean modes without trailers end early, as an option says")
    func leanEarly() throws {
        var options = ExchangeOptions()
        options.streamEnd = .isEarly
        let bench = try Bench(ScriptedPicker(), options)
        try bench.send(EnvoyMessage.requestHeaders(endOfStream: true, modes: (4, 0)))
        bench.handler.closed(.reset(errorCode: 2))
        #expect(bench.picker.outcomes == [Outcome(kind: .completed, isEarly: true)])
    }

    @Test("Trailers that the upstream really sent end a response without bodies")
    func leanTrailers() throws {
        let bench = try Bench()
        try bench.send(EnvoyMessage.requestHeaders(endOfStream: true, modes: (4, 0)))
        try bench.send(EnvoyMessage.responseHeaders())
        #expect(try bench.send(EnvoyMessage.responseTrailers) == [.responseTrailers])
        bench.handler.closed(.reset(errorCode: 2))
        #expect(bench.picker.outcomes == [Outcome(kind: .completed, status: 200)])
    }

    @Test("An Envoy that says nothing of modes has those that are assumed")
    func assumedModes() throws {
        var options = ExchangeOptions()
        options.assumedModes = BodyModes(request: .none, response: .none)
        let bench = try Bench(ScriptedPicker(), options)
        #expect(try bench.send(EnvoyMessage.requestHeaders(modes: nil)) == [ExchangeTests.routed])
        let usual = try Bench()
        #expect(try usual.send(EnvoyMessage.requestHeaders(modes: nil)) == [])
    }

    @Test("A mode that is not known is not implemented")
    func unsupported() throws {
        let bench = try Bench()
        #expect(try bench.send(EnvoyMessage.requestHeaders(modes: (5, 4))) == [])
        #expect(bench.call.status?.code == .unimplemented)
    }

    @Test(
        "A message out of order ends the call with INVALID_ARGUMENT",
        arguments: [
            [EnvoyMessage.requestBody([1], endOfStream: false)], [EnvoyMessage.requestTrailers],
            [EnvoyMessage.responseHeaders()], [EnvoyMessage.responseBody([1], endOfStream: true)],
            [EnvoyMessage.responseTrailers], [EnvoyMessage.requestHeaders(), EnvoyMessage.requestHeaders()],
            [EnvoyMessage.requestHeaders(endOfStream: true), EnvoyMessage.requestBody([1], endOfStream: true)],
            [EnvoyMessage.requestHeaders(endOfStream: true), EnvoyMessage.requestTrailers],
            [
                EnvoyMessage.requestHeaders(endOfStream: true), EnvoyMessage.responseHeaders(),
                EnvoyMessage.responseHeaders(),
            ],
            [
                EnvoyMessage.requestHeaders(endOfStream: true), EnvoyMessage.responseBody([1], endOfStream: true),
                EnvoyMessage.responseBody([1], endOfStream: true),
            ],
            [
                EnvoyMessage.requestHeaders(endOfStream: true, modes: (4, 0)),
                EnvoyMessage.responseBody([1], endOfStream: true),
            ],
            [
                EnvoyMessage.requestHeaders(endOfStream: true), EnvoyMessage.responseTrailers,
                EnvoyMessage.responseTrailers,
            ],
        ]
    )
    func outOfOrder(_ messages: [[UInt8]]) throws {
        let bench = try Bench()
        for message in messages {
            #expect(bench.call.status == nil)
            try bench.send(message)
        }
        #expect(bench.call.status?.code == .invalidArgument)
        #expect(bench.observer.notes == ["violated invalidArgument"])
        // The picker is told of its end exactly once, whenever it was asked.
        bench.handler.closed(.finished)
        #expect(bench.picker.outcomes.count == bench.picker.requests.count)
        #expect(try bench.send(EnvoyMessage.requestHeaders()) == [])
    }
}
