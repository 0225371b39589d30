// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import Glibc
import TestSupport
import Testing

@testable import Transport

@Suite("Drain")
struct DrainTests {
    @Test("Open calls finish, newcomers are served during the grace, then it ends")
    func graceful() throws {
        let server = try TestServer(loops: 2)
        let client = try SocketClient(port: server.port)
        let id = client.http2.open("/echo")
        client.http2.sendMessage(id, [1])
        try client.pump { client.http2.messages(id).count == 1 }
        let isDone = Flag()
        let grace = Duration.seconds(4)
        let start = MonotonicTime.current
        server.server.drain(grace: grace, timeout: .seconds(20)) { isDone.set() }
        // Comes at once, as a client does that was sent away: it is not sent away itself.
        try client.pump { client.http2.goAways.count == 1 }
        let newcomer = try SocketClient(port: server.port)
        #expect(try newcomer.unary("/echo", [2]).messages == [[2]])
        // Two GOAWAYs: a notice, then the last stream that is taken.
        try client.pump { client.http2.goAways.count == 2 }
        #expect(client.http2.goAways == [Int32.max, id])
        #expect(try newcomer.unary("/echo", [3]).messages == [[3]])
        #expect(newcomer.http2.goAways.isEmpty)
        try #require(MonotonicTime.current - start < grace, "too slow a machine to tell")
        #expect(throws: SocketClient.Failure.closed) { try newcomer.pump(seconds: 20) { false } }
        #expect(newcomer.http2.goAways.first == Int32.max)
        // After the grace nobody is let in; the open call keeps the server.
        #expect(throws: (any Error).self) { try SocketClient(port: server.port).unary("/echo", [3]) }
        #expect(!isDone.isSet)
        client.http2.sendMessage(id, [4])
        client.http2.end(id)
        try client.pump { client.http2.streams[id]?.closeCode != nil }
        #expect(client.http2.messages(id) == [[1], [4]])
        #expect(client.http2.grpcStatus(id) == "0")
        #expect(server.eventually { isDone.isSet })
        #expect(server.server.statistics.connectionsOpen == 0)
    }

    @Test("Without open calls it ends after the grace")
    func idle() throws {
        let server = try TestServer()
        let client = try SocketClient(port: server.port)
        #expect(try client.unary("/echo", [1]).status == "0")
        let isDone = Flag()
        let start = MonotonicTime.current
        server.server.drain(grace: .milliseconds(300), timeout: .seconds(20)) { isDone.set() }
        #expect(throws: SocketClient.Failure.closed) { try client.pump { false } }
        #expect(server.eventually { isDone.isSet })
        #expect(MonotonicTime.current - start >= .milliseconds(300))
    }

    @Test("What is open at the time-out is cut")
    func forced() throws {
        let server = try TestServer(loops: 2)
        let clients = try (0..<4).map { _ in try SocketClient(port: server.port) }
        for client in clients {
            client.http2.open("/hold")
            try client.send()
        }
        #expect(server.eventually { server.log.opened.value == 4 })
        let isDone = Flag()
        let start = MonotonicTime.current
        server.server.drain(grace: .milliseconds(10), timeout: .milliseconds(500)) { isDone.set() }
        #expect(server.eventually { isDone.isSet })
        #expect(MonotonicTime.current - start >= .milliseconds(500))
        #expect(server.log.ends.all == Array(repeating: .connectionLost, count: 4))
    }

    @Test("A stopped loop cuts its connections")
    func stop() throws {
        let server = try TestServer()
        let client = try SocketClient(port: server.port)
        client.http2.open("/hold")
        try client.pump { server.log.opened.value == 1 }
        for loop in server.loops { loop.stop() }
        #expect(server.log.ends.all == [.connectionLost])
        #expect(server.server.statistics.connectionsOpen == 0)
        let isDone = Flag()
        server.server.drain(grace: .zero, timeout: .zero) { isDone.set() }
        #expect(isDone.isSet)
    }
}
