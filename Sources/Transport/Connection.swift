// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CLinux
internal import Gateway
internal import Glibc

/// One accepted connection: moves bytes between its socket and its HTTP/2 session. Confined to its shard's loop.
final class Connection: EventSource, PendingFlush {
    /// Serialized bytes that may wait for the socket. Above it no frame is made, and nothing more is read: a peer that
    /// does not read is not listened to.
    private static let outputLimit = 256 << 10
    /// Rounds of filling and sending before other connections get their turn.
    private static let roundsPerTurn = 8

    /// Pieces of one send: a full output of bodies in frames of 16 KiB, each behind its header.
    private static let piecesAtOnce = 64

    /// Between the two GOAWAYs of a shutdown: a round trip within a cluster, with room.
    static let goAwayDelay = Duration.milliseconds(200)

    /// Where the shard keeps this connection.
    var slot = 0
    let session: HTTP2Session
    private let tls: TLSStream?
    /// Held: it lets go of a connection that is closed, and ends all of them before it goes.
    private let shard: ServerShard
    private let openedAt: MonotonicTime
    private var lastActivity: MonotonicTime
    /// Since when the socket takes no bytes.
    private var blockedSince: MonotonicTime?
    private var interest = EPOLLIN.rawValue
    private var isFlushPending = false
    private var isClosed = false
    private var hasReceived = false
    private var shutdown = Shutdown.none

    private enum Shutdown: Equatable { case none, announced(MonotonicTime), refusing }

    /// - Throws: `HTTP2Error` or `TLSError`, where there is no memory.
    init(descriptor: Int32, shard: ServerShard) throws {
        self.shard = shard
        tls = try shard.certificates.map { try TLSStream($0.current) }
        openedAt = shard.loop.now
        lastActivity = shard.loop.now
        session = try HTTP2Session(
            service: shard.service,
            limits: shard.options.http2,
            counters: shard.http2Counters,
            spareOutput: shard.spareOutput,
            // OpenSSL wants all of it in one piece.
            lendsBodies: tls == nil,
            budget: shard.options.budget
        )
        super.init(descriptor: descriptor)
        session.onOutput = { [unowned self] in markForFlush() }
        SocketOptions.tune(descriptor)
    }

    /// Begins to read and write.
    func open() throws(SystemError) {
        try shard.loop.watch(self, interest)
        markForFlush()
    }

    // MARK: Reading

    override func ready(_ events: UInt32) {
        if events & EPOLLOUT.rawValue != 0 { markForFlush() }
        // Errors and hang-ups are heard of by reading.
        if events & ~EPOLLOUT.rawValue != 0 { read() }
    }

    private func read() {
        guard !isClosed else { return }
        let count = unsafe shard.options.sockets.receive(descriptor, into: shard.loop.readBuffer)
        guard count > 0 else {
            if count == 0 { return close(.ended) }
            if count == -Int(EAGAIN) || count == -Int(EINTR) { return }
            return close(.failed)
        }
        shard.counters.bytesReceived.add(UInt64(count))
        lastActivity = shard.loop.now
        let bytes = unsafe UnsafeRawBufferPointer(rebasing: shard.loop.readBuffer[..<count])
        do throws(HTTP2Error) {
            if let tls { try unsafe decrypt(bytes, tls) } else { try unsafe receive(bytes) }
        } catch {
            return close(.failed)
        }
        // The last stream of a drained session may have ended without a word of ours.
        if shutdown != .none || session.openCalls == 0, session.isFinished { markForFlush() }
    }

    private func receive(_ bytes: UnsafeRawBufferPointer) throws(HTTP2Error) {
        try unsafe session.receive(bytes)
        hasReceived = true
    }

    private func decrypt(_ bytes: UnsafeRawBufferPointer, _ tls: TLSStream) throws(HTTP2Error) {
        let wasHandshaking = tls.state == .handshaking
        try unsafe tls.receive(bytes, buffer: shard.loop.plaintextBuffer) { (plaintext) throws(HTTP2Error) in
            try unsafe receive(plaintext)
        }
        switch tls.state {
        case .handshaking: break
        case .established: if wasHandshaking { markForFlush() }
        case .ended: return close(.ended)
        case .failed:
            shard.counters.handshakesFailed.add(wasHandshaking ? 1 : 0)
            // The alert that says why.
            _ = send()
            return close(.failed)
        }
        if unsafe !tls.outgoing.isEmpty { markForFlush() }
    }

    // MARK: Writing

    private func markForFlush() {
        guard !isFlushPending, !isClosed else { return }
        isFlushPending = true
        shard.loop.flushLater(self)
    }

    func flush() {
        isFlushPending = false
        guard !isClosed else { return }
        for _ in 0..<Self.roundsPerTurn {
            let isMore: Bool
            do throws(HTTP2Error) { isMore = try fill() } catch { return close(.failed) }
            switch send() {
            case .all where isMore: continue
            case .all: return settle()
            case .blocked: return setInterest(reading: !isMore, writing: true)
            case .failed: return close(.failed)
            }
        }
        markForFlush()
    }

