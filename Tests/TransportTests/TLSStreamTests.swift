// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import COpenSSL
import TestSupport
import Testing

@testable import Transport

/// A client that speaks TLS in memory.
@safe private final class MemoryClient {
    private let context: OpaquePointer
    private let ssl: OpaquePointer
    private let incoming: OpaquePointer
    private let outgoing: OpaquePointer

    init() throws {
        unsafe context = try #require(unsafe SSL_CTX_new(TLS_client_method()))
        unsafe ssl = try #require(unsafe SSL_new(context))
        unsafe incoming = try #require(unsafe BIO_new(BIO_s_mem()))
        unsafe outgoing = try #require(unsafe BIO_new(BIO_s_mem()))
        unsafe SSL_set_bio(ssl, incoming, outgoing)
        let offer = [2] + Array("h2".utf8)
        unsafe SSL_set_alpn_protos(ssl, offer, UInt32(offer.count))
    }

    deinit {
        unsafe SSL_free(ssl)
        unsafe SSL_CTX_free(context)
    }

    /// One step of the handshake. - Returns: whether it is over.
    func handshake() -> Bool { unsafe SSL_connect(ssl) == 1 }

    func write(_ plaintext: [UInt8]) {
        #expect(unsafe SSL_write(ssl, plaintext, CInt(plaintext.count)) == plaintext.count)
    }

    func close() { unsafe SSL_shutdown(ssl) }

    func takeOutput() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: unsafe BIO_ctrl_pending(outgoing))
        let count = unsafe BIO_read(outgoing, &bytes, CInt(bytes.count))
        return Array(bytes.prefix(Int(max(0, count))))
    }

    /// Takes ciphertext, and returns what it says.
    func read(_ ciphertext: [UInt8]) -> [UInt8] {
        unsafe BIO_write(incoming, ciphertext, CInt(ciphertext.count))
        var plaintext: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16 << 10)
        while case let count = unsafe SSL_read(ssl, &buffer, CInt(buffer.count)), count > 0 {
            plaintext += buffer.prefix(Int(count))
        }
        return plaintext
    }
}

@Suite("TLS in memory")
struct TLSStreamTests {
    /// Feeds the stream in pieces that `size` cuts, and returns the plaintext in them.
    private func feed(
        _ stream: TLSStream,
        _ ciphertext: [UInt8],
        buffer: Int,
        _ size: () -> Int
    ) -> [UInt8] {
        var plaintext: [UInt8] = []
        var room = [UInt8](repeating: 0, count: buffer)
        var rest = ciphertext[...]
        while !rest.isEmpty {
            let piece = Array(rest.prefix(max(1, size())))
            rest = rest.dropFirst(piece.count)
            unsafe piece.withUnsafeBytes { piece in
                unsafe room.withUnsafeMutableBytes { room in
                    unsafe stream.receive(piece, buffer: room) { plaintext += unsafe Array($0) }
                }
            }
        }
        return plaintext
    }

    private func takeOutput(_ stream: TLSStream) -> [UInt8] {
        let bytes = unsafe Array(stream.outgoing)
        stream.sent(bytes.count)
        return bytes
    }

    @Test("Records cut anywhere: the same plaintext both ways, and the end is heard", arguments: 0..<24)
    func pieces(seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        // The first rounds: byte by byte, whole; then anything.
        let largest = [1, 1 << 20, 5, 21, 22, 300, 16_384, 40_000][Int(seed % 8)]
        let room = [1 << 17, 1000, 1][Int(seed / 8)]
        func size() -> Int { largest == 1 ? 1 : Int.random(in: 1...largest, using: &random) }
        let stream = try TLSStream(try TLSContext(selfSignedFor: ["localhost"], minimumVersion: .v1_2))
        let client = try MemoryClient()
        var isConnected = false
        for _ in 0..<10 where !isConnected {
            isConnected = client.handshake()
            #expect(feed(stream, client.takeOutput(), buffer: room, size).isEmpty)
            #expect(client.read(takeOutput(stream)).isEmpty)
        }
        #expect(isConnected)
        #expect(stream.state == .established)
        for round in 0..<4 {
            var sent: [UInt8] = []
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                let count = Int.random(in: 1...(round == 3 ? 40_000 : 400), using: &random)
                let plaintext = (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) }
                client.write(plaintext)
                sent += plaintext
            }
            #expect(feed(stream, client.takeOutput(), buffer: room, size) == sent)
            unsafe sent.withUnsafeBytes { unsafe stream.send($0) }
            #expect(client.read(takeOutput(stream)) == sent)
        }
        client.close()
        #expect(feed(stream, client.takeOutput(), buffer: room, size).isEmpty)
        #expect(stream.state == .ended)
    }

    @Test("A record that was changed on its way ends the stream, and leaves no error behind for the next")
    func forged() throws {
        let context = try TLSContext(selfSignedFor: ["localhost"], minimumVersion: .v1_2)
        for _ in 0..<2 {
            let stream = try TLSStream(context)
            let client = try MemoryClient()
            for _ in 0..<10 where stream.state == .handshaking {
                _ = client.handshake()
                _ = feed(stream, client.takeOutput(), buffer: 1 << 17) { 1 << 20 }
                _ = client.read(takeOutput(stream))
            }
            client.write([1, 2, 3])
            #expect(feed(stream, client.takeOutput(), buffer: 1 << 17) { 1 << 20 } == [1, 2, 3])
            client.write([4, 5, 6])
            var record = client.takeOutput()
            record[record.count - 1] ^= 1
            #expect(feed(stream, record, buffer: 1 << 17) { 1 << 20 }.isEmpty)
            #expect(stream.state == .failed)
            #expect(stream.failure != nil)
            #expect(ERR_peek_error() == 0)
        }
    }
}
