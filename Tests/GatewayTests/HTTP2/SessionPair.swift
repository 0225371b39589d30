// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import TestSupport

/// A service that writes down what it hears, per stream in the order of opening, and can answer in several ways.
final class RecordingService: GRPCService {
    enum Event: Hashable, CustomStringConvertible {
        case message(count: Int, hash: Int)
        case remoteEnded
        case closed(GRPCCallEnd)

        var description: String {
            switch self {
            case .message(let count, _): "message(\(count))"
            case .remoteEnded: "remoteEnded"
            case .closed(let end): "closed(\(end))"
            }
        }
    }

    final class Recorder: GRPCCallHandler {
        let path: String
        let call: any GRPCCall
        private let echoes: Bool
        private(set) var events: [Event] = []
        private(set) var messages: [[UInt8]] = []

        init(_ path: String, _ call: any GRPCCall, echoes: Bool) {
            self.path = path
            self.call = call
            self.echoes = echoes
        }

        func received(_ message: UnsafeRawBufferPointer) {
            let bytes = unsafe Array(message)
            messages.append(bytes)
            events.append(.message(count: bytes.count, hash: bytes.hashValue))
            if echoes { unsafe call.send(size: bytes.count) { room in unsafe room.copyBytes(from: bytes) } }
        }

        func remoteEnded() {
            events.append(.remoteEnded)
            if echoes { call.finish(.ok) }
        }

        func closed(_ end: GRPCCallEnd) { events.append(.closed(end)) }
    }

    private(set) var calls: [Recorder] = []

    var events: [[Event]] { calls.map(\.events) }

    /// `/echo…` sends each message back, `/hold…` says nothing of its own.
    func handler(path: String, call: any GRPCCall) -> (any GRPCCallHandler)? {
        guard path.hasPrefix("/echo") || path.hasPrefix("/hold") else { return nil }
        let recorder = Recorder(path, call, echoes: path.hasPrefix("/echo"))
        calls.append(recorder)
        return recorder
    }
}

/// A client's and a server's session, joined without sockets.
final class SessionPair {
    let client: HTTP2TestClient
    let service = RecordingService()
    let session: HTTP2Session
    private(set) var outputAnnouncements = 0

    init(
        limits: HTTP2Limits = HTTP2Limits(),
        client: HTTP2TestClient = HTTP2TestClient(),
        budget: BodyBudget? = nil
    ) throws {
        self.client = client
        session = try HTTP2Session(service: service, limits: limits, budget: budget)
        session.onOutput = { [unowned self] in outputAnnouncements += 1 }
        try exchange()
    }

    /// Carries bytes both ways until neither side has any.
    func exchange() throws {
        while true {
            let toServer = client.takeOutput()
            let toClient = try takeServerOutput()
            if toServer.isEmpty, toClient.isEmpty { return }
            if !toClient.isEmpty { client.receive(toClient) }
            if !toServer.isEmpty { try feed(toServer) }
        }
    }

    func feed(_ bytes: [UInt8]) throws {
        try unsafe bytes.withUnsafeBytes { try unsafe session.receive($0) }
    }

    func takeServerOutput() throws -> [UInt8] {
        var output: [UInt8] = []
        var isMore = true
        while isMore {
            isMore = try session.fillOutput(upTo: 64 << 10)
            unsafe output += unsafe session.outputBytes
            session.outputSent(unsafe session.outputBytes.count)
        }
        return output
    }

    /// Opens a call, sends `messages`, ends it, and carries all bytes.
    @discardableResult
    func unary(_ path: String, _ messages: [[UInt8]]) throws -> Int32 {
        let id = client.open(path)
        for message in messages { client.sendMessage(id, message) }
        client.end(id)
        try exchange()
        return id
    }
}

/// Bytes that do not compress and differ from call to call.
func randomBytes(_ count: Int, _ rng: inout SplitMix64) -> [UInt8] {
    (0..<count).map { _ in UInt8.random(in: 0...255, using: &rng) }
}
