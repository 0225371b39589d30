// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import TestSupport
import Testing

@Suite("Flow control")
struct FlowControlTests {
    @Test("A client that gives no window gets no more than it gave; the rest waits and follows")
    func clientWindow() throws {
        let pair = try SessionPair(client: HTTP2TestClient(window: 1000, updatesWindows: false))
        let id = pair.client.open("/hold/Process")
        try pair.exchange()
        let message = (0..<5000).map { UInt8(truncatingIfNeeded: $0) }
        unsafe pair.service.calls[0].call.send(size: 5000) { unsafe $0.copyBytes(from: message) }
        pair.service.calls[0].call.finish(.ok)
        try pair.exchange()
        #expect(pair.client.streams[id]?.data.count == 1000)
        for _ in 0..<5 {
            pair.client.consume(id, 1000)
            try pair.exchange()
        }
        #expect(pair.client.messages(id) == [message])
        #expect(pair.client.grpcStatus(id) == "0")
    }

    @Test("A client that does not read what it caused gets no window to cause more")
    func withheldWindow() throws {
        var limits = HTTP2Limits()
        limits.streamWindowBytes = 100_000
        limits.streamQueueHighWater = 50_000
        let pair = try SessionPair(limits: limits, client: HTTP2TestClient(window: 0, updatesWindows: false))
        let stuck = pair.client.open("/echo/Stuck")
        for _ in 0..<100 { pair.client.sendMessage(stuck, Array(repeating: 1, count: 10_000)) }
        try pair.exchange()
        // Up to the high-water mark of echoes is followed by one last window of the client.
        let received = pair.service.calls[0].messages.count * 10_005
        #expect(received >= 100_000 - 10_005)
        #expect(received <= limits.streamQueueHighWater + Int(limits.streamWindowBytes) + 10_005)
        // Other streams of the connection have all the room that they need.
        let other = pair.client.open("/hold/Other")
        for _ in 0..<100 { pair.client.sendMessage(other, Array(repeating: 2, count: 10_000)) }
        try pair.exchange()
        #expect(pair.service.calls[1].messages.count == 100)
    }

    @Test("Consumed bytes give the client its window back: far more than one window goes through")
    func windowsAreRenewed() throws {
        let pair = try SessionPair()
        let id = pair.client.open("/hold/Process")
        // 40 MiB: above both windows.
        for _ in 0..<40 {
            pair.client.sendMessage(id, Array(repeating: 3, count: 1 << 20))
            try pair.exchange()
        }
        #expect(pair.service.calls[0].messages.count == 40)
    }

    @Test("A stream whose queue outgrows its limit is reset, no other")
    func overflow() throws {
        var limits = HTTP2Limits()
        limits.maxStreamQueueBytes = 10_000
        let pair = try SessionPair(limits: limits, client: HTTP2TestClient(window: 0, updatesWindows: false))
        let id = pair.client.open("/hold/One")
        let other = pair.client.open("/hold/Two")
        try pair.exchange()
        let call = pair.service.calls[0].call
        for _ in 0..<20 { unsafe call.send(size: 1000) { unsafe $0.copyBytes(from: Array(repeating: 1, count: 1000)) } }
        try pair.exchange()
        // RFC 9113 section 7: 11 = ENHANCE_YOUR_CALM.
        #expect(pair.client.streams[id]?.closeCode == 11)
        #expect(pair.service.events[0] == [.closed(.violated(GRPCStatus(.resourceExhausted, "peer does not read")))])
        #expect(pair.client.streams[other]?.closeCode == nil)
        #expect(pair.service.events[1].isEmpty)
    }

    @Test("What waits to be sent counts against the room of all, in steps, until it is sent or its stream ends")
    func queuesAreCharged() throws {
        var limits = HTTP2Limits()
        limits.chargeStepBytes = 100
        let budget = BodyBudget(limit: 5000)
        let client = HTTP2TestClient(window: 2500, updatesWindows: false)
        let pair = try SessionPair(limits: limits, client: client, budget: budget)
        let ids = (0..<2).map { pair.client.open("/hold/\($0)") }
        try pair.exchange()
        let calls = pair.service.calls.map(\.call)
        func send(_ call: Int, _ count: Int) {
            unsafe calls[call].send(size: count) { unsafe $0.copyBytes(from: Array(repeating: 1, count: count)) }
        }
        send(0, 90)
        #expect(budget.used == 0)
        send(0, 3000)
        send(1, 3000)
        // Beyond the limit: what is held is counted all the same. Each message has a prefix of five bytes.
        #expect(budget.used == 6100)
        pair.client.reset(ids[0], 2)
        try pair.exchange()
        #expect(budget.used == 500)
        pair.client.consume(ids[1], 2500)
        try pair.exchange()
        #expect(budget.used == 0)
        send(1, 3000)
        #expect(budget.used == 3000)
        pair.session.connectionClosed()
        #expect(budget.used == 0)
    }

    @Test("A message counts while it comes")
    func messagesAreCharged() throws {
        let budget = BodyBudget(limit: 8 << 20)
        let pair = try SessionPair(budget: budget)
        let id = pair.client.open("/hold/One")
        let other = pair.client.open("/hold/Two")
        for (stream, whole) in [(id, true), (other, false)] {
            let message = [UInt8](repeating: 7, count: 3 << 20)
            let prefix: [UInt8] = [0, 0, 0x30, 0, 0]
            pair.client.send(stream, prefix + message[..<(2 << 20 + 100)])
            try pair.exchange()
            #expect(budget.used == 2 << 20)
            if whole {
                pair.client.send(stream, Array(message[(2 << 20 + 100)...]))
            } else {
                pair.client.reset(stream, 8)
            }
            try pair.exchange()
            #expect(budget.used == 0)
        }
        #expect(pair.service.calls.map(\.messages.count) == [1, 0])
    }

    @Test("The queues of a connection have a common limit")
    func connectionOverflow() throws {
        var limits = HTTP2Limits()
        limits.maxConnectionQueueBytes = 10_000
        let pair = try SessionPair(limits: limits, client: HTTP2TestClient(window: 0, updatesWindows: false))
        let ids = (0..<3).map { pair.client.open("/hold/\($0)") }
        try pair.exchange()
        for call in pair.service.calls.map(\.call) {
            unsafe call.send(size: 4000) { unsafe $0.copyBytes(from: Array(repeating: 1, count: 4000)) }
        }
        try pair.exchange()
        #expect(ids.map { pair.client.streams[$0]?.closeCode } == [nil, nil, 11])
        // A stream that ends gives its share back.
        pair.client.reset(ids[0], 2)
        try pair.exchange()
        let next = pair.client.open("/hold/Next")
        try pair.exchange()
        unsafe pair.service.calls[3].call.send(size: 4000) {
            unsafe $0.copyBytes(from: Array(repeating: 1, count: 4000))
        }
        try pair.exchange()
        #expect(pair.client.streams[next]?.closeCode == nil)
    }
}
