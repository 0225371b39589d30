// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import TestSupport
import Testing

/// The same bytes, however they are cut, have the same effect.
@Suite("Byte splitting")
struct ByteSplittingTests {
    /// What one run brought about.
    struct Outcome: Equatable {
        var events: [[RecordingService.Event]]
        var statuses: [String?]
        var answers: [[[UInt8]]]
    }

    /// A client's side of a conversation: small and split messages, gzip, an unknown method, no gRPC at all, a reset.
    static func script() -> (bytes: [UInt8], ids: [Int32], client: HTTP2TestClient) {
        let client = HTTP2TestClient()
        let echo = client.open("/echo/Echo")
        client.sendMessage(echo, [1, 2, 3])
        let gzip = client.open("/echo/Gzip", extra: [("grpc-encoding", "gzip")])
        client.sendMessage(gzip, gzipped(Array("compressed, compressed, compressed".utf8)), compressed: true)
        var bytes = client.takeOutput()
        let large = HTTP2TestClient.framed(Array(repeating: 8, count: 300))
        client.send(echo, Array(large[..<3]))
        bytes += client.takeOutput()
        client.send(echo, Array(large[3..<150]))
        client.sendMessage(gzip, [4])
        bytes += client.takeOutput()
        client.send(echo, Array(large[150...]) + HTTP2TestClient.framed([]))
        client.end(echo)
        client.end(gzip)
        let unknown = client.open("/nowhere/Method")
        client.end(unknown)
        let plain = client.open("/echo/Echo", contentType: "text/plain")
        client.end(plain)
        let reset = client.open("/hold/Process")
        client.sendMessage(reset, [6])
        bytes += client.takeOutput()
        client.reset(reset, 2)
        return (bytes + client.takeOutput(), [echo, gzip, unknown, plain, reset], client)
    }

    static func run(cuts: (Int) -> [Int]) throws -> Outcome {
        let (bytes, ids, client) = script()
        let service = RecordingService()
        let session = try HTTP2Session(service: service)
        var start = 0
        for end in cuts(bytes.count) + [bytes.count] {
            let piece = Array(bytes[start..<end])
            try unsafe piece.withUnsafeBytes { try unsafe session.receive($0) }
            start = end
            while try session.fillOutput(upTo: 1 << 20) {}
            client.receive(unsafe Array(session.outputBytes))
            session.outputSent(unsafe session.outputBytes.count)
        }
        let outcome = Outcome(
            events: service.events,
            statuses: ids.map { client.grpcStatus($0) ?? client.streams[$0]?.fields[":status"] },
            answers: ids.map(client.messages)
        )
        session.connectionClosed()
        return outcome
    }

    static let expected = try? run { _ in [] }

    @Test("In one go, the conversation has the effect that it should have")
    func oneGo() throws {
        let outcome = try #require(Self.expected)
        #expect(outcome.statuses == ["0", "0", "12", "415", nil])
        #expect(outcome.answers[0] == [[1, 2, 3], Array(repeating: 8, count: 300), []])
        #expect(outcome.answers[1] == [Array("compressed, compressed, compressed".utf8), [4]])
        #expect(outcome.events[2].last == .closed(.reset(errorCode: 2)))
    }

    @Test("In pieces of one byte")
    func singleBytes() throws {
        #expect(try Self.run { Array(1..<$0) } == Self.expected)
    }

    @Test("In all splits in two")
    func twoPieces() throws {
        let count = Self.script().bytes.count
        for cut in 1..<count {
            let outcome = try Self.run { _ in [cut] }
            guard outcome != Self.expected else { continue }
            Issue.record("differs when cut at \(cut) of \(count)")
            return
        }
    }

    @Test("In random pieces", arguments: UInt64(1)...20)
    func randomPieces(seed: UInt64) throws {
        var rng = SplitMix64(seed: seed)
        let outcome = try Self.run { count in
            (0..<Int.random(in: 1...40, using: &rng)).map { _ in Int.random(in: 0...count, using: &rng) }.sorted()
        }
        #expect(outcome == Self.expected)
    }
}
