// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CLinux
package import Gateway
internal import Synchronization

/// A gRPC server on some loops: one listener, whose connections are dealt to the loops.
///
/// One acceptor deals, since SO_REUSEPORT deals by hash: an Envoy opens one connection per worker thread, and four of them
/// land on one of two loops in one case of eight. The loop with the fewest connections gets the next.
///
/// All methods may be called from any thread.
package final class GRPCServer: Sendable {
    private static let certificateInterval = Duration.seconds(1)
    private static let drainPollInterval = Duration.milliseconds(20)

    private let options: ServerOptions
    private let acceptor: EventLoop
    private let shards: [ServerShard]
    private let certificates: TLSCertificates?
    private let certificatesChanged: @Sendable (TLSReload) -> Void
    private let makeService: @Sendable (EventLoop) -> any GRPCService
    private let listening = Mutex<Listener?>(nil)
    private let accepted = Atomic<UInt64>(0)
    private let refused = Atomic<UInt64>(0)

    /// - Parameters:
    ///   - options: where to listen, and the limits.
    ///   - loops: at least one; the first accepts.
    ///   - certificates: what TLS is spoken with. nil: cleartext.
    ///   - certificatesChanged: told when changed files were read again, or could not be. Called on a loop's thread.
    ///   - makeService: called once on each loop's thread. What it makes is confined to that loop.
    package init(
        _ options: ServerOptions,
        loops: [EventLoop],
        certificates: TLSCertificates? = nil,
        certificatesChanged: @escaping @Sendable (TLSReload) -> Void = { _ in },
        makeService: @escaping @Sendable (EventLoop) -> any GRPCService
    ) {
        precondition(!loops.isEmpty, "a server needs a loop")
        self.options = options
        self.certificates = certificates
        self.certificatesChanged = certificatesChanged
        self.makeService = makeService
        acceptor = loops[0]
        shards = loops.map { ServerShard(loop: $0, options: options, certificates: certificates) }
    }

    /// Binds, and begins to accept. To be called once.
    ///
    /// - Returns: the port.
    @discardableResult
    package func start() throws(SystemError) -> UInt16 {
        for shard in shards {
            shard.loop.post { [makeService] in shard.start(makeService) }
        }
        let listener = try Listener(
            address: options.address,
            port: options.port,
            sockets: options.sockets,
            loop: acceptor
        ) { [weak self] descriptor in
            if let self { deal(descriptor) } else { CLinux.close(descriptor) }
        }
        listening.withLock { $0 = listener }
        acceptor.post {
            // Fails only where the kernel has no memory for one more watch; clients then wait in the backlog.
            try? listener.watch()
        }
        if let certificates, certificates.options.reloads, certificates.options.certificateFolder != nil {
            acceptor.post { [weak self] in self?.lookAtCertificates(certificates) }
        }
        return listener.port
    }

    private func lookAtCertificates(_ certificates: TLSCertificates) {
        acceptor.schedule(after: Self.certificateInterval) { [weak self] in
            guard let self else { return }
            if let reload = certificates.reloadIfChanged() { certificatesChanged(reload) }
            lookAtCertificates(certificates)
        }
    }

    package var statistics: ServerStatistics {
        var sum = ServerStatistics()
        sum.connectionsAccepted = accepted.load(ordering: .relaxed)
        sum.connectionsRefused = refused.load(ordering: .relaxed)
        for shard in shards {
            sum.connectionsOpen += shard.assigned.load(ordering: .relaxed)
            sum.connectionsFailed += shard.counters.connectionsFailed.load(ordering: .relaxed)
            sum.handshakesFailed += shard.counters.handshakesFailed.load(ordering: .relaxed)
            sum.bytesReceived += shard.counters.bytesReceived.load(ordering: .relaxed)
            sum.bytesSent += shard.counters.bytesSent.load(ordering: .relaxed)
            let http2 = shard.http2Counters
            sum.streamsOpened += http2.streamsOpened.load(ordering: .relaxed)
            sum.streamsClosed += http2.streamsClosed.load(ordering: .relaxed)
            sum.streamsReset += http2.streamsReset.load(ordering: .relaxed)
            sum.streamsViolated += http2.streamsViolated.load(ordering: .relaxed)
            sum.messagesReceived += http2.messagesReceived.load(ordering: .relaxed)
            sum.messagesSent += http2.messagesSent.load(ordering: .relaxed)
        }
        return sum
    }

    /// Open connections per loop.
    package var connectionsPerLoop: [Int] { shards.map { $0.assigned.load(ordering: .relaxed) } }

    // MARK: Accepting

    private func deal(_ descriptor: Int32) {
        accepted.add()
        var chosen = shards[0]
        var fewest = Int.max
        var total = 0
        for shard in shards {
            let count = shard.assigned.load(ordering: .relaxed)
            total += count
            if count < fewest {
                fewest = count
                chosen = shard
            }
        }
        guard total < options.maxConnections else {
            refused.add()
            CLinux.close(descriptor)
            return
        }
        chosen.assigned.add(1, ordering: .relaxed)
        let isTaken = chosen.loop.post { [chosen] in chosen.adopt(descriptor) }
        if !isTaken {
            chosen.assigned.subtract(1, ordering: .relaxed)
            CLinux.close(descriptor)
        }
    }

    private func stopListening() {
        guard let listener = listening.withLock({ $0.take() }) else { return }
        acceptor.post { [acceptor] in acceptor.unwatch(listener) }
    }

    // MARK: Ending

    /// Lets clients go elsewhere, then ends (RFC 9113 section 6.8).
    ///
    /// Each connection is told at once to open no more streams; open ones go on. For the time of `grace` new connections
    /// are still taken, since a client that just heard GOAWAY and knows no other server comes back at once. After it, `done`
    /// is called as soon as the last stream has ended, or when `timeout` (counted from now) has passed and the rest was cut.
    package func drain(grace: Duration, timeout: Duration, done: @escaping @Sendable () -> Void) {
        let wasPosted = acceptor.post { [self] in
            let start = MonotonicTime.current
            tellAllToLeave()
            acceptor.schedule(after: min(grace, timeout)) { [self] in
                stopListening()
                tellAllToLeave()
                awaitEnd(deadline: start + timeout, done)
            }
        }
        if !wasPosted { done() }
    }

    /// Cuts every connection and listens no more.
    package func close() {
        stopListening()
        for shard in shards { shard.loop.post { shard.closeAll() } }
    }

    private func tellAllToLeave() {
        for shard in shards {
            shard.loop.post { shard.sendPeersAway() }
        }
    }

    /// Runs on the acceptor's loop.
    private func awaitEnd(deadline: MonotonicTime, _ done: @escaping @Sendable () -> Void) {
        let open = shards.reduce(0) { $0 + $1.assigned.load(ordering: .relaxed) }
        if open == 0 { return done() }
        // Cut once; the loops then close what is left in their next turn.
        if MonotonicTime.current >= deadline { close() }
        acceptor.schedule(after: Self.drainPollInterval) { [self] in awaitEnd(deadline: deadline, done) }
    }
}
