// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import TestSupport
import Testing

/// KEDA's calls, over an HTTP/2 session without sockets, however the bytes are cut.
@Suite("External scaler")
struct ExternalScalerServiceTests {
    private struct Source: ExternalScalerSource {
        func metric(of object: ScaledObject) throws(GRPCStatus) -> (name: String, target: Double) {
            guard let text = object.metadata["targetValue"] else { return ("replicas", 1) }
            guard let target = Double(text) else { throw GRPCStatus(.invalidArgument, "no number") }
            return ("replicas", target)
        }

        func value(of object: ScaledObject) throws(GRPCStatus) -> Double { object.metadata["pool"] == "p" ? 3.5 : 0 }

        func isActive(_ object: ScaledObject) throws(GRPCStatus) -> Bool { object.metadata["pool"] == "p" }
    }

    private static func field(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] {
        [number << 3 | 2, UInt8(bytes.count)] + bytes
    }

    private static func object(_ metadata: [(String, String)]) -> [UInt8] {
        var bytes = field(1, Array("decode".utf8)) + field(2, Array("ns".utf8))
        for (key, value) in metadata { bytes += field(3, field(1, Array(key.utf8)) + field(2, Array(value.utf8))) }
        return bytes
    }

    private struct Outcome: Equatable {
        var answers: [[[UInt8]]]
        var statuses: [String?]
    }

    private func run(cuts: (Int) -> [Int]) throws -> Outcome {
        let client = HTTP2TestClient()
        let pool = Self.object([("pool", "p"), ("targetValue", "2")])
        let requests: [(String, [UInt8])] = [
            ("IsActive", pool),
            ("IsActive", Self.object([])),
            ("GetMetricSpec", pool),
            ("GetMetricSpec", Self.object([("targetValue", "many")])),
            ("GetMetrics", Self.field(1, pool) + Self.field(2, Array("s0-replicas".utf8))),
            ("GetMetrics", []),
            ("IsActive", [0x0A, 200]),
            ("Unknown", pool),
        ]
        let ids = requests.map { method, message in
            let id = client.open("/externalscaler.ExternalScaler/\(method)")
            client.sendMessage(id, message)
            client.end(id)
            return id
        }
        let bytes = client.takeOutput()
        let session = try HTTP2Session(service: ExternalScalerService(Source()))
        var start = 0
        for end in cuts(bytes.count) + [bytes.count] {
            let piece = Array(bytes[start..<end])
            try unsafe piece.withUnsafeBytes { try unsafe session.receive($0) }
            start = end
            while try session.fillOutput(upTo: 1 << 20) {}
            client.receive(unsafe Array(session.outputBytes))
            session.outputSent(unsafe session.outputBytes.count)
        }
        session.connectionClosed()
        return Outcome(answers: ids.map(client.messages), statuses: ids.map(client.grpcStatus))
    }

    @Test("Each method answers what the source says; what is malformed is refused by itself")
    func answers() throws {
        let outcome = try run { _ in [] }
        #expect(outcome.statuses == ["0", "0", "0", "3", "0", "0", "3", "12"])
        #expect(outcome.answers[0] == [[0x08, 1]])
        // proto3 leaves false out.
        #expect(outcome.answers[1] == [[]])
        let two: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0x40]
        let specification = Self.field(1, Array("replicas".utf8)) + [0x10, 2, 0x19] + two
        #expect(outcome.answers[2] == [Self.field(1, specification)])
        let threeAndAHalf: [UInt8] = [0, 0, 0, 0, 0, 0, 0x0C, 0x40]
        let value = Self.field(1, Array("s0-replicas".utf8)) + [0x10, 4, 0x19] + threeAndAHalf
        #expect(outcome.answers[4] == [Self.field(1, value)])
        #expect(outcome.answers[5] == [Self.field(1, Self.field(1, Array("replicas".utf8)))])
    }

    @Test("In pieces of one byte, and in all splits in two")
    func splits() throws {
        let expected = try run { _ in [] }
        #expect(try run { Array(1..<$0) } == expected)
        var count = 0
        _ = try run {
            count = $0; return []
        }
        for cut in 1..<count {
            guard try run(cuts: { _ in [cut] }) != expected else { continue }
            Issue.record("differs when cut at \(cut) of \(count)")
            return
        }
    }

    /// A call by hand.
    private final class Call: GRPCCall {
        var messages: [[UInt8]] = []
        var status: GRPCStatus?

        func send(size: Int, _ write: (UnsafeMutableRawBufferPointer) -> Void) {
            var bytes = [UInt8](repeating: 0, count: size)
            unsafe bytes.withUnsafeMutableBytes { unsafe write($0) }
            messages.append(bytes)
        }

        func finish(_ status: GRPCStatus) { if self.status == nil { self.status = status } }
    }

    /// `@unchecked Sendable`: used by the test's thread alone.
    private final class Switch: ExternalScalerSource, @unchecked Sendable {
        var isOn = false

        func metric(of object: ScaledObject) throws(GRPCStatus) -> (name: String, target: Double) { ("m", 1) }
        func value(of object: ScaledObject) throws(GRPCStatus) -> Double { 0 }
        func isActive(_ object: ScaledObject) throws(GRPCStatus) -> Bool { isOn }
    }

    @Test("A stream hears the state, then changes, then the end; streams are bounded")
    func stream() {
        let source = Switch()
        let service = ExternalScalerService(source)
        func open() -> (Call, (any GRPCCallHandler)?) {
            let call = Call()
            let handler = service.handler(path: "/externalscaler.ExternalScaler/StreamIsActive", call: call)
            unsafe Self.object([]).withUnsafeBytes { unsafe handler?.received($0) }
            return (call, handler)
        }
        let (call, handler) = open()
        service.refresh()
        source.isOn = true
        service.refresh()
        service.refresh()
        #expect(call.messages == [[], [0x08, 1]])
        var others = (1..<ExternalScalerService.maximumStreams).map { _ in open() }
        #expect(open().0.status?.code == .resourceExhausted)
        handler?.closed(.connectionLost)
        others.append(open())
        #expect(others.last?.0.status == nil)
        service.endStreams()
        #expect(others.allSatisfy { $0.0.status?.code == .unavailable } && call.status == nil)
    }
}
