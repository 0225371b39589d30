// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CZlib
import Gateway
import TestSupport
import Testing

/// Compresses as a gRPC client does.
func gzipped(_ bytes: [UInt8]) -> [UInt8] {
    var stream = unsafe z_stream()
    let size = unsafe CInt(MemoryLayout<z_stream>.size)
    unsafe deflateInit2_(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY, ZLIB_VERSION, size)
    defer { unsafe deflateEnd(&stream) }
    var input = bytes
    var output = [UInt8](repeating: 0, count: Int(unsafe deflateBound(&stream, UInt(bytes.count))))
    let count = unsafe input.withUnsafeMutableBufferPointer { input in
        unsafe output.withUnsafeMutableBufferPointer { output in
            unsafe stream.next_in = input.baseAddress
            unsafe stream.avail_in = UInt32(input.count)
            unsafe stream.next_out = output.baseAddress
            unsafe stream.avail_out = UInt32(output.count)
            unsafe deflate(&stream, Z_FINISH)
            return unsafe output.count - Int(stream.avail_out)
        }
    }
    return Array(output.prefix(count))
}

@Suite("gRPC framing")
struct GRPCFramingTests {
    /// Sends raw bytes on one call, and says how it ended on both sides.
    private func outcome(
        _ pieces: [[UInt8]],
        limits: HTTP2Limits = HTTP2Limits(),
        extra: [(String, String)] = []
    ) throws -> (status: String?, events: [RecordingService.Event]) {
        let pair = try SessionPair(limits: limits)
        let neighbour = pair.client.open("/echo/Neighbour")
        let id = pair.client.open("/echo/Echo", extra: extra)
        for piece in pieces {
            pair.client.send(id, piece)
            try pair.exchange()
        }
        pair.client.end(id)
        pair.client.sendMessage(neighbour, [1])
        pair.client.end(neighbour)
        try pair.exchange()
        #expect(pair.client.grpcStatus(neighbour) == "0")
        #expect(pair.session.openCalls == 0)
        return (pair.client.grpcStatus(id), pair.service.calls[1].events)
    }

    @Test("The largest message is taken, one byte more is not")
    func messageLimit() throws {
        var limits = HTTP2Limits()
        limits.maxMessageBytes = 1000
        let fits = try outcome([HTTP2TestClient.framed(Array(repeating: 1, count: 1000))], limits: limits)
        #expect(fits.status == "0")
        let tooLarge = try outcome([HTTP2TestClient.framed(Array(repeating: 1, count: 1001))], limits: limits)
        #expect(tooLarge.status == "8")
        let status = GRPCStatus(.resourceExhausted, "message of 1001 bytes, at most 1000 are taken")
        #expect(tooLarge.events == [.closed(.violated(status))])
    }

    @Test("A message of the default limit passes, in pieces of any size")
    func fourMegabytes() throws {
        let pair = try SessionPair()
        let message = Array(repeating: UInt8(5), count: HTTP2Limits().maxMessageBytes)
        let id = try pair.unary("/hold/Process", [message])
        #expect(pair.service.calls[0].messages == [message])
        #expect(pair.client.streams[id]?.closeCode == nil)
    }

    @Test("A length that only claims to be large costs no memory, and is refused at once")
    func hugeLength() throws {
        let result = try outcome([[0, 0xFF, 0xFF, 0xFF, 0xFF]])
        #expect(result.status == "8")
    }

    @Test("A compressed flag of 2 is no gRPC")
    func badFlag() throws {
        #expect(try outcome([[2, 0, 0, 0, 0]]).status == "13")
    }

    @Test("A stream that ends inside a message, or inside its prefix", arguments: [[0, 0], [0, 0, 0, 0, 9, 1]])
    func truncated(bytes: [UInt8]) throws {
        let result = try outcome([bytes])
        #expect(result.status == "13")
        #expect(result.events == [.closed(.violated(GRPCStatus(.internal, "stream ended inside a message")))])
    }

