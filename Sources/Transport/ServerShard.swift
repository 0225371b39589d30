// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CLinux
internal import Gateway
internal import Synchronization

/// One server's part on one loop: its service and its connections.
///
/// `@unchecked Sendable`: the acceptor's loop hands it over by `post`, and reads `assigned` and the counters, which are
/// atomic; all else is touched only on `loop`.
final class ServerShard: @unchecked Sendable {
    let loop: EventLoop
    let options: ServerOptions
    /// nil: cleartext.
    let certificates: TLSCertificates?
    let http2Counters = HTTP2Counters()
    let counters = ConnectionCounters()
    let spareOutput = SpareOutput()
    /// Connections dealt to this loop and not closed yet.
    let assigned = Atomic<Int>(0)
    private(set) var service: any GRPCService = NoService()

    private var connections: [Connection] = []
    private var isEnded = false
    private static let sweepInterval = Duration.seconds(1)

    init(loop: EventLoop, options: ServerOptions, certificates: TLSCertificates?) {
        self.loop = loop
        self.options = options
        self.certificates = certificates
    }

    func start(_ makeService: (EventLoop) -> any GRPCService) {
        service = makeService(loop)
        // Held by its loop until that stops: what it serves is then gone. No weak reference to it either: with one, each of
        // its other references would go by a side table.
        loop.atStop { [self] in closeAll() }
        scheduleSweep()
    }

    /// Takes over an accepted descriptor.
    func adopt(_ descriptor: Int32) {
        guard !isEnded, let connection = try? Connection(descriptor: descriptor, shard: self) else {
            close(descriptor)
            assigned.subtract(1, ordering: .relaxed)
            return
        }
        connection.slot = connections.count
        connections.append(connection)
        do throws(SystemError) { try connection.open() } catch { connection.close(.failed) }
    }

    func connectionClosed(_ connection: Connection) {
        let slot = connection.slot
        let last = connections.removeLast()
        if last !== connection {
            last.slot = slot
            connections[slot] = last
        }
        assigned.subtract(1, ordering: .relaxed)
    }

    /// Asks the peers of all connections to go elsewhere with new streams, then refuses these. Later connections are not
    /// meant.
    func sendPeersAway() {
        for connection in connections { connection.announceShutdown() }
        loop.schedule(after: Connection.goAwayDelay) { [self] in
            for connection in connections { connection.refuseNewStreamsIfAnnounced(loop.now) }
        }
    }

    /// Cuts every connection. New ones are not taken either.
    func closeAll() {
        isEnded = true
        while let connection = connections.last { connection.close(.ended) }
    }

    private func scheduleSweep() {
        loop.schedule(after: Self.sweepInterval) { [self] in
            guard !isEnded else { return }
            let now = loop.now
            // A copy: a connection that times out leaves the list.
            for connection in Array(connections) { connection.checkTimeouts(now) }
            scheduleSweep()
        }
    }
}

/// Counters of one shard, written by its loop alone.
final class ConnectionCounters: Sendable {
    let connectionsFailed = Atomic<UInt64>(0)
    let handshakesFailed = Atomic<UInt64>(0)
    let bytesReceived = Atomic<UInt64>(0)
    let bytesSent = Atomic<UInt64>(0)
}

/// Stands in until the loop has made the service.
private final class NoService: GRPCService {
    func handler(path: String, call: any GRPCCall) -> (any GRPCCallHandler)? { nil }
}
