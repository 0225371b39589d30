// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router
import TestSupport
import Testing

@testable import Gateway

@Suite("Message codec")
struct MessageTests {
    @Test("Malformed protobuf ends that call with INVALID_ARGUMENT, and touches no other")
    func malformed() throws {
        let good = EnvoyMessage.requestHeaders()
        for count in 1..<good.count {
            let bench = try Bench()
            let other = FakeCall()
            let neighbour = try #require(bench.service.handler(path: ExtProcService.path, call: other))
            try bench.send(Array(good.prefix(count)))
            let isPrefixValid = (try? WireMessage(good.prefix(count))) != nil
            #expect(bench.call.status?.code == (isPrefixValid ? nil : .invalidArgument), "\(count) bytes")
            unsafe good.withUnsafeBytes { unsafe neighbour.received($0) }
            let body = EnvoyMessage.requestBody(ExchangeTests.body, endOfStream: true)
            unsafe body.withUnsafeBytes { unsafe neighbour.received($0) }
            #expect(other.sent.count == 2)
            #expect(other.status == nil)
        }
    }

    @Test("Unknown fields and unknown phases are ignored")
    func unknown() throws {
        let bench = try Bench()
        var message = WireWriter()
        message.message(99) { $0.text(1, "new") }
        message.number(15, 1)
        #expect(try bench.send(message.bytes) == [])
        #expect(try bench.send([]) == [])
        message.bytes += EnvoyMessage.requestHeaders(endOfStream: true)
        #expect(try bench.send(message.bytes) == [ExchangeTests.routed])
        #expect(bench.call.status == nil)
    }

    @Test("Many empty headers are no trouble: they are read where they lie")
    func manyHeaders() throws {
        var inner = WireWriter()
        for _ in 0..<200_000 { inner.data(1, []) }
        var headers = WireWriter()
        headers.data(1, inner.bytes)
        headers.number(3, 1)
        var message = WireWriter()
        message.data(2, headers.bytes)
        let bench = try Bench()
        #expect(try bench.send(message.bytes) == [ExchangeTests.routed])
    }

    @Test(
        "A known field of another kind is refused, wherever it stands",
        arguments: [[2], [2, 1], [2, 1, 1], [4], [8], [8, 1], [8, 1, 2], [8, 1, 2, 1], [8, 1, 2, 1, 2], [11]]
            as [[UInt64]]
    )
    func wrongKind(path: [UInt64]) throws {
        // A number where a message belongs, at the end of the path.
        var writer = WireWriter()
        writer.number(path[path.count - 1], 5)
        for field in path.dropLast().reversed() {
            var outer = WireWriter()
            outer.data(field, writer.bytes)
            writer = outer
        }
        let bench = try Bench()
        try bench.send(writer.bytes)
        #expect(bench.call.status?.code == .invalidArgument)
    }

    @Test("Lengths and numbers that go beyond their message are refused")
    func beyond() throws {
        let huge = [UInt8](repeating: 0xFF, count: 9) + [0x01]
        let endless = [0x50] + [UInt8](repeating: 0x80, count: 11)
        for bytes in [[0x12] + huge, [0x12, 0x05, 0x0A], endless, [0x00, 0x00], [0x13]] {
            let bench = try Bench()
            try bench.send(bytes)
            #expect(bench.call.status?.code == .invalidArgument, "\(bytes)")
        }
    }

    @Test("Nesting cannot exhaust the stack")
    func nesting() throws {
        // A Struct in a Struct in a Struct: fields=1, value=2, struct_value=5.
        var value: [UInt8] = []
        for _ in 0..<20_000 {
            var writer = WireWriter()
            writer.bytes.reserveCapacity(value.count + 32)
            writer.message(5) { $0.message(1) { $0.data(2, value) } }
            value = writer.bytes
            guard value.count < 400_000 else { break }
        }
        let bench = try Bench()
        let message = EnvoyMessage.message(2) {
            $0.number(3, 1)
        } also: { writer in
            writer.message(8) { writer in
                writer.message(1) { writer in
                    writer.text(1, "envoy.lb.subset_hint")
                    writer.message(2) { writer in
                        writer.message(1) { writer in
                            writer.text(1, RoutingTests.hint)
                            writer.data(2, value)
                        }
                    }
                }
            }
        }
        #expect(try bench.send(message) == [ExchangeTests.routed])
        #expect(bench.picker.requests.map(\.subset) == [nil])
    }

    @Test("The bytes of a routed request, as Envoy's schema has them")
    func golden() throws {
        let bench = try Bench(ScriptedPicker(.route(Route(destinations: ["a:1"]))))
        try bench.send(EnvoyMessage.requestHeaders([(":path", "/")], endOfStream: true))
        var expected = WireWriter()
        expected.message(1) { writer in
            writer.message(1) { writer in
                writer.message(2) { writer in
                    writer.message(1) { writer in
                        writer.message(1) { writer in
                            writer.text(1, "x-gateway-destination-endpoint")
                            writer.text(3, "a:1")
                        }
                        writer.number(3, 2)
                    }
                    for name in HeaderNames.steering.dropFirst() { writer.text(2, name) }
                }
                writer.number(5, 1)
            }
        }
        expected.message(8) { writer in
            writer.message(1) { writer in
                writer.text(1, "envoy.lb")
                writer.message(2) { writer in
                    writer.message(5) { writer in
                        writer.message(1) { writer in
                            writer.text(1, "x-gateway-destination-endpoint")
                            writer.message(2) { $0.text(3, "a:1") }
                        }
                    }
                }
            }
        }
        #expect(bench.call.sent == [expected.bytes])
    }
}
