// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Glibc
import Locks
import TestSupport

/// An HTTP/1.1 server for tests on a port of its own, with answers that no well-behaved server gives.
@safe final class PageServer: Sendable {
    enum Answer: Sendable {
        case page(String, status: Int = 200)
        /// Says nothing until the client gives up.
        case hang
        /// Closes the connection without an answer.
        case close
        /// Sends without end.
        case endless
        /// Bytes as they are, then closes.
        case raw(String)
        /// A page in pieces with pauses between them.
        case slow(String, piece: Int, milliseconds: UInt32)
    }

    private struct State {
        var requests = 0
        var connections = 0
        var open: [CInt] = []
        var isStopped = false
    }

    let port: UInt16
    private let listener: CInt
    /// Not a Swift `Mutex`: see `Guarded`.
    private let state = Guarded(State())
    private let answer: @Sendable (_ path: String, _ number: Int) -> Answer

    var requests: Int { state.withLock { $0.requests } }
    var connections: Int { state.withLock { $0.connections } }

    /// `answer` gets the path and the number of the request, from 0.
    init(answer: @escaping @Sendable (_ path: String, _ number: Int) -> Answer) throws {
        self.answer = answer
        (listener, port) = try LoopbackSocket.listen()
        start()
    }

    /// Closes every socket: clients see the end at once, later ones are refused.
    func stop() {
        let open = state.withLock { state in
            state.isStopped = true
            defer { state.open = [] }
            return state.open
        }
        shutdown(listener, Int32(SHUT_RDWR))
        Glibc.close(listener)
        for file in open { shutdown(file, Int32(SHUT_RDWR)) }
    }

    private func start() {
        Self.detach { [self] in
            while true {
                let file = accept(listener, nil, nil)
                guard file >= 0 else { return }
                state.withLock { state in
                    state.connections += 1
                    state.open.append(file)
                }
                Self.detach { [self] in serve(file) }
            }
        }
    }

    private static func detach(_ body: @escaping @Sendable () -> Void) {
        final class Box: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        var thread = pthread_t()
        let box = unsafe Unmanaged.passRetained(Box(body)).toOpaque()
        unsafe pthread_create(
            &thread,
            nil,
            { context in
                guard let context = unsafe context else { return nil }
                unsafe Unmanaged<Box>.fromOpaque(context).takeRetainedValue().body()
                return nil
            },
            box
        )
        _ = pthread_detach(thread)
    }

    private func serve(_ file: CInt) {
        defer {
            let isOpen = state.withLock { state in
                let isOpen = state.open.contains(file)
                state.open.removeAll { $0 == file }
                return isOpen || state.isStopped
            }
            if isOpen { Glibc.close(file) }
        }
        var request: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe read(file, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            request += buffer[..<count]
            guard request.suffix(4) == [13, 10, 13, 10] else { continue }
            let parts = String(decoding: request, as: UTF8.self).split(separator: " ")
            request = []
            let number = state.withLock { state in
                defer { state.requests += 1 }
                return state.requests
            }
            guard parts.count > 1, respond(file, answer(String(parts[1]), number)) else { return }
        }
    }

    /// - Returns: false where the connection is over.
    private func respond(_ file: CInt, _ answer: Answer) -> Bool {
        switch answer {
        case .page(let body, let status):
            return send(file, "HTTP/1.1 \(status) X\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)")
        case .hang:
            var byte: UInt8 = 0
            _ = unsafe read(file, &byte, 1)
            return false
        case .close: return false
        case .raw(let bytes):
            _ = send(file, bytes)
            return false
        case .endless:
            guard send(file, "HTTP/1.1 200 OK\r\n\r\n") else { return false }
            let line = String(repeating: "# HELP vllm:num_requests_waiting without end\n", count: 1000)
            while send(file, line) {}
            return false
        case .slow(let body, let piece, let milliseconds):
            guard send(file, "HTTP/1.1 200 OK\r\ncontent-length: \(body.utf8.count)\r\n\r\n") else { return false }
            var rest = Substring(body)
            while !rest.isEmpty {
                guard send(file, String(rest.prefix(piece))) else { return false }
                rest = rest.dropFirst(piece)
                usleep(milliseconds * 1000)
            }
            return true
        }
    }

    private func send(_ file: CInt, _ text: String) -> Bool {
        LoopbackSocket.send(text.utf8, to: file)
    }
}
