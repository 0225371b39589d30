// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CLinux
internal import Glibc

/// A listening socket. Hands each accepted descriptor on; pauses where the process has no descriptor left.
///
/// `@unchecked Sendable`: made on any thread, then handed to its loop by `post`, and touched only there.
final class Listener: EventSource, @unchecked Sendable {
    /// How long to wait where the process or the host is out of descriptors or memory.
    private static let pauseWhenExhausted = Duration.milliseconds(100)
    /// Connections taken per wake-up, so that a flood of them does not starve the open ones.
    private static let acceptsPerTurn = 64
    private static let backlog: CInt = 1024

    let port: UInt16
    private let sockets: any SocketIO
    private let accepted: (Int32) -> Void
    private unowned let loop: EventLoop

    /// Binds and listens; `watch` begins to accept.
    init(
        address: String?,
        port: UInt16,
        sockets: any SocketIO,
        loop: EventLoop,
        accepted: @escaping (Int32) -> Void
    ) throws(SystemError) {
        let descriptor = try ListeningSocket.open(address: address, port: port, backlog: Self.backlog)
        self.port = try ListeningSocket.boundPort(descriptor)
        self.sockets = sockets
        self.loop = loop
        self.accepted = accepted
        super.init(descriptor: descriptor)
    }

    deinit { close(descriptor) }

    func watch() throws(SystemError) { try loop.watch(self, EPOLLIN.rawValue) }

    override func ready(_ events: UInt32) {
        for _ in 0..<Self.acceptsPerTurn {
            let result = sockets.accept(descriptor)
            if result >= 0 {
                accepted(result)
                continue
            }
            switch -result {
            case EAGAIN: return
            case EMFILE, ENFILE, ENOBUFS, ENOMEM: return pause()
            // Errors of the one connection that was to be accepted (accept(2)): the next may be fine.
            default: continue
            }
        }
    }

    private func pause() {
        loop.changeWatch(self, 0)
        loop.schedule(after: Self.pauseWhenExhausted) { [weak self] in
            guard let self, isWatched else { return }
            loop.changeWatch(self, EPOLLIN.rawValue)
        }
    }
}

/// Opens listening sockets of both address families.
private enum ListeningSocket {
    static func open(address: String?, port: UInt16, backlog: CInt) throws(SystemError) -> Int32 {
        guard let address else {
            // One socket for both families; a host without IPv6 gets one for IPv4.
            do throws(SystemError) {
                return try open(IPv6.any(port), backlog)
            } catch {
                guard error.code == EAFNOSUPPORT || error.code == EADDRNOTAVAIL else { throw error }
                return try open(IPv4.any(port), backlog)
            }
        }
        if let target = IPv4.parse(address, port) { return try open(target, backlog) }
        if let target = IPv6.parse(address, port) { return try open(target, backlog) }
        throw SystemError("listen address '\(address)'", code: EINVAL)
    }

    static func boundPort(_ descriptor: Int32) throws(SystemError) -> UInt16 {
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let code = unsafe withUnsafeMutablePointer(to: &storage) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe getsockname(descriptor, $0, &size) }
        }
        guard code == 0 else { throw SystemError.last("getsockname") }
        // Port and family lie at the same place in both families.
        return unsafe withUnsafePointer(to: storage) {
            unsafe $0.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { unsafe $0.pointee.sin_port.bigEndian }
        }
    }

    private static func open<Address>(_ address: Address, _ backlog: CInt) throws(SystemError) -> Int32 {
        let family = address is sockaddr_in6 ? AF_INET6 : AF_INET
        let kind = CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = socket(family, kind, 0)
        guard descriptor >= 0 else { throw SystemError.last("socket") }
        set(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        if family == AF_INET6 { set(descriptor, CInt(IPPROTO_IPV6), IPV6_V6ONLY, 0) }
        let size = socklen_t(MemoryLayout<Address>.size)
        let bound = unsafe withUnsafePointer(to: address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe bind(descriptor, $0, size) }
        }
        guard bound == 0, listen(descriptor, backlog) == 0 else {
            let error = SystemError.last(bound == 0 ? "listen" : "bind")
            close(descriptor)
            throw error
        }
        return descriptor
    }

    private static func set(_ descriptor: Int32, _ level: CInt, _ option: CInt, _ value: CInt) {
        var value = value
        unsafe setsockopt(descriptor, level, option, &value, socklen_t(MemoryLayout<CInt>.size))
    }

    private enum IPv4 {
        static func any(_ port: UInt16) -> sockaddr_in {
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            return address
        }

        static func parse(_ text: String, _ port: UInt16) -> sockaddr_in? {
            var address = any(port)
            return unsafe inet_pton(AF_INET, text, &address.sin_addr) == 1 ? address : nil
        }
    }

    private enum IPv6 {
        static func any(_ port: UInt16) -> sockaddr_in6 {
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = port.bigEndian
            return address
        }

        static func parse(_ text: String, _ port: UInt16) -> sockaddr_in6? {
            var address = any(port)
            return unsafe inet_pton(AF_INET6, text, &address.sin6_addr) == 1 ? address : nil
        }
    }
}
