// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import Gateway

/// Bodies that a connection sends from where they lie.
@Suite("Lent bodies")
struct LentBodiesTests {
    private static func body(_ count: Int, _ random: inout SplitMix64) -> SharedBytes? {
        var body = PaddedBytes()
        unsafe randomBytes(count, &random).withUnsafeBytes { unsafe body.append($0) }
        return body.share()
    }

    /// Sends what waits in pieces as a busy socket takes it. - Returns: how many bytes of `bodies` were lent.
    private static func carry(
        _ session: HTTP2Session,
        to client: HTTP2TestClient,
        _ bodies: [SharedBytes],
        _ random: inout SplitMix64
    ) throws -> Int {
        var lent = 0
        var isMore = true
        while isMore || session.hasOutput {
            isMore = try session.fillOutput(upTo: 64 << 10)
            guard session.hasOutput else { break }
            var taken: [UInt8] = []
            var limit = random.next() % 3 == 0 ? .max : Int(random.next() % 30_000) + 1
            unsafe withUnsafeTemporaryAllocation(of: UnsafeRawBufferPointer.self, capacity: 8) { pieces in
                for index in 0..<(unsafe session.lendOutput(pieces)) {
                    let piece = unsafe pieces[index]
                    let part = unsafe Array(piece.prefix(limit))
                    if bodies.contains(where: { unsafe holds($0, piece) }) { lent += part.count }
                    taken += part
                    limit -= part.count
                }
            }
            session.outputSent(taken.count)
            client.receive(taken)
        }
        try unsafe client.takeOutput().withUnsafeBytes { try unsafe session.receive($0) }
        return lent
    }

    private static func holds(_ body: SharedBytes, _ piece: UnsafeRawBufferPointer) -> Bool {
        guard let start = piece.baseAddress, let first = unsafe body.bytes.baseAddress else { return false }
        return unsafe start >= first && start < first + body.bytes.count
    }

    @Test("Bodies arrive whole, and are not copied on the way", arguments: [true, false], UInt64(0)..<10)
    func order(lendsBodies: Bool, seed: UInt64) throws {
        var random = SplitMix64(seed: seed)
        let service = RecordingService()
        let client = HTTP2TestClient(window: seed % 2 == 0 ? 1 << 20 : 40_000)
        let session = try HTTP2Session(service: service, lendsBodies: lendsBodies)
        let ids = (0..<3).map { _ in client.open("/hold/Process") }
        _ = try Self.carry(session, to: client, [], &random)
        try unsafe client.takeOutput().withUnsafeBytes { try unsafe session.receive($0) }
        var expected = ids.map { _ in [[UInt8]]() }
        var bodies: [SharedBytes] = []
        for _ in 0..<20 {
            let index = Int(random.next() % 3)
            let (head, tail) = (randomBytes(Int(random.next() % 100), &random), randomBytes(2, &random))
            let body = try #require(Self.body(20_000 + Int(random.next() % 60_000), &random))
            bodies.append(body)
            unsafe head.withUnsafeBytes { head in
                unsafe tail.withUnsafeBytes { tail in
                    unsafe service.calls[index].call.send(head, body.bytes, of: body, tail)
                }
            }
            unsafe expected[index].append(head + Array(body.bytes) + tail)
        }
        var lent = 0
        while !ids.indices.allSatisfy({ client.messages(ids[$0]).count == expected[$0].count }) {
            let before = client.streams.values.reduce(0) { $0 + $1.data.count }
            lent += try Self.carry(session, to: client, bodies, &random)
            let after = client.streams.values.reduce(0) { $0 + $1.data.count }
            try #require(after > before, "nothing moves")
        }
        for index in ids.indices { #expect(client.messages(ids[index]) == expected[index]) }
        let total = bodies.reduce(0) { unsafe $0 + $1.bytes.count }
        // Ends of frames are shorter than what is worth lending.
        if lendsBodies { #expect(lent > total * 2 / 3) } else { #expect(lent == 0) }
    }

    @Test("A connection that ends lets go of the bodies in its output")
    func end() throws {
        var random = SplitMix64(seed: 1)
        let service = RecordingService()
        let client = HTTP2TestClient()
        var session: HTTP2Session? = try HTTP2Session(service: service, lendsBodies: true)
        _ = client.open("/hold/Process")
        try unsafe client.takeOutput().withUnsafeBytes { try unsafe session?.receive($0) }
        var body = Self.body(100_000, &random)
        weak let watched = body
        if let body {
            let empty = unsafe UnsafeRawBufferPointer(start: nil, count: 0)
            unsafe service.calls[0].call.send(empty, body.bytes, of: body, empty)
        }
        _ = try session?.fillOutput(upTo: 64 << 10)
        body = nil
        #expect(watched != nil)
        session?.connectionClosed()
        session = nil
        #expect(watched == nil)
    }
}
