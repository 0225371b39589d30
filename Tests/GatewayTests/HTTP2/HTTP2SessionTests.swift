// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import TestSupport
import Testing

@Suite("HTTP/2 session")
struct HTTP2SessionTests {
    @Test("Messages go both ways, then trailers")
    func echo() throws {
        let pair = try SessionPair()
        let id = try pair.unary("/echo/One", [[1, 2, 3], [], Array(repeating: 7, count: 100_000)])
        #expect(pair.client.messages(id) == [[1, 2, 3], [], Array(repeating: 7, count: 100_000)])
        #expect(pair.client.streams[id]?.fields[":status"] == "200")
        #expect(pair.client.streams[id]?.fields["content-type"] == "application/grpc")
        #expect(pair.client.grpcStatus(id) == "0")
        #expect(pair.service.events[0].suffix(2) == [.remoteEnded, .closed(.finished)])
        #expect(pair.session.openCalls == 0)
    }

    @Test("Announces its settings and windows")
    func settings() throws {
        let pair = try SessionPair()
        // RFC 9113 section 6.5.2: 3 = MAX_CONCURRENT_STREAMS, 4 = INITIAL_WINDOW_SIZE, 6 = MAX_HEADER_LIST_SIZE.
        #expect(pair.client.settings == [3: 1024, 4: 1 << 20, 6: 64 << 10])
    }

    /// Envoy's normal end of every exchange. With nghttp2's default the connection dies after 1,000.
    @Test("5,000 streams of one connection, each ended by a reset, leave it whole")
    func resets() throws {
        let pair = try SessionPair()
        for round in 0..<5000 {
            let id = pair.client.open("/hold/Process")
            pair.client.sendMessage(id, [UInt8(truncatingIfNeeded: round)])
            try pair.exchange()
            pair.client.reset(id, 2)
            try pair.exchange()
        }
        #expect(pair.client.goAways.isEmpty)
        #expect(pair.service.calls.count == 5000)
        #expect(pair.service.calls.allSatisfy { $0.events.count == 2 && $0.events[1] == .closed(.reset(errorCode: 2)) })
        #expect(pair.client.grpcStatus(try pair.unary("/echo/After", [[1]])) == "0")
    }

    @Test("END_STREAM and reset in one flight are both heard, in order")
    func endThenReset() throws {
        let pair = try SessionPair()
        let id = pair.client.open("/hold/Process")
        try pair.exchange()
        pair.client.end(id)
        let end = pair.client.takeOutput()
        pair.client.reset(id, 2)
        try pair.feed(end + pair.client.takeOutput())
        #expect(pair.service.events == [[.remoteEnded, .closed(.reset(errorCode: 2))]])
    }

    @Test("A server that finishes first tells the client to send no more")
    func serverFinishesFirst() throws {
        let pair = try SessionPair()
        let id = pair.client.open("/hold/Process")
        try pair.exchange()
        let call = pair.service.calls[0].call
        unsafe call.send(size: 3) { unsafe $0.copyBytes(from: [9, 9, 9]) }
        call.finish(GRPCStatus(.unavailable, "5% left\n"))
        unsafe call.send(size: 1) { unsafe $0.copyBytes(from: [1]) }
        call.finish(.ok)
        try pair.exchange()
        #expect(pair.client.messages(id) == [[9, 9, 9]])
        #expect(pair.client.grpcStatus(id) == "14")
        #expect(pair.client.streams[id]?.trailers["grpc-message"] == "5%25 left%0A")
        #expect(pair.client.streams[id]?.closeCode == 0)
        #expect(pair.service.events == [[.closed(.finished)]])
    }

    @Test(
        "A handler that has finished hears nothing more but the end, and a reset that crosses the trailers is no reset"
    )
    func afterFinishing() throws {
        let pair = try SessionPair()
        let id = pair.client.open("/hold/Process")
        try pair.exchange()
        pair.service.calls[0].call.finish(.ok)
        pair.client.sendMessage(id, [1])
        pair.client.end(id)
        try pair.feed(pair.client.takeOutput())
        #expect(pair.service.events == [[]])
        let second = pair.client.open("/hold/Process")
        pair.client.sendMessage(second, [1])
        try pair.exchange()
        pair.service.calls[1].call.finish(.ok)
        pair.client.reset(second, 2)
        let reset = pair.client.takeOutput()
        _ = try pair.takeServerOutput()
        try pair.feed(reset)
        #expect(pair.service.events[0] == [.closed(.finished)])
        #expect(pair.service.events[1].dropFirst() == [.closed(.finished)])
    }

