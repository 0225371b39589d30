// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import COpenSSL
import FoundationEssentials
import Gateway
import Glibc
import TestSupport
import Testing

@testable import Transport

@Suite("Server with TLS")
struct TLSTests {
    /// A folder with a certificate of its own, removed at the end.
    private final class Folder {
        let path: String

        init() throws {
            path =
                FileManager.default.temporaryDirectory.appending(path: "epp-pd-tls-\(UInt64.random(in: 0 ... .max))")
                .path
            try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
            try write()
        }

        deinit { try? FileManager.default.removeItem(atPath: path) }

        func write() throws {
            let made = try SelfSignedCertificate(hosts: ["localhost"])
            try unsafe put("tls.crt") { unsafe PEM_write_bio_X509($0, made.certificate) }
            try unsafe put("tls.key") { unsafe PEM_write_bio_PrivateKey($0, made.key, nil, nil, 0, nil, nil) }
        }

        func write(_ name: String, _ text: String) throws {
            try Data(text.utf8).write(to: URL(filePath: "\(path)/\(name)"))
        }

        private func put(_ name: String, _ body: (OpaquePointer?) -> CInt) throws {
            let bio = unsafe BIO_new_file("\(path)/\(name)", "w")
            defer { unsafe BIO_free(bio) }
            #expect(unsafe body(bio) == 1)
        }
    }

    private func certificates(_ options: TLSOptions = TLSOptions()) throws -> TLSCertificates {
        try TLSCertificates(options)
    }

    @Test("Calls over TLS 1.3 and 1.2, large ones too", arguments: [TLS1_3_VERSION, TLS1_2_VERSION])
    func echo(version: Int32) throws {
        let server = try TestServer(certificates: try certificates())
        let client = try SocketClient(port: server.port, tls: ClientTLS.Options(maximumVersion: version))
        #expect(try client.unary("/echo", [1, 2, 3]).messages == [[1, 2, 3]])
        // Many records: all of them must be written (no partial writes).
        let large = (0..<2_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let answer = try client.unary("/echo", large)
        #expect(answer.status == "0")
        #expect(answer.messages == [large])
    }

    @Test("A peer that does not offer h2 is refused", arguments: [nil, [8] + Array("http/1.1".utf8)] as [[UInt8]?])
    func alpn(offer: [UInt8]?) throws {
        let server = try TestServer(certificates: try certificates())
        #expect(throws: SocketClient.Failure.self) {
            let client = try SocketClient(port: server.port, tls: ClientTLS.Options(alpn: offer))
            try client.pump { false }
        }
        #expect(server.eventually { server.server.statistics.handshakesFailed == 1 })
        #expect(server.eventually { server.server.statistics.connectionsOpen == 0 })
        let good = try SocketClient(port: server.port, tls: ClientTLS.Options())
        #expect(try good.unary("/echo", [1]).status == "0")
    }

    @Test("The minimum version is held")
    func minimumVersion() throws {
        let strict = try TestServer(certificates: try certificates(TLSOptions(minimumVersion: .v1_3)))
        #expect(throws: SocketClient.Failure.handshake) {
            try SocketClient(port: strict.port, tls: ClientTLS.Options(maximumVersion: TLS1_2_VERSION))
        }
        let usual = try TestServer(certificates: try certificates())
        #expect(throws: SocketClient.Failure.handshake) {
            try SocketClient(port: usual.port, tls: ClientTLS.Options(maximumVersion: TLS1_1_VERSION))
        }
    }

    @Test("Cleartext at the TLS port is cut off")
    func cleartext() throws {
        let server = try TestServer(certificates: try certificates())
        let client = try SocketClient(port: server.port)
        #expect(throws: SocketClient.Failure.closed) { try client.unary("/echo", [1]) }
        #expect(server.server.statistics.handshakesFailed == 1)
    }

    @Test("Changed files are served to new connections; bad ones change nothing and are told once")
    func reload() throws {
        let folder = try Folder()
        let reloads = Log<TLSReload>()
        let server = try TestServer(
            certificates: try certificates(TLSOptions(certificateFolder: folder.path)),
            reloads: reloads
        )
        let first = try SocketClient(port: server.port, tls: ClientTLS.Options())
        try folder.write()
        #expect(server.eventually { reloads.all == [.reloaded] })
        let second = try SocketClient(port: server.port, tls: ClientTLS.Options())
        #expect(second.certificateDigest != first.certificateDigest)
        #expect(try first.unary("/echo", [1]).status == "0")

        try folder.write("tls.key", "no key")
        #expect(server.eventually { reloads.all.count == 2 })
        usleep(1_200_000)
        let told = reloads.all
        guard told.count == 2, case .failed = told[1] else {
            Issue.record("told \(told)")
            return
        }
        let third = try SocketClient(port: server.port, tls: ClientTLS.Options())
        #expect(third.certificateDigest == second.certificateDigest)
    }

    @Test("Files that are absent, bad, or do not fit each other are errors at start")
    func badFiles() throws {
        #expect(throws: TLSError.self) { try certificates(TLSOptions(certificateFolder: "/nonexistent")) }
        let folder = try Folder()
        _ = try certificates(TLSOptions(certificateFolder: folder.path))
        let key = try String(contentsOf: URL(filePath: "\(folder.path)/tls.key"), encoding: .utf8)
        try folder.write()
        try folder.write("tls.key", key)
        #expect(throws: TLSError.self) { try certificates(TLSOptions(certificateFolder: folder.path)) }
        try folder.write("tls.crt", "garbage")
        #expect(throws: TLSError.self) { try certificates(TLSOptions(certificateFolder: folder.path)) }
    }

    @Test("Ciphertext in pieces of any size", arguments: [1, 3, 100, 5000])
    func pieces(bytes: Int) throws {
        let sockets = FailingSockets(.receiveEnd, callNumber: .max, pieceBytes: bytes)
        let server = try TestServer(certificates: try certificates()) { $0.sockets = sockets }
        let client = try SocketClient(port: server.port, tls: ClientTLS.Options())
        let message = (0..<3000).map { UInt8(truncatingIfNeeded: $0) }
        #expect(try client.unary("/echo", message).messages == [message])
    }

    @Test("A drained connection ends cleanly")
    func drain() throws {
        let server = try TestServer(certificates: try certificates())
        let client = try SocketClient(port: server.port, tls: ClientTLS.Options())
        #expect(try client.unary("/echo", [1]).status == "0")
        let isDone = Flag()
        server.server.drain(grace: .milliseconds(100), timeout: .seconds(10)) { isDone.set() }
        #expect(throws: SocketClient.Failure.closed) { try client.pump { false } }
        #expect(server.eventually { isDone.isSet })
        #expect(server.server.statistics.connectionsFailed == 0)
    }
}
