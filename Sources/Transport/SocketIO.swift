// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CLinux
internal import Glibc

/// Why the operating system refused something at start.
package struct SystemError: Error, Sendable, Hashable, CustomStringConvertible {
    package var call: String
    package var code: Int32

    package init(_ call: String, code: Int32) {
        self.call = call
        self.code = code
    }

    /// The error of the call that just failed.
    static func last(_ call: String) -> SystemError { SystemError(call, code: errno) }

    package var description: String {
        guard let text = unsafe strerror(code) else { return "\(call): error \(code)" }
        return unsafe "\(call): \(String(cString: text))"
    }
}

/// The system calls of a connection: a seam, so that tests can make the n-th of them fail.
package protocol SocketIO: Sendable {
    /// Bytes received, 0 at the end of the stream, or the negative error number.
    func receive(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) -> Int
    /// Bytes taken, or the negative error number.
    func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int
    /// Bytes taken of the pieces in their order, as if they were one, or the negative error number.
    func send(_ descriptor: Int32, pieces: UnsafeBufferPointer<UnsafeRawBufferPointer>) -> Int
    /// The descriptor of a new connection, or the negative error number.
    func accept(_ descriptor: Int32) -> Int32
}

/// The kernel's sockets.
package struct KernelSockets: SocketIO {
    package init() {}

    package func receive(_ descriptor: Int32, into buffer: UnsafeMutableRawBufferPointer) -> Int {
        let count = unsafe recv(descriptor, buffer.baseAddress, buffer.count, 0)
        return count >= 0 ? count : Int(-errno)
    }

    package func send(_ descriptor: Int32, _ bytes: UnsafeRawBufferPointer) -> Int {
        let count = unsafe Glibc.send(descriptor, bytes.baseAddress, bytes.count, CInt(MSG_NOSIGNAL))
        return count >= 0 ? count : Int(-errno)
    }

    package func send(_ descriptor: Int32, pieces: UnsafeBufferPointer<UnsafeRawBufferPointer>) -> Int {
        unsafe withUnsafeTemporaryAllocation(of: iovec.self, capacity: pieces.count) { vectors in
            for index in pieces.indices {
                let piece = unsafe pieces[index]
                let start = unsafe UnsafeMutableRawPointer(mutating: piece.baseAddress)
                unsafe vectors.initializeElement(at: index, to: iovec(iov_base: start, iov_len: piece.count))
            }
            var message = unsafe msghdr()
            unsafe message.msg_iov = vectors.baseAddress
            unsafe message.msg_iovlen = pieces.count
            let count = unsafe sendmsg(descriptor, &message, CInt(MSG_NOSIGNAL))
            return count >= 0 ? count : Int(-errno)
        }
    }

    package func accept(_ descriptor: Int32) -> Int32 {
        let flags = CInt(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let accepted = accept4(descriptor, nil, nil, flags)
        return accepted >= 0 ? accepted : -errno
    }
}
