// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import TestSupport
import Testing

@Suite("Hostile peers")
struct HostilePeerTests {
    @Test("What is not HTTP/2 is said to be so")
    func notHTTP2() throws {
        let session = try HTTP2Session(service: RecordingService())
        let request = Array("GET / HTTP/1.1\r\nHost: a\r\n\r\n".utf8)
        #expect(throws: HTTP2Error.notHTTP2) { try unsafe request.withUnsafeBytes { try unsafe session.receive($0) } }
    }

    /// One stream breaks HTTP; its neighbours and the connection live on.
    @Test(
        "A malformed request ends its own stream only",
        arguments: [
            [("transfer-encoding", "chunked")], [("connection", "close")], [("te", "gzip")], [("content-length", "3")],
            [(":path", "/twice")], [(":unknown", "x")], [("a b", "x")], [("x", "a\nb")], [("", "x")],
            [("keep-alive", "1")], [("content-length", "x")], [("content-length", "")], [("upgrade", "h2c")],
            [("content-length", "99999999999999999999")], [("proxy-connection", "x")],
        ]
    )
    func malformedRequest(extra: [(String, String)]) throws {
        let pair = try SessionPair()
        let before = pair.client.open("/echo/Before")
        try pair.exchange()
        let bad = pair.client.open("/hold/Bad", extra: extra)
        pair.client.sendMessage(bad, [1])
        pair.client.end(bad)
        try pair.exchange()
        // RFC 9113 section 8.1.1: a malformed request is a stream error PROTOCOL_ERROR (1).
        #expect(pair.client.streams[bad]?.closeCode == 1)
        pair.client.sendMessage(before, [1])
        pair.client.end(before)
        try pair.exchange()
        #expect(pair.client.grpcStatus(before) == "0")
        #expect(pair.client.goAways.isEmpty)
        #expect(
            pair.service.calls.allSatisfy { call in
                call.events.count { if case .closed = $0 { true } else { false } } <= 1
            }
        )
        #expect(pair.session.openCalls == 0)
    }

    /// Envoy names a cluster there unless it is told another name; the clusters of Istio are called like this one.
    @Test(
        "Any authority is taken",
        arguments: [
            "outbound|9002||epp-pd.inference.svc.cluster.local", "httproute/a/b/rule/0", "epp", "[::1]:9002", "",
        ]
    )
    func authority(_ name: String) throws {
        let pair = try SessionPair()
        let id = pair.client.open("/echo/Process", authority: name)
        pair.client.sendMessage(id, [1, 2])
        pair.client.end(id)
        try pair.exchange()
        #expect(pair.client.grpcStatus(id) == "0")
        #expect(pair.service.calls.map(\.path) == ["/echo/Process"])
    }

    @Test("Less content than was announced is malformed too")
    func contentTooShort() throws {
        let pair = try SessionPair()
        let id = pair.client.open("/hold/Process", extra: [("content-length", "20")])
        pair.client.sendMessage(id, [1])
        try pair.exchange()
        #expect(pair.client.streams[id]?.closeCode == nil)
        pair.client.end(id)
        try pair.exchange()
        #expect(pair.client.streams[id]?.closeCode == 1)
        #expect(
            pair.service.events == [[.message(count: 1, hash: [UInt8(1)].hashValue), .closed(.reset(errorCode: 1))]]
        )
    }

    @Test("A frame that breaks the connection's rules ends it with GOAWAY, and its calls with it")
    func brokenConnection() throws {
        let pair = try SessionPair()
        let id = pair.client.open("/hold/Process")
        try pair.exchange()
        // DATA on stream 0 (RFC 9113 section 6.1): a connection error.
        try pair.feed([0, 0, 1, 0, 0, 0, 0, 0, 0, 42])
        pair.client.receive(try pair.takeServerOutput())
        #expect(pair.client.goAways == [id])
        #expect(pair.session.isFinished)
        pair.session.connectionClosed()
        let ends = pair.service.events[0].filter { if case .closed = $0 { true } else { false } }
        #expect(ends.count == 1)
    }

    @Test("A flood of pings that are not read ends the connection")
    func pingFlood() throws {
        let pair = try SessionPair()
        // Its answers are never fetched: they wait in nghttp2, which bounds them.
        #expect(throws: HTTP2Error.flooded) {
            for _ in 0..<20_000 {
                pair.client.ping()
                try pair.feed(pair.client.takeOutput())
            }
        }
    }

    /// Valid conversations with flipped, dropped and doubled bytes: any end is right, but each call ends exactly once.
    @Test("Mutated bytes never break the machine", arguments: UInt64(1)...300)
    func mutations(seed: UInt64) throws {
        var rng = SplitMix64(seed: seed)
        var bytes = ByteSplittingTests.script().bytes
        // Behind the preface, which would only end every run at once.
        for _ in 0..<Int.random(in: 1...8, using: &rng) {
            let place = Int.random(in: 24..<bytes.count, using: &rng)
            switch Int.random(in: 0..<4, using: &rng) {
            case 0: bytes[place] = UInt8.random(in: 0...255, using: &rng)
            case 1: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &rng)
            case 2: bytes.remove(at: place)
            default: bytes.insert(bytes[place], at: place)
            }
        }
        let service = RecordingService()
        let session = try HTTP2Session(service: service)
        var rest = bytes[...]
        do {
            while !rest.isEmpty {
                let piece = Array(rest.prefix(Int.random(in: 1...200, using: &rng)))
                rest = rest.dropFirst(piece.count)
                try unsafe piece.withUnsafeBytes { try unsafe session.receive($0) }
                while try session.fillOutput(upTo: 1 << 16) { session.outputSent(unsafe session.outputBytes.count) }
            }
        } catch {}
        session.connectionClosed()
        for events in service.events {
            let ends = events.indices.filter { if case .closed = events[$0] { true } else { false } }
            #expect(ends == [events.count - 1], "seed \(seed): \(events)")
        }
        #expect(session.openCalls == 0)
    }
}
