// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import FlyingFox
import Glibc
import Synchronization

/// Tells when a client has left while its request is being served. FlyingFox reads a connection only between requests
/// and so does not tell a handler; but a model server stops generating at once, and prefill work must not outlive its
/// client. The connection is found by its addresses among this process's sockets, and stays open while the handler runs.
struct PeerWatch: Sendable {
    /// How soon a leave is noticed, in wall time.
    static let interval = Duration.milliseconds(20)
    /// Descriptors are given lowest first, so that a gap of this many means the end.
    private static let longestGap: Int32 = 256
    /// The last socket found for a client's port.
    private static let known = Mutex<[UInt16: Int32]>([:])

    private let descriptor: Int32

    /// nil where the connection cannot be found: then nothing is noticed before the next write.
    init?(peer: HTTPRequest.Address?, localPort: UInt16) {
        guard case .ip4(_, let port) = peer else { return nil }
        let hint = Self.known.withLock { $0[port] }
        if let hint, Self.connects(hint, localPort, port) {
            descriptor = hint
            return
        }
        guard let found = Self.search(localPort, port) else { return nil }
        Self.known.withLock { $0[port] = found }
        descriptor = found
    }

    private static func search(_ localPort: UInt16, _ peerPort: UInt16) -> Int32? {
        var gap: Int32 = 0
        var candidate: Int32 = 3
        while gap < longestGap {
            if connects(candidate, localPort, peerPort) { return candidate }
            gap = fcntl(candidate, F_GETFD) == -1 ? gap + 1 : 0
            candidate += 1
        }
        return nil
    }

    private static func connects(_ descriptor: Int32, _ localPort: UInt16, _ peerPort: UInt16) -> Bool {
        unsafe port { unsafe getpeername(descriptor, $0, $1) } == peerPort
            && port { unsafe getsockname(descriptor, $0, $1) } == localPort
    }

    private static func port(
        _ name: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) -> UInt16? {
        var address = sockaddr_in()
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let outcome = unsafe withUnsafeMutablePointer(to: &address) { place in
            unsafe place.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe name($0, &length) }
        }
        guard outcome == 0, address.sin_family == sa_family_t(AF_INET) else { return nil }
        return UInt16(bigEndian: address.sin_port)
    }

    /// A look at the next byte without taking it: none will come once the peer has closed. One that is there already
    /// belongs to a pipelined request, and then nothing can be told.
    var hasLeft: Bool {
        var byte: UInt8 = 0
        let count = unsafe recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
        return count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR)
    }

    /// Returns when the client has left, or throws when the task is cancelled.
    func untilItLeaves() async throws {
        while !hasLeft { try await Task.sleep(for: Self.interval) }
    }
}
