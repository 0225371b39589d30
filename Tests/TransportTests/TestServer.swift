// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CLinux
import COpenSSL
import Gateway
import Glibc
import Synchronization
import TestSupport

@testable import Transport

/// What the handlers of all loops saw.
final class ServerLog: Sendable {
    let opened = Counter()
    let closed = Counter()
    let strayCalls = Counter()
    let ends = Log<GRPCCallEnd>()
    private let perLoop = Mutex<[Int: Int]>([:])

    var callsPerLoop: [Int: Int] { perLoop.withLock { $0 } }

    func called(on loop: Int) { perLoop.withLock { $0[loop, default: 0] += 1 } }
}

/// `/echo` sends each message back, long ones from memory of its own; `/hold` says nothing. Checks that it is only ever called on its own loop.
final class LoopService: GRPCService {
    private let loop: EventLoop
    private let log: ServerLog

    init(_ loop: EventLoop, _ log: ServerLog) {
        self.loop = loop
        self.log = log
    }

    func handler(path: String, call: any GRPCCall) -> (any GRPCCallHandler)? {
        guard path == "/echo" || path == "/hold" else { return nil }
        log.opened.increment()
        log.called(on: loop.index)
        return Handler(self, call, echoes: path == "/echo")
    }

    private final class Handler: GRPCCallHandler {
        private let service: LoopService
        private let call: any GRPCCall
        private let echoes: Bool

        init(_ service: LoopService, _ call: any GRPCCall, echoes: Bool) {
            self.service = service
            self.call = call
            self.echoes = echoes
        }

        private func check() {
            if !service.loop.isCurrent { service.log.strayCalls.increment() }
        }

        func received(_ message: UnsafeRawBufferPointer) {
            check()
            guard echoes else { return }
            guard message.count < 16 << 10 else { return unsafe sendFromMemory(message) }
            unsafe call.send(size: message.count) { unsafe $0.copyMemory(from: message) }
        }

        private func sendFromMemory(_ message: UnsafeRawBufferPointer) {
            let half = message.count / 2
            let kept = unsafe KeptBytes(UnsafeRawBufferPointer(rebasing: message[100..<half]))
            unsafe call.send(
                UnsafeRawBufferPointer(rebasing: message[..<100]),
                kept.bytes,
                of: kept,
                UnsafeRawBufferPointer(rebasing: message[half...])
            )
        }

        func remoteEnded() {
            check()
            call.finish(.ok)
        }

        func closed(_ end: GRPCCallEnd) {
            check()
            service.log.closed.increment()
            service.log.ends.add(end)
        }
    }
}

/// A copy that lives as long as somebody sends it.
@safe private final class KeptBytes {
    let bytes: UnsafeRawBufferPointer

    init(_ bytes: UnsafeRawBufferPointer) {
        let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
        unsafe copy.copyMemory(from: bytes)
        unsafe self.bytes = UnsafeRawBufferPointer(copy)
    }

    deinit {
        // Whoever sends it later than that sends something else.
        unsafe UnsafeMutableRawBufferPointer(mutating: bytes).initializeMemory(as: UInt8.self, repeating: 0xAA)
        unsafe bytes.deallocate()
    }
}

/// What other threads tell, in their order.
final class Log<Entry: Sendable>: Sendable {
    private let entries = Mutex<[Entry]>([])

    var all: [Entry] { entries.withLock { $0 } }

    @Sendable func add(_ entry: Entry) { entries.withLock { $0.append(entry) } }
}

final class Counter: Sendable {
    private let count = Atomic(0)

    var value: Int { count.load(ordering: .relaxed) }

    func increment() { count.add(1, ordering: .relaxed) }
}

/// Something that another thread brings about.
final class Flag: Sendable {
    private let value = Atomic(false)

    var isSet: Bool { value.load(ordering: .relaxed) }

    @Sendable func set() { value.store(true, ordering: .relaxed) }
}

/// A server on loops of its own, stopped at the end of the test.
final class TestServer {
    let log = ServerLog()
    let loops: [EventLoop]
    let server: GRPCServer
    let port: UInt16

    init(
        loops count: Int = 1,
        certificates: TLSCertificates? = nil,
        reloads: Log<TLSReload> = Log(),
        _ change: (inout ServerOptions) -> Void = { _ in }
    ) throws {
        var options = ServerOptions(address: "127.0.0.1", port: 0)
        change(&options)
        loops = try EventLoop.start(count: count)
        server = GRPCServer(options, loops: loops, certificates: certificates, certificatesChanged: reloads.add) {
            [log] in LoopService($0, log)
        }
        port = try server.start()
    }

    deinit { for loop in loops { loop.stop() } }

    /// Waits until `condition` holds, at most some seconds.
    func eventually(_ seconds: Int = 10, _ condition: () -> Bool) -> Bool { eventuallyTrue(seconds, condition) }
}

/// Polls `condition` until it holds, at most some seconds.
func eventuallyTrue(_ seconds: Int, _ condition: () -> Bool) -> Bool {
    let end = MonotonicTime.current + .seconds(seconds)
    while MonotonicTime.current < end {
        if condition() { return true }
        usleep(2000)
    }
    return condition()
}

/// A client over a real socket, in cleartext or TLS.
final class SocketClient {
    enum Failure: Error, Equatable { case connect(Int32), handshake, closed, timeOut }

    let http2: HTTP2TestClient
    private let descriptor: Int32
    private let tls: ClientTLS?
    private(set) var isClosed = false
    private var unsent: ArraySlice<UInt8> = []

