// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Glibc

/// Sockets on this machine for the small servers of tests.
package enum LoopbackSocket {
    package struct NoPort: Error {}

    /// A socket that listens on a free port. Below 32768: the ports above are taken by outgoing connections.
    package static func listen() throws -> (file: CInt, port: UInt16) {
        for _ in 0..<200 {
            let port = UInt16.random(in: 20_000...32_000)
            let file = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
            var one: CInt = 1
            unsafe setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<CInt>.size))
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
            let size = socklen_t(MemoryLayout<sockaddr_in>.size)
            let bound = unsafe withUnsafePointer(to: &address) { pointer in
                unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe Glibc.bind(file, $0, size) }
            }
            if bound == 0, Glibc.listen(file, 64) == 0 { return (file, port) }
            Glibc.close(file)
        }
        throw NoPort()
    }

    /// Sends all bytes.
    ///
    /// - Returns: false where the connection is over.
    package static func send(_ bytes: some Sequence<UInt8>, to file: CInt) -> Bool {
        let bytes = Array(bytes)
        var sent = 0
        while sent < bytes.count {
            let count = unsafe bytes.withUnsafeBytes { buffer in
                let rest = unsafe UnsafeRawBufferPointer(rebasing: buffer[sent...])
                return unsafe Glibc.send(file, rest.baseAddress, rest.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            sent += count
        }
        return true
    }
}