    @Test("What comes after the end is dropped without harm")
    func afterTheEnd() throws {
        let pair = try SessionPair()
        let id = pair.client.open("/hold/Process")
        try pair.exchange()
        pair.client.reset(id, 8)
        try pair.exchange()
        let call = pair.service.calls[0].call
        unsafe call.send(size: 1) { unsafe $0.copyBytes(from: [1]) }
        call.finish(.ok)
        #expect(try pair.takeServerOutput().isEmpty)
        #expect(pair.service.events == [[.closed(.reset(errorCode: 8))]])
    }

    @Test("A lost connection ends each open call once, in the order of opening")
    func connectionLost() throws {
        let pair = try SessionPair()
        let ids = (0..<5).map { _ in pair.client.open("/hold/Process") }
        try pair.exchange()
        pair.client.reset(ids[1], 2)
        try pair.exchange()
        pair.session.connectionClosed()
        pair.session.connectionClosed()
        #expect(pair.service.calls[1].events == [.closed(.reset(errorCode: 2))])
        for index in [0, 2, 3, 4] { #expect(pair.service.calls[index].events == [.closed(.connectionLost)]) }
        pair.service.calls[0].call.finish(.ok)
        #expect(pair.session.openCalls == 0)
    }

    @Test("Streams above the limit are refused, the others live")
    func streamLimit() throws {
        var limits = HTTP2Limits()
        limits.maxConcurrentStreams = 3
        let pair = try SessionPair(limits: limits)
        // Opened before the client knows the limit would be refused by the server; afterwards the client itself waits.
        let ids = (0..<5).map { _ in pair.client.open("/hold/Process") }
        try pair.exchange()
        #expect(pair.service.calls.count == 3)
        pair.client.reset(ids[0], 2)
        try pair.exchange()
        #expect(pair.service.calls.count == 4)
        #expect(pair.session.openCalls == 3)
    }

    @Test("A drain: notice, late streams still taken, then refused; open ones finish")
    func drain() throws {
        let pair = try SessionPair()
        let first = pair.client.open("/echo/First")
        try pair.exchange()
        // The second stream is on its way when the notice leaves.
        let late = pair.client.open("/echo/Late")
        let onTheWay = pair.client.takeOutput()
        pair.session.announceShutdown()
        pair.client.receive(try pair.takeServerOutput())
        try pair.feed(onTheWay)
        #expect(pair.client.goAways == [Int32.max])
        #expect(pair.service.calls.count == 2)
        pair.session.refuseNewStreams()
        try pair.exchange()
        #expect(pair.client.goAways == [Int32.max, late])
        #expect(!pair.session.isFinished)
        for id in [first, late] {
            pair.client.sendMessage(id, [5])
            pair.client.end(id)
        }
        try pair.exchange()
        #expect(pair.client.grpcStatus(first) == "0")
        #expect(pair.client.grpcStatus(late) == "0")
        #expect(pair.session.isFinished)
    }

    @Test("Output is announced once until it is fetched")
    func announcements() throws {
        let pair = try SessionPair()
        let id = pair.client.open("/hold/Process")
        try pair.exchange()
        let before = pair.outputAnnouncements
        let call = pair.service.calls[0].call
        for byte in 0..<10 { unsafe call.send(size: 1) { unsafe $0.copyBytes(from: [UInt8(byte)]) } }
        #expect(pair.outputAnnouncements == before + 1)
        try pair.exchange()
        #expect(pair.client.messages(id).count == 10)
        unsafe call.send(size: 1) { unsafe $0.copyBytes(from: [1]) }
        #expect(pair.outputAnnouncements == before + 2)
    }
}