    /// Makes frames, and of them ciphertext where TLS is spoken. Says whether it stopped at the limit.
    private func fill() throws(HTTP2Error) -> Bool {
        guard let tls else { return try session.fillOutput(upTo: Self.outputLimit) }
        guard tls.state == .established else { return false }
        guard unsafe tls.outgoing.count < Self.outputLimit else { return true }
        let isMore = try session.fillOutput(upTo: Self.outputLimit)
        unsafe tls.send(session.outputBytes)
        session.outputSent(unsafe session.outputBytes.count)
        return isMore
    }

    private enum Sent { case all, blocked, failed }

    private func send() -> Sent {
        if tls?.state == .failed, unsafe tls?.outgoing.isEmpty != false { return .failed }
        while true {
            guard tls.map({ unsafe !$0.outgoing.isEmpty }) ?? session.hasOutput else {
                blockedSince = nil
                return .all
            }
            let count = sendOnce()
            if count == -Int(EINTR) { continue }
            if count == -Int(EAGAIN) || count == 0 {
                if blockedSince == nil { blockedSince = shard.loop.now }
                return .blocked
            }
            guard count > 0 else { return .failed }
            shard.counters.bytesSent.add(UInt64(count))
            blockedSince = nil
            if let tls { tls.sent(count) } else { session.outputSent(count) }
        }
    }

    /// Bytes that the socket took, or the negative error number.
    private func sendOnce() -> Int {
        let sockets = shard.options.sockets
        if let tls { return unsafe sockets.send(descriptor, tls.outgoing) }
        if session.outputIsContiguous { return unsafe sockets.send(descriptor, session.outputBytes) }
        return unsafe withUnsafeTemporaryAllocation(of: UnsafeRawBufferPointer.self, capacity: Self.piecesAtOnce) {
            let count = unsafe session.lendOutput($0)
            return unsafe sockets.send(descriptor, pieces: UnsafeBufferPointer(rebasing: $0[..<count]))
        }
    }

    /// All is written: back to reading, or the end.
    private func settle() {
        setInterest(reading: true, writing: false)
        if session.isFinished { close(.ended) }
    }

    private func setInterest(reading: Bool, writing: Bool) {
        let wanted = (reading ? EPOLLIN.rawValue : 0) | (writing ? EPOLLOUT.rawValue : 0)
        guard wanted != interest, !isClosed else { return }
        interest = wanted
        shard.loop.changeWatch(self, wanted)
    }

    // MARK: Time and end

    /// Looks at the time-outs. Called about once a second.
    func checkTimeouts(_ now: MonotonicTime) {
        let options = shard.options
        if let blockedSince, now - blockedSince >= options.writeStallTimeout { return close(.failed) }
        if !hasReceived, now - openedAt >= options.handshakeTimeout { return close(.failed) }
        if session.openCalls == 0, now - lastActivity >= options.idleTimeout { announceShutdown() }
        refuseNewStreamsIfAnnounced(now)
    }

    /// Asks the peer to go elsewhere with new streams.
    func announceShutdown() {
        guard shutdown == .none else { return }
        shutdown = .announced(shard.loop.now)
        session.announceShutdown()
    }

    /// Ends the notice that was given, once what the peer sent before it heard of it must have come.
    func refuseNewStreamsIfAnnounced(_ now: MonotonicTime) {
        guard case .announced(let since) = shutdown, now - since >= Self.goAwayDelay else { return }
        shutdown = .refusing
        session.refuseNewStreams()
    }

    enum End { case ended, failed }

    func close(_ end: End) {
        guard !isClosed else { return }
        isClosed = true
        if let tls, end == .ended {
            tls.close()
            _ = send()
        }
        if end == .failed { shard.counters.connectionsFailed.add() }
        shard.loop.unwatch(self)
        CLinux.close(descriptor)
        session.connectionClosed()
        shard.connectionClosed(self)
    }
}

private enum SocketOptions {
    /// A peer whose host vanished is noticed after about a minute: its open requests must not count for ever.
    static let keepAliveIdleSeconds: CInt = 30
    static let keepAliveIntervalSeconds: CInt = 10
    static let keepAliveProbes: CInt = 3

    static func tune(_ descriptor: Int32) {
        let tcp = CInt(IPPROTO_TCP)
        set(descriptor, tcp, TCP_NODELAY, 1)
        set(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1)
        set(descriptor, tcp, TCP_KEEPIDLE, keepAliveIdleSeconds)
        set(descriptor, tcp, TCP_KEEPINTVL, keepAliveIntervalSeconds)
        set(descriptor, tcp, TCP_KEEPCNT, keepAliveProbes)
    }

    private static func set(_ descriptor: Int32, _ level: CInt, _ option: CInt, _ value: CInt) {
        var value = value
        unsafe setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<CInt>.size))
    }
}
