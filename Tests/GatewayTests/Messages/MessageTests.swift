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

    @Test("A message that would take far more memory than it has bytes is refused")
    func memory() throws {
        // Empty headers take two bytes each on the wire, and some hundred decoded.
        var inner = WireWriter()
        for _ in 0..<200_000 { inner.data(1, []) }
        var headers = WireWriter()
        headers.data(1, inner.bytes)
        var message = WireWriter()
        message.data(2, headers.bytes)
        let bench = try Bench()
        try bench.send(message.bytes)
        #expect(bench.call.status?.code == .invalidArgument)
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

    @Test("Answers inside answers: the arena gives each its own memory")
    func nestedScopes() {
        let arena = MessageArena()
        for size in [8, 1_000, 70_000, MessageArena.blockSize] {
            arena.scope {
                let outer = unsafe arena.take(size)
                unsafe outer.initializeMemory(as: UInt8.self, repeating: 1, count: size)
                arena.scope {
                    let inner = unsafe arena.take(size)
                    #expect(unsafe inner != outer)
                    unsafe inner.initializeMemory(as: UInt8.self, repeating: 2, count: size)
                }
                #expect(unsafe outer.load(as: UInt8.self) == 1)
                #expect(unsafe outer.load(fromByteOffset: size - 1, as: UInt8.self) == 1)
            }
        }
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
