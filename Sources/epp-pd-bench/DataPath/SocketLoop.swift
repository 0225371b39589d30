// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CLinux
import Glibc

/// A non-blocking socket of a `SocketLoop`: what it reads goes to `received`, what it writes waits for room in order.
@safe class LoopSocket {
    let descriptor: Int32
    unowned let loop: SocketLoop
    private(set) var isClosed = false
    private var output: [UInt8] = []
    private var sent = 0
    private var isWriting = false

    init(_ descriptor: Int32, _ loop: SocketLoop) {
        self.descriptor = descriptor
        self.loop = loop
        var one: CInt = 1
        unsafe setsockopt(descriptor, CInt(IPPROTO_TCP), TCP_NODELAY, &one, socklen_t(MemoryLayout<CInt>.size))
    }

    /// Bytes that came. Lent for the call.
    func received(_ bytes: UnsafeRawBufferPointer) {}
    /// The peer left, or the connection broke.
    func ended() {}
    /// A delay that `SocketLoop.wake` was asked for has passed.
    func woke() {}

    func ready(_ events: UInt32) {
        if events & EPOLLOUT.rawValue != 0 { flush() }
        guard events & ~EPOLLOUT.rawValue != 0, !isClosed else { return }
        let count = unsafe recv(descriptor, loop.buffer.baseAddress, loop.buffer.count, 0)
        if count > 0 {
            unsafe received(UnsafeRawBufferPointer(rebasing: loop.buffer[..<count]))
        } else if count == 0 || (errno != EAGAIN && errno != EINTR) {
            ended()
            close()
        }
    }

    func write(_ bytes: [UInt8]) {
        output.append(contentsOf: bytes)
        flush()
    }

    func close() {
        guard !isClosed else { return }
        isClosed = true
        loop.forget(self)
        _ = CLinux.close(descriptor)
    }

    private func flush() {
        while !isClosed, sent < output.count {
            let count = unsafe output.withUnsafeBytes {
                unsafe Glibc.send(descriptor, $0.baseAddress?.advanced(by: sent), $0.count - sent, CInt(MSG_NOSIGNAL))
            }
            if count > 0 {
                sent += count
            } else if errno == EAGAIN {
                return setWriting(true)
            } else if errno != EINTR {
                ended()
                return close()
            }
        }
        output.removeAll(keepingCapacity: true)
        sent = 0
        setWriting(false)
    }

    private func setWriting(_ isWriting: Bool) {
        guard self.isWriting != isWriting, !isClosed else { return }
        self.isWriting = isWriting
        loop.watch(self, EPOLLIN.rawValue | (isWriting ? EPOLLOUT.rawValue : 0))
    }
}

/// One thread's sockets and delays of whole milliseconds, for the programs that make and take load.
@safe final class SocketLoop {
    private static let eventsPerWait = 512
    /// Longest delay in milliseconds.
    static let longestDelay = 8_191
    /// Turns of the wheel in a millisecond: streams that are spaced evenly must not come in bunches of a millisecond.
    private static let turnsPerMillisecond = 8
    private static let nanosecondsPerTurn = 1_000_000 / UInt64(turnsPerMillisecond)
    private static let slots = (longestDelay + 1) * turnsPerMillisecond

    /// What one read takes at most.
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256 << 10, alignment: 64)
    private let descriptor = epoll_create1(CInt(EPOLL_CLOEXEC))
    private let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: eventsPerWait)
    /// By descriptor. What is closed may be reported once more in the same wait: its place is then empty, or another's.
    private var sockets: [LoopSocket?] = []
    private var wheel = [[LoopSocket]](repeating: [], count: slots)
    private var sleeping = 0
    private var turn = Measurement.nanoseconds / nanosecondsPerTurn
    var isDone = false
    /// Called once a millisecond while it is set.
    var everyMillisecond: (() -> Void)?

    deinit {
        unsafe buffer.deallocate()
        unsafe events.deallocate()
    }

    func add(_ socket: LoopSocket) {
        let index = Int(socket.descriptor)
        while sockets.count <= index { sockets.append(nil) }
        sockets[index] = socket
        control(EPOLL_CTL_ADD, socket.descriptor, EPOLLIN.rawValue)
    }

    func watch(_ socket: LoopSocket, _ interest: UInt32) { control(EPOLL_CTL_MOD, socket.descriptor, interest) }

    func forget(_ socket: LoopSocket) {
        control(EPOLL_CTL_DEL, socket.descriptor, 0)
        sockets[Int(socket.descriptor)] = nil
    }

    /// Calls `woke` of `socket` after so many milliseconds.
    func wake(_ socket: LoopSocket, after milliseconds: Int) {
        let delay = UInt64(min(max(milliseconds, 1), Self.longestDelay) * Self.turnsPerMillisecond)
        wheel[Int((turn &+ delay) % UInt64(Self.slots))].append(socket)
        sleeping += 1
    }

    func run() {
        while !isDone {
            let isTicking = sleeping > 0 || everyMillisecond != nil
            var limit = timespec(tv_sec: isTicking ? 0 : 1, tv_nsec: isTicking ? Int(Self.nanosecondsPerTurn) : 0)
            if sleeping == 0, everyMillisecond != nil { limit.tv_nsec = 1_000_000 }
            let count = unsafe epoll_pwait2(descriptor, events, CInt(Self.eventsPerWait), &limit, nil)
            for index in 0..<Int(max(count, 0)) {
                let event = unsafe events[index]
                unsafe sockets[Int(event.data.fd)]?.ready(event.events)
            }
            advance()
        }
    }

    private func advance() {
        let now = Measurement.nanoseconds / Self.nanosecondsPerTurn
        while turn < now {
            turn += 1
            let slot = Int(turn % UInt64(Self.slots))
            if !wheel[slot].isEmpty {
                var due: [LoopSocket] = []
                swap(&due, &wheel[slot])
                sleeping -= due.count
                for socket in due where !socket.isClosed { socket.woke() }
            }
            if turn % UInt64(Self.turnsPerMillisecond) == 0 { everyMillisecond?() }
        }
    }

    private func control(_ operation: CInt, _ target: Int32, _ interest: UInt32) {
        var event = unsafe epoll_event()
        unsafe event.events = interest
        unsafe event.data.fd = target
        unsafe epoll_ctl(descriptor, operation, target, &event)
    }
}
