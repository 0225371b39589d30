// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CCurl
import Foundation
import Glibc
import Locks
import TestSupport

/// An API server that knows pods and nothing else: nodes are none, and every other kind is not installed. It lists and it
/// watches, and it can lose a connection at any byte. Everything else that may go wrong is Tests/EndToEnd/fake_api_server.py's.
final class SmallAPIServer: Sendable {
    private struct State {
        /// With the version that each came with.
        var pods: [(name: String, version: Int)] = []
        var version = 5
        var open: [CInt] = []
        var sent = 0
        var cut = Int.max
        var isStopped = false
        var tokens: [String] = []
    }

    let port: UInt16
    private let listener: CInt
    /// Not a Swift `Mutex`: see `Guarded`.
    private let state = Guarded(State())

    /// `cut`: the first bytes, over all connections, that are sent; the connection of the next one is reset instead of sending
    /// it, and all is well afterwards.
    init(pods: [String], cut: Int = .max) throws {
        (listener, port) = try LoopbackSocket.listen()
        state.withLock { state in
            state.pods = pods.map { ($0, 5) }
            state.cut = cut
        }
        Thread.detachNewThread { [self] in acceptConnections() }
    }

    /// Bytes of all answers.
    var sent: Int { state.withLock { $0.sent } }
    /// What requests had in their authorization header.
    var tokens: [String] { state.withLock { $0.tokens } }

    func add(_ pod: String) {
        state.withLock { state in
            state.version += 1
            state.pods.append((pod, state.version))
        }
    }

    func stop() {
        let open = state.withLock { state in
            state.isStopped = true
            return state.open
        }
        shutdown(listener, Int32(SHUT_RDWR))
        Glibc.close(listener)
        for file in open { shutdown(file, Int32(SHUT_RDWR)) }
    }

    private func acceptConnections() {
        while true {
            let file = accept(listener, nil, nil)
            guard file >= 0 else { return }
            state.withLock { $0.open.append(file) }
            Thread.detachNewThread { [self] in
                serve(file)
                state.withLock { $0.open.removeAll { $0 == file } }
                Glibc.close(file)
            }
        }
    }

    private func serve(_ file: CInt) {
        var request: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = unsafe buffer.withUnsafeMutableBytes { unsafe read(file, $0.baseAddress, $0.count) }
            guard count > 0 else { return }
            request += buffer[..<count]
            guard request.suffix(4) == [13, 10, 13, 10] else { continue }
            let text = String(decoding: request, as: UTF8.self)
            request = []
            let lines = text.split(separator: "\r\n")
            let target = lines.first?.split(separator: " ").dropFirst().first.map(String.init) ?? ""
            for line in lines where line.lowercased().hasPrefix("authorization: ") {
                state.withLock { $0.tokens.append(String(line.dropFirst("authorization: ".count))) }
            }
            guard respond(file, target) else { return }
        }
    }

    /// - Returns: false where the connection is over.
    private func respond(_ file: CInt, _ target: String) -> Bool {
        let isPods = target.hasPrefix("/api/v1/namespaces/default/pods")
        guard isPods || target.hasPrefix("/api/v1/nodes") else { return answer(file, 404, "404 page not found\n") }
        if target.contains("watch=1") {
            let since = target.firstMatch(of: /resourceVersion=(\d+)/).flatMap { Int($0.1) } ?? 0
            return watch(file, since: since, isPods: isPods)
        }
        let (pods, version) = state.withLock { ($0.pods, $0.version) }
        let items = isPods ? pods.map { Self.pod($0.name, $0.version) }.joined(separator: ",") : ""
        return answer(file, 200, "{\"metadata\":{\"resourceVersion\":\"\(version)\"},\"items\":[\(items)]}")
    }

    private static func pod(_ name: String, _ version: Int) -> String {
        """
        {"metadata":{"name":"\(name)","namespace":"default","resourceVersion":"\(version)"},"spec":{"containers":[]}}
        """
    }

    private func answer(_ file: CInt, _ status: Int, _ body: String) -> Bool {
        send(file, "HTTP/1.1 \(status) X\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)")
    }

    private func watch(_ file: CInt, since: Int, isPods: Bool) -> Bool {
        guard send(file, "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n") else { return false }
        var seen = since
        while true {
            let (pods, isStopped) = state.withLock { ($0.pods, $0.isStopped) }
            for pod in pods where isPods && pod.version > seen {
                seen = pod.version
                let line = "{\"type\":\"ADDED\",\"object\":\(Self.pod(pod.name, pod.version))}\n"
                guard send(file, String(line.utf8.count, radix: 16) + "\r\n" + line + "\r\n") else { return false }
            }
            var byte: UInt8 = 0
            // 0: the client has gone. Otherwise there is nothing to be read.
            let heard = unsafe recv(file, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
            if isStopped || heard == 0 || (heard < 0 && errno != EAGAIN) { return false }
            usleep(1000)
        }
    }

    private func send(_ file: CInt, _ text: String) -> Bool {
        let bytes = Array(text.utf8)
        let (allowed, isCut) = state.withLock { state in
            let left = state.cut - state.sent
            let isCut = left >= 0 && left < bytes.count
            let allowed = isCut ? left : bytes.count
            state.sent += isCut ? allowed + 1 : allowed
            return (allowed, isCut)
        }
        guard LoopbackSocket.send(bytes.prefix(allowed), to: file) else { return false }
        guard isCut else { return true }
        // The client shall have read what came before: a reset may overtake it.
        usleep(2000)
        var linger = linger(l_onoff: 1, l_linger: 0)
        unsafe setsockopt(file, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        return false
    }
}