    @Test("A violation after answers: those go out whole, then the status")
    func violationAfterAnswers() throws {
        let pair = try SessionPair()
        let id = pair.client.open("/echo/Echo")
        pair.client.send(id, HTTP2TestClient.framed([1, 2]) + [7, 0, 0, 0, 0])
        try pair.exchange()
        #expect(pair.client.messages(id) == [[1, 2]])
        #expect(pair.client.grpcStatus(id) == "13")
    }

    // MARK: Compression

    @Test("gzip messages are taken, plain ones between them too")
    func gzip() throws {
        let pair = try SessionPair()
        let id = pair.client.open("/echo/Echo", extra: [("grpc-encoding", "gzip")])
        let text = Array(repeating: UInt8(ascii: "a"), count: 100_000)
        pair.client.sendMessage(id, gzipped(text), compressed: true)
        pair.client.sendMessage(id, [1])
        pair.client.sendMessage(id, gzipped([]), compressed: true)
        pair.client.end(id)
        try pair.exchange()
        #expect(pair.service.calls[0].messages == [text, [1], []])
        #expect(pair.client.grpcStatus(id) == "0")
    }

    @Test("A small message that becomes a large one is refused")
    func bomb() throws {
        let bomb = gzipped(Array(repeating: 0, count: (4 << 20) + 1))
        let result = try outcome(
            [HTTP2TestClient.framed(bomb, compressed: true)],
            extra: [("grpc-encoding", "gzip")]
        )
        #expect(result.status == "8")
        #expect(result.events.count == 1)
    }

    @Test(
        "Bad gzip is refused",
        arguments: [[], [1, 2, 3], Array(gzipped([1, 2, 3]).dropLast()), gzipped([1]) + [0]]
    )
    func badGzip(bytes: [UInt8]) throws {
        let result = try outcome(
            [HTTP2TestClient.framed(bytes, compressed: true)],
            extra: [("grpc-encoding", "gzip")]
        )
        #expect(result.status == "13")
    }

    @Test("A compressed message without grpc-encoding is refused")
    func compressedWithoutEncoding() throws {
        #expect(try outcome([HTTP2TestClient.framed(gzipped([1]), compressed: true)]).status == "13")
    }

    @Test("An unknown compression is not implemented, and the known ones are named")
    func unknownEncoding() throws {
        let pair = try SessionPair()
        let id = pair.client.open("/echo/Echo", extra: [("grpc-encoding", "snappy")])
        try pair.exchange()
        #expect(pair.client.grpcStatus(id) == "12")
        #expect(pair.client.streams[id]?.fields["grpc-accept-encoding"] == "identity,gzip")
        #expect(pair.service.calls.isEmpty)
    }

    // MARK: Requests

    @Test("Unknown methods are not implemented; what is no gRPC gets an HTTP status")
    func requests() throws {
        let pair = try SessionPair()
        let unknown = pair.client.open("/some.Service/Method")
        let plain = pair.client.open("/echo/Echo", contentType: "application/json")
        let absent = pair.client.open("/echo/Echo", contentType: nil)
        let lookalike = pair.client.open("/echo/Echo", contentType: "application/grpcish")
        let get = pair.client.open("/echo/Echo", method: "GET")
        let long = pair.client.open("/echo" + String(repeating: "x", count: 5000))
        let withFormat = pair.client.open("/echo/Echo", contentType: "application/grpc+proto")
        try pair.exchange()
        #expect(pair.client.grpcStatus(unknown) == "12")
        #expect(pair.client.streams[unknown]?.fields["grpc-message"] == "unknown method /some.Service/Method")
        for id in [plain, absent, lookalike] { #expect(pair.client.streams[id]?.fields[":status"] == "415") }
        #expect(pair.client.streams[get]?.fields[":status"] == "405")
        #expect(pair.client.grpcStatus(long) == "12")
        #expect(pair.client.streams[withFormat]?.closeCode == nil)
        #expect(pair.service.calls.count == 1)
        // Each that was refused is closed, so that it does not count against the limit of streams.
        #expect(pair.session.openCalls == 1)
    }
}
