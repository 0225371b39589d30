// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import Glibc
import TestSupport
import Testing

@testable import Transport

@Suite("Server in cleartext")
struct ServerTests {
    @Test("Calls over a socket, small and large")
    func echo() throws {
        let server = try TestServer()
        let client = try SocketClient(port: server.port)
        #expect(try client.unary("/echo", [1, 2, 3]).messages == [[1, 2, 3]])
        let large = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let answer = try client.unary("/echo", large)
        #expect(answer.status == "0")
        #expect(answer.messages == [large])
        #expect(server.server.statistics.messagesReceived == 2)
        #expect(server.server.statistics.connectionsOpen == 1)
        #expect(server.log.strayCalls.value == 0)
    }

    @Test("Connections are dealt evenly, and each lives on one loop")
    func twoLoops() throws {
        let server = try TestServer(loops: 2)
        var clients: [SocketClient] = []
        for _ in 0..<8 {
            let client = try SocketClient(port: server.port)
            #expect(try client.unary("/echo", [1]).status == "0")
            clients.append(client)
        }
        #expect(server.server.connectionsPerLoop == [4, 4])
        for client in clients { for _ in 0..<5 { #expect(try client.unary("/echo", [2]).messages == [[2]]) } }
        #expect(server.log.callsPerLoop == [0: 24, 1: 24])
        #expect(server.log.strayCalls.value == 0)
        // What leaves makes room on its loop.
        clients.removeAll()
        #expect(server.eventually { server.server.connectionsPerLoop == [0, 0] })
    }

    @Test("A client that goes away ends its calls")
    func clientGone() throws {
        let server = try TestServer()
        var client: SocketClient? = try SocketClient(port: server.port)
        let first = try #require(client)
        for _ in 0..<3 { first.http2.open("/hold") }
        try first.pump { server.log.opened.value == 3 }
        client = nil
        withExtendedLifetime(first) {}
        // The last reference to the client is this frame's; the socket closes with it.
        _ = consume first
        #expect(server.eventually { server.log.closed.value == 3 })
        #expect(server.log.ends.all == [.connectionLost, .connectionLost, .connectionLost])
        #expect(server.eventually { server.server.statistics.connectionsOpen == 0 })
    }

    @Test("Connections above the limit are closed at once; one that leaves makes room")
    func connectionLimit() throws {
        let server = try TestServer { $0.maxConnections = 2 }
        var clients = try (0..<2).map { _ in try SocketClient(port: server.port) }
        for client in clients { #expect(try client.unary("/echo", [1]).status == "0") }
        let third = try SocketClient(port: server.port)
        #expect(throws: SocketClient.Failure.closed) { try third.unary("/echo", [1]) }
        #expect(server.server.statistics.connectionsRefused == 1)
        clients.removeLast()
        #expect(server.eventually { server.server.statistics.connectionsOpen == 1 })
        #expect(try SocketClient(port: server.port).unary("/echo", [1]).status == "0")
    }

    @Test("What is not HTTP/2 is cut off; others do not notice")
    func garbage() throws {
        let server = try TestServer()
        let good = try SocketClient(port: server.port)
        #expect(try good.unary("/echo", [1]).status == "0")
        let bad = try SocketClient(port: server.port)
        bad.sendRaw(Array("GET / HTTP/1.1\r\n\r\n".utf8))
        #expect(throws: SocketClient.Failure.closed) { try bad.pump { false } }
        #expect(try good.unary("/echo", [1]).status == "0")
        #expect(server.server.statistics.connectionsFailed == 1)
    }

    /// Windows so large that only the sockets hold a peer back.
    private static func withoutWindows(_ options: inout ServerOptions) {
        options.http2.streamQueueHighWater = 64 << 20
        options.http2.streamWindowBytes = 64 << 20
        options.http2.connectionWindowBytes = 64 << 20
    }

    @Test("A client that does not read is not read from; once it reads, all arrives")
    func backPressure() throws {
        let server = try TestServer(Self.withoutWindows)
        let http2 = HTTP2TestClient(window: 64 << 20)
        let client = try SocketClient(port: server.port, http2: http2, receiveBufferBytes: 64 << 10)
        #expect(try client.unary("/echo", [1]).status == "0")
        let id = http2.open("/echo")
        let message = [UInt8](repeating: 7, count: 100_000)
        for _ in 0..<150 { http2.sendMessage(id, message) }
        var before: UInt64 = 0
        var still = 0
        while still < 50 {
            try client.send()
            usleep(5000)
            let now = server.server.statistics.bytesReceived
            still = now == before ? still + 1 : 0
            before = now
        }
        // What the kernel holds for a sender (4 MiB by default), and a little of ours.
        #expect(before < 10_000_000, "took \(before) bytes of a peer that reads none")
        http2.end(id)
        try client.pump(seconds: 30) { http2.streams[id]?.closeCode != nil }
        #expect(http2.messages(id).count == 150)
        #expect(http2.grpcStatus(id) == "0")
    }

    @Test("Time-outs: a silent connection, an idle one, one that never reads")
    func timeOuts() throws {
        let silent = try TestServer { $0.handshakeTimeout = .seconds(1) }
        let mute = try SocketClient(port: silent.port)
        let live = try SocketClient(port: silent.port)
        #expect(try live.unary("/echo", [1]).status == "0")
        #expect(silent.eventually { silent.server.statistics.connectionsFailed == 1 })
        #expect(try live.unary("/echo", [1]).status == "0")
        withExtendedLifetime(mute) {}

        let idle = try TestServer { $0.idleTimeout = .seconds(1) }
        let sleeper = try SocketClient(port: idle.port)
        let holder = try SocketClient(port: idle.port)
        #expect(try sleeper.unary("/echo", [1]).status == "0")
        holder.http2.open("/hold")
        try holder.pump { idle.log.opened.value == 2 }
        #expect(throws: SocketClient.Failure.closed) { try sleeper.pump { false } }
        #expect(sleeper.http2.goAways.count == 1)
        #expect(idle.eventually { idle.server.statistics.connectionsOpen == 1 })

        let stalled = try TestServer { options in
            Self.withoutWindows(&options)
            options.writeStallTimeout = .milliseconds(200)
        }
        let http2 = HTTP2TestClient(window: 64 << 20)
        let deaf = try SocketClient(port: stalled.port, http2: http2, receiveBufferBytes: 4096)
        #expect(try deaf.unary("/echo", [1]).status == "0")
        let id = http2.open("/echo")
        for _ in 0..<100 { http2.sendMessage(id, [UInt8](repeating: 7, count: 100_000)) }
        #expect(
            stalled.eventually {
                try? deaf.send()
                return stalled.log.ends.all.last == .connectionLost
            }
        )
    }

    @Test("A bound port is refused, with the reason")
    func portTaken() throws {
        let server = try TestServer()
        #expect(throws: SystemError("bind", code: EADDRINUSE)) { try TestServer { $0.port = server.port } }
        #expect(throws: SystemError.self) { try TestServer { $0.address = "not-an-address" } }
    }

    @Test("Listens on both families where no address is given")
    func anyAddress() throws {
        let server = try TestServer { $0.address = nil }
        #expect(try SocketClient(port: server.port).unary("/echo", [1]).status == "0")
    }
}