    init(
        port: UInt16,
        tls: ClientTLS.Options? = nil,
        http2: HTTP2TestClient = HTTP2TestClient(),
        receiveBufferBytes: CInt? = nil
    ) throws {
        self.http2 = http2
        // OpenSSL's writes to a closed socket would otherwise end the tests.
        _ = signal(SIGPIPE, SIG_IGN)
        let descriptor = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        self.descriptor = descriptor
        if var size = receiveBufferBytes {
            unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<CInt>.size))
        }
        // A read that finds nothing gives up soon, so that one thread can do both directions.
        var patience = timeval(tv_sec: 0, tv_usec: 5000)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let code = unsafe withUnsafePointer(to: address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard code == 0 else {
            close(descriptor)
            throw Failure.connect(errno)
        }
        do {
            self.tls = try tls.map { try ClientTLS(descriptor, $0) }
        } catch {
            close(descriptor)
            throw error
        }
    }

    deinit { close(descriptor) }

    /// SHA-256 of the server's certificate.
    var certificateDigest: [UInt8] { tls?.peerDigest ?? [] }

    /// Carries bytes both ways until `condition` holds.
    func pump(seconds: Int = 10, until condition: () -> Bool) throws {
        let end = MonotonicTime.current + .seconds(seconds)
        while !condition() {
            try send()
            if condition() { return }
            if isClosed { throw Failure.closed }
            if MonotonicTime.current > end { throw Failure.timeOut }
            receive()
        }
        try send()
    }

    /// Writes as much of what waits as the socket takes.
    func send() throws {
        unsent += http2.takeOutput()
        while !unsent.isEmpty, !isClosed {
            let count = unsafe unsent.withUnsafeBytes { bytes in
                if let tls { return unsafe tls.write(bytes) }
                return unsafe Glibc.send(
                    descriptor,
                    bytes.baseAddress,
                    bytes.count,
                    CInt(MSG_NOSIGNAL) | CInt(MSG_DONTWAIT)
                )
            }
            guard count > 0 else {
                if count < 0, errno != EAGAIN { isClosed = true }
                return
            }
            unsent = unsent.dropFirst(count)
        }
    }

    func sendRaw(_ bytes: [UInt8]) { unsafe _ = Glibc.send(descriptor, bytes, bytes.count, CInt(MSG_NOSIGNAL)) }

    /// Reads once.
    func receive() {
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        let count: Int
        if let tls { count = tls.read(&buffer) } else { count = unsafe recv(descriptor, &buffer, buffer.count, 0) }
        if count > 0 {
            http2.receive(Array(buffer.prefix(count)))
        } else if count == 0 || errno != EAGAIN {
            isClosed = true
        }
    }

    /// One call from begin to end. Returns what came back.
    func unary(_ path: String, _ message: [UInt8]) throws -> (status: String?, messages: [[UInt8]]) {
        let id = http2.open(path)
        http2.sendMessage(id, message)
        http2.end(id)
        try pump { http2.streams[id]?.closeCode != nil }
        return (http2.grpcStatus(id), http2.messages(id))
    }
}

/// The client's side of TLS, over a blocking socket.
@safe final class ClientTLS {
    struct Options {
        var alpn: [UInt8]? = [2] + Array("h2".utf8)
        var maximumVersion = TLS1_3_VERSION
    }

    private let context: OpaquePointer
    private let ssl: OpaquePointer

    init(_ descriptor: Int32, _ options: Options) throws {
        guard let context = unsafe SSL_CTX_new(TLS_client_method()), let ssl = unsafe SSL_new(context) else {
            throw SocketClient.Failure.handshake
        }
        unsafe self.context = context
        unsafe self.ssl = ssl
        // SSL_CTRL_SET_MAX_PROTO_VERSION: the macro's number (ssl.h).
        unsafe SSL_ctrl(ssl, 124, Int(options.maximumVersion), nil)
        if let alpn = options.alpn { unsafe SSL_set_alpn_protos(ssl, alpn, UInt32(alpn.count)) }
        unsafe SSL_set_fd(ssl, descriptor)
        let end = MonotonicTime.current + .seconds(10)
        while true {
            let code = unsafe SSL_connect(ssl)
            if code == 1 { return }
            guard unsafe SSL_get_error(ssl, code) == SSL_ERROR_WANT_READ, MonotonicTime.current < end else {
                throw SocketClient.Failure.handshake
            }
        }
    }

    deinit {
        unsafe SSL_free(ssl)
        unsafe SSL_CTX_free(context)
    }

    var peerDigest: [UInt8] {
        guard let certificate = unsafe SSL_get1_peer_certificate(ssl) else { return [] }
        defer { unsafe X509_free(certificate) }
        var digest = [UInt8](repeating: 0, count: 32)
        var count: UInt32 = 32
        unsafe X509_digest(certificate, EVP_sha256(), &digest, &count)
        return digest
    }

    func write(_ bytes: UnsafeRawBufferPointer) -> Int {
        unsafe Int(SSL_write(ssl, bytes.baseAddress, CInt(bytes.count)))
    }

    /// Like recv: 0 at the end, -1 with EAGAIN where nothing is there.
    func read(_ buffer: inout [UInt8]) -> Int {
        let count = unsafe SSL_read(ssl, &buffer, CInt(buffer.count))
        if count > 0 { return Int(count) }
        let isWaiting = unsafe SSL_get_error(ssl, count) == SSL_ERROR_WANT_READ
        errno = isWaiting ? EAGAIN : ECONNRESET
        return isWaiting ? -1 : 0
    }
}
