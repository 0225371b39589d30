// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import TestSupport
import Testing

@Suite("Health service")
struct HealthServiceTests {
    private let service = HealthService([("", true), ("envoy.service.ext_proc.v3.ExternalProcessor", false)])

    /// A call by hand: what it was answered.
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

    private func ask(_ method: String, _ request: [UInt8]?) -> (call: Call, handler: (any GRPCCallHandler)?) {
        let call = Call()
        let handler = service.handler(path: "/grpc.health.v1.Health/\(method)", call: call)
        if let request { unsafe request.withUnsafeBytes { unsafe handler?.received($0) } }
        handler?.remoteEnded()
        return (call, handler)
    }

    private func named(_ service: String) -> [UInt8] { [0x0A, UInt8(service.utf8.count)] + Array(service.utf8) }

    @Test("Check: serving, not serving, not found")
    func check() {
        let whole = ask("Check", []).call
        #expect(whole.messages == [[0x08, 1]])
        #expect(whole.status == .ok)
        let extProc = ask("Check", named("envoy.service.ext_proc.v3.ExternalProcessor")).call
        #expect(extProc.messages == [[0x08, 2]])
        let other = ask("Check", named("other")).call
        #expect(other.messages.isEmpty)
        #expect(other.status?.code == .notFound)
    }

    @Test("Check skips fields that it does not know, and takes the last of a repeated one")
    func unknownFields() {
        let before: [UInt8] = [0x10, 0xFF, 0x01, 0x19, 1, 2, 3, 4, 5, 6, 7, 8, 0x25, 1, 2, 3, 4, 0x32, 2, 9, 9]
        #expect(ask("Check", before + named("other") + named("")).call.messages == [[0x08, 1]])
    }

    @Test(
        "Malformed requests are refused",
        arguments: [
            [0x0A], [0x0A, 5, 1], [0x0A, 0xFF], [0x00, 1], [0x0B], [0x19, 1], [0x25],
            [0x08] + Array(repeating: 0xFF, count: 11), [0x0A] + Array(repeating: 0xFF, count: 9) + [1],
        ] as [[UInt8]]
    )
    func malformed(request: [UInt8]) {
        let call = ask("Check", request).call
        #expect(call.messages.isEmpty)
        #expect(call.status?.code == .internal)
    }

    @Test("No request, two requests, a name without end, an unknown method")
    func unusual() {
        #expect(ask("Check", nil).call.status?.code == .internal)
        let name: [UInt8] = [0x0A, 0x81, 0x08] + Array(repeating: UInt8(ascii: "x"), count: 1025)
        #expect(ask("Check", name).call.status?.code == .invalidArgument)
        let (call, handler) = ask("Watch", [])
        unsafe [UInt8]().withUnsafeBytes { unsafe handler?.received($0) }
        #expect(call.status?.code == .invalidArgument)
        #expect(service.handler(path: "/grpc.health.v1.Health/Other", call: Call()) == nil)
    }

    @Test("List names every service with its state")
    func list() {
        let name = "envoy.service.ext_proc.v3.ExternalProcessor"
        let call = ask("List", []).call
        let first: [UInt8] = [0x0A, 6, 0x0A, 0, 0x12, 2, 0x08, 1]
        let second: [UInt8] = [0x0A, UInt8(name.utf8.count + 6)] + named(name) + [0x12, 2, 0x08, 2]
        #expect(call.messages == [first + second])
        #expect(call.status == .ok)
    }

    @Test("Watch tells the state, then each change, and forgets who left")
    func watch() {
        let (call, handler) = ask("Watch", [])
        let (other, _) = ask("Watch", named("later"))
        #expect(call.messages == [[0x08, 1]])
        #expect(other.messages == [[0x08, 3]])
        service.set("", isServing: true)
        service.set("", isServing: false)
        service.set("later", isServing: true)
        #expect(call.messages == [[0x08, 1], [0x08, 2]])
        #expect(other.messages == [[0x08, 3], [0x08, 1]])
        handler?.closed(.connectionLost)
        service.setAll(isServing: true)
        #expect(call.messages.count == 2)
        #expect(call.status == nil)
    }

    @Test("Beside another service on one connection")
    func composed() throws {
        let recording = RecordingService()
        let session = try HTTP2Session(service: ServiceList([recording, service]))
        let client = HTTP2TestClient()
        let ids = ["/grpc.health.v1.Health/Check", "/echo/Echo", "/neither"].map { client.open($0) }
        for id in ids {
            client.sendMessage(id, [])
            client.end(id)
        }
        let bytes = client.takeOutput()
        try unsafe bytes.withUnsafeBytes { try unsafe session.receive($0) }
        _ = try session.fillOutput(upTo: 1 << 20)
        client.receive(unsafe Array(session.outputBytes))
        #expect(ids.map(client.grpcStatus) == ["0", "0", "12"])
        #expect(client.messages(ids[0]) == [[0x08, 1]])
        session.connectionClosed()
    }
}
