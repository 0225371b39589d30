// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router
import TestSupport
import Testing

@testable import Gateway

@Suite("Bodies on their way are bounded in number, size and time")
struct UploadTests {
    private static let half = [UInt8](repeating: 0x20, count: 100_000)

    private func begin(_ bench: Bench) throws {
        try bench.send(EnvoyMessage.requestHeaders(endOfStream: false))
    }

    private func status(_ answers: [EnvoyAnswer]) -> Int? {
        guard case .immediate(let status, _, _, _)? = answers.last else { return nil }
        return Int(status)
    }

    @Test("A body beyond the room that all share is refused; room comes back with each end")
    func budget() throws {
        let budget = BodyBudget(limit: 150_000)
        let first = try Bench(budget: budget)
        let second = try Bench(budget: budget)
        try begin(first)
        try begin(second)
        #expect(try first.send(EnvoyMessage.requestBody(Self.half, endOfStream: false)).isEmpty)
        #expect(budget.used >= Self.half.count)
        let refused = try second.send(EnvoyMessage.requestBody(Self.half, endOfStream: false))
        #expect(status(refused) == 503)
        #expect(budget.refused == 1)
        first.handler.closed(.reset(errorCode: 8))
        #expect(budget.used == 0)
        let third = try Bench(budget: budget)
        try begin(third)
        #expect(try third.send(EnvoyMessage.requestBody(Self.half, endOfStream: false)).isEmpty)
        third.handler.closed(.connectionLost)
        #expect(budget.used == 0)
    }

    @Test("A decided body gives its room back")
    func decided() throws {
        let budget = BodyBudget(limit: 1 << 20)
        let bench = try Bench(budget: budget)
        try begin(bench)
        try bench.send(EnvoyMessage.requestBody(Array(#"{"model":"m","prompt":"x"}"#.utf8), endOfStream: true))
        #expect(bench.picker.requests.count == 1)
        #expect(budget.used == 0)
    }

    @Test("A claim of length takes no room before bytes come")
    func claim() throws {
        let budget = BodyBudget(limit: 1 << 20)
        let bench = try Bench(budget: budget)
        try bench.send(
            EnvoyMessage.requestHeaders([
                (":method", "POST"), (":path", "/v1/completions"), ("content-length", "20000000"),
            ])
        )
        #expect(try bench.send(EnvoyMessage.requestBody([0x7b], endOfStream: false)).isEmpty)
        #expect(budget.used < 10_000)
    }

    @Test("The deadline of an upload ends it with 408, once; an asked request has none any more")
    func deadline() throws {
        let bench = try Bench()
        try begin(bench)
        #expect(bench.picker.uploads.map(\.isRunning) == [true])
        let exchange = try #require(bench.handler as? any PendingExchange)
        exchange.stalled()
        #expect(status(try bench.answers()) == 408)
        #expect(bench.picker.uploads.map(\.isRunning) == [false])
        exchange.stalled()
        #expect(try bench.answers().isEmpty)

        let asked = try Bench(ScriptedPicker(nil))
        try begin(asked)
        try asked.send(EnvoyMessage.requestBody(Array(#"{"model":"m","prompt":"x"}"#.utf8), endOfStream: true))
        #expect(asked.picker.uploads.map(\.isRunning) == [false])
        try #require(asked.handler as? any PendingExchange).stalled()
        #expect(try asked.answers().isEmpty)
    }

    @Test("A message too large to be taken is a body too large, while one is awaited")
    func message() throws {
        let bench = try Bench()
        #expect(!bench.handler.receivedTooLarge())
        try begin(bench)
        #expect(bench.handler.receivedTooLarge())
        #expect(status(try bench.answers()) == 413)
        #expect(!bench.handler.receivedTooLarge())
    }

    @Test("A part of a message without room is a body without room, while one is awaited")
    func part() throws {
        let bench = try Bench()
        #expect(!bench.handler.receivedWithoutRoom())
        try begin(bench)
        #expect(bench.handler.receivedWithoutRoom())
        #expect(status(try bench.answers()) == 503)
        #expect(!bench.handler.receivedWithoutRoom())
    }

    @Test("A body that comes as one message is refused while it comes, where there is no room for it")
    func bufferedBody() throws {
        let budget = BodyBudget(limit: 1 << 20)
        let picker = ScriptedPicker()
        let service = ExtProcService(picker: picker, budget: budget) { RequestID(1) }
        let session = try HTTP2Session(service: service, budget: budget)
        let client = HTTP2TestClient()
        func exchange() throws {
            while true {
                let bytes = client.takeOutput()
                if !bytes.isEmpty { try unsafe bytes.withUnsafeBytes { try unsafe session.receive($0) } }
                _ = try session.fillOutput(upTo: 1 << 20)
                let answer = unsafe Array(session.outputBytes)
                if bytes.isEmpty, answer.isEmpty { return }
                session.outputSent(answer.count)
                client.receive(answer)
            }
        }
        let id = client.open(ExtProcService.path)
        client.sendMessage(id, EnvoyMessage.requestHeaders(modes: (2, 2)))
        try exchange()
        let body = EnvoyMessage.requestBody([UInt8](repeating: 0x20, count: 3 << 20), endOfStream: true)
        client.send(id, Array(HTTP2TestClient.framed(body).prefix(2_500_000)))
        try exchange()
        #expect(status(try client.messages(id).map { try EnvoyAnswer($0) }) == 503)
        #expect(picker.requests.isEmpty)
        #expect(budget.used == 0)
    }
}
