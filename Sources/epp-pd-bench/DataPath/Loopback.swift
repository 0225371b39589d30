// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CLinux
import Glibc

/// Sockets on this machine only: the programs of this folder talk to nobody else.
enum Loopback {
    static func listen(port: UInt16) -> Int32? {
        let descriptor = tcpSocket()
        guard descriptor >= 0 else { return nil }
        var one: CInt = 1
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<CInt>.size))
        guard unsafe withAddress(port, { unsafe bind(descriptor, $0, $1) }) == 0,
            Glibc.listen(descriptor, 4096) == 0
        else {
            _ = CLinux.close(descriptor)
            return nil
        }
        return descriptor
    }

    /// A connection that may still be on its way.
    static func connect(port: UInt16) -> Int32? {
        let descriptor = tcpSocket()
        guard descriptor >= 0 else { return nil }
        guard unsafe withAddress(port, { unsafe Glibc.connect(descriptor, $0, $1) }) == 0 || errno == EINPROGRESS else {
            _ = CLinux.close(descriptor)
            return nil
        }
        return descriptor
    }

    static func accept(_ listener: Int32) -> Int32? {
        let flags = CInt(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let descriptor = accept4(listener, nil, nil, flags)
        return descriptor >= 0 ? descriptor : nil
    }

    private static func tcpSocket() -> Int32 {
        let type = CInt(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        return socket(AF_INET, type, 0)
    }

    private static func withAddress(_ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> CInt) -> CInt {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(INADDR_LOOPBACK).bigEndian
        return unsafe withUnsafePointer(to: &address) { address in
            unsafe address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe body($0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
    }
}
