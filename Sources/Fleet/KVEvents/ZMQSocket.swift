// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CZMQ
internal import Glibc

/// What libzmq refused, and why.
package struct ZMQError: Error, Hashable, CustomStringConvertible {
    package var operation: String
    package var code: Int32

    package init(_ operation: String) {
        self.operation = operation
        code = zmq_errno()
    }

    package var description: String {
        let reason = unsafe String(cString: zmq_strerror(code))
        return "\(operation): \(reason)"
    }
}

/// A libzmq context: the thread and memory that sockets share.
@safe final class ZMQContext: Sendable {
    // Safe and Sendable: contexts are thread-safe (zmq_ctx_new(3)), and sockets keep theirs alive.
    nonisolated(unsafe) let raw: UnsafeMutableRawPointer

    init() throws(ZMQError) {
        guard let raw = unsafe zmq_ctx_new() else { throw ZMQError("zmq_ctx_new") }
        unsafe self.raw = unsafe raw
        // A fleet of a thousand publishers, each with a socket for events and at times one for replay.
        unsafe zmq_ctx_set(raw, ZMQ_MAX_SOCKETS, 4_096)
    }

    deinit { unsafe zmq_ctx_term(raw) }
}

/// One ZeroMQ socket. For one thread at a time, with a lock or a hand-over between two.
@safe final class ZMQSocket {
    // Safe: closed once, by deinit.
    let raw: UnsafeMutableRawPointer
    private let context: ZMQContext

    /// Larger messages end the connection: engines publish what one step stored, 0.7 MB for a prompt of 128,000 tokens.
    private static let maxMessageBytes: Int64 = 16 << 20
    private static let reconnectMilliseconds: (first: Int32, most: Int32) = (100, 10_000)

    init(_ context: ZMQContext, type: Int32) throws(ZMQError) {
        guard let raw = unsafe zmq_socket(context.raw, type) else { throw ZMQError("zmq_socket") }
        unsafe self.raw = unsafe raw
        self.context = context
        set(ZMQ_LINGER, Int32(0))
        set(ZMQ_IPV6, Int32(1))
        set(ZMQ_RECONNECT_IVL, Self.reconnectMilliseconds.first)
        set(ZMQ_RECONNECT_IVL_MAX, Self.reconnectMilliseconds.most)
        set(ZMQ_MAXMSGSIZE, Self.maxMessageBytes)
        set(ZMQ_TCP_KEEPALIVE, Int32(1))
        set(ZMQ_TCP_KEEPALIVE_IDLE, Int32(30))
        set(ZMQ_TCP_KEEPALIVE_INTVL, Int32(10))
        set(ZMQ_TCP_KEEPALIVE_CNT, Int32(3))
    }

    deinit { unsafe zmq_close(raw) }

    func set<Value: FixedWidthInteger>(_ option: Int32, _ value: Value) {
        unsafe withUnsafePointer(to: value) { _ = unsafe zmq_setsockopt(raw, option, $0, MemoryLayout<Value>.size) }
    }

    func subscribe(_ prefix: String) {
        let bytes = Array(prefix.utf8)
        unsafe bytes.withUnsafeBytes { _ = unsafe zmq_setsockopt(raw, ZMQ_SUBSCRIBE, $0.baseAddress, bytes.count) }
    }

    func connect(_ endpoint: String) throws(ZMQError) {
        guard unsafe zmq_connect(raw, endpoint) == 0 else { throw ZMQError("connect \(endpoint)") }
    }

    func bind(_ endpoint: String) throws(ZMQError) {
        guard unsafe zmq_bind(raw, endpoint) == 0 else { throw ZMQError("bind \(endpoint)") }
    }

    /// Where the socket was bound last, with the port that the system chose.
    var lastEndpoint: String {
        var buffer = [CChar](repeating: 0, count: 256)
        var size = buffer.count
        guard unsafe zmq_getsockopt(raw, ZMQ_LAST_ENDPOINT, &buffer, &size) == 0 else { return "" }
        return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Sends a message of several frames. False where it was dropped, because the peer is gone or too slow.
    func send(_ frames: [[UInt8]]) -> Bool {
        for (index, frame) in frames.enumerated() {
            let flags = ZMQ_DONTWAIT | (index + 1 < frames.count ? ZMQ_SNDMORE : 0)
            let sent = unsafe frame.withUnsafeBytes { unsafe zmq_send(raw, $0.baseAddress, $0.count, flags) }
            guard sent >= 0 else { return false }
        }
        return true
    }

    /// The next message, or nil where none is there. Of more than `maxFrames` frames the first are kept.
    func receive() -> [[UInt8]]? {
        var frames: [[UInt8]] = []
        while true {
            var message = zmq_msg_t()
            unsafe zmq_msg_init(&message)
            defer { unsafe zmq_msg_close(&message) }
            guard unsafe zmq_msg_recv(&message, raw, ZMQ_DONTWAIT) >= 0 else { return frames.isEmpty ? nil : frames }
            if frames.count < Self.maxFrames {
                let size = unsafe zmq_msg_size(&message)
                let data = unsafe zmq_msg_data(&message)
                unsafe frames.append(Array(UnsafeRawBufferPointer(start: data, count: size)))
            }
            if unsafe zmq_msg_more(&message) == 0 { return frames }
        }
    }

    /// More than any message of the protocol has.
    private static let maxFrames = 8
}

/// Waits until one of several sockets can be read.
enum ZMQPoll {
    /// - Returns: the places of the sockets that can be read.
    static func wait(_ sockets: [ZMQSocket], milliseconds: Int) -> [Int] {
        var items = unsafe sockets.map {
            unsafe zmq_pollitem_t(socket: $0.raw, fd: 0, events: Int16(ZMQ_POLLIN), revents: 0)
        }
        // Without sockets zmq_poll sleeps.
        guard unsafe zmq_poll(&items, Int32(items.count), milliseconds) > 0 else { return [] }
        return sockets.indices.filter { unsafe items[$0].revents & Int16(ZMQ_POLLIN) != 0 }
    }
}
