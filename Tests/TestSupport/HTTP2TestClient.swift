// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CNghttp2

/// An HTTP/2 client without sockets, over nghttp2: the peer of the server's session in tests.
@safe package final class HTTP2TestClient {
    /// What came back on one stream.
    package struct Stream {
        package var fields: [String: String] = [:]
        package var trailers: [String: String] = [:]
        package var data: [UInt8] = []
        package var remoteEnded = false
        package var closeCode: UInt32?

        package init() {}
    }

    package private(set) var streams: [Int32: Stream] = [:]
    /// The last stream id of each GOAWAY, in order.
    package private(set) var goAways: [Int32] = []
    package private(set) var settings: [Int32: UInt32] = [:]
    package private(set) var lastError: String?

    fileprivate var bodies: [Int32: Body] = [:]
    private let raw: OpaquePointer

    fileprivate struct Body {
        var waiting: ArraySlice<UInt8> = []
        var isLast = false
    }

    /// - Parameters:
    ///   - window: bytes per stream that the server may send before we read.
    ///   - updatesWindows: false: the windows given at first are all that the server ever gets.
    package init(window: UInt32 = 1 << 20, updatesWindows: Bool = true) {
        var callbacks: OpaquePointer?
        unsafe nghttp2_session_callbacks_new(&callbacks)
        defer { unsafe nghttp2_session_callbacks_del(callbacks) }
        unsafe registerClientCallbacks(callbacks)
        var option: OpaquePointer?
        unsafe nghttp2_option_new(&option)
        defer { unsafe nghttp2_option_del(option) }
        unsafe nghttp2_option_set_no_auto_window_update(option, updatesWindows ? 0 : 1)
        var session: OpaquePointer?
        unsafe nghttp2_session_client_new2(&session, callbacks, nil, option)
        guard let session = unsafe session else { preconditionFailure("out of memory") }
        unsafe raw = session
        unsafe nghttp2_session_set_user_data(session, Unmanaged.passUnretained(self).toOpaque())
        let entries = [
            nghttp2_settings_entry(
                settings_id: Int32(NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE.rawValue),
                value: window
            )
        ]
        unsafe nghttp2_submit_settings(session, 0, entries, entries.count)
        if updatesWindows { unsafe nghttp2_session_set_local_window_size(session, 0, 0, 64 << 20) }
    }

    deinit { unsafe nghttp2_session_del(raw) }

    /// Opens a gRPC call. Its body is what `send` adds, until `end`.
    @discardableResult
    package func open(
        _ path: String,
        method: String = "POST",
        contentType: String? = "application/grpc",
        authority: String = "test",
        extra: [(String, String)] = []
    ) -> Int32 {
        var fields = [(":method", method), (":scheme", "http"), (":authority", authority), (":path", path)]
        if let contentType { fields.append(("content-type", contentType)) }
        fields += [("te", "trailers")] + extra
        var provider = unsafe nghttp2_data_provider()
        unsafe provider.read_callback = readBody
        let id = unsafe withFields(fields) { start, count in
            unsafe nghttp2_submit_request(raw, nil, start, count, &provider, nil)
        }
        guard id > 0 else {
            lastError = "submit_request: \(id)"
            return id
        }
        streams[id] = Stream()
        bodies[id] = Body()
        return id
    }

    package func send(_ id: Int32, _ bytes: [UInt8]) {
        bodies[id]?.waiting += bytes
        unsafe nghttp2_session_resume_data(raw, id)
    }

    /// One gRPC message with its prefix.
    package func sendMessage(_ id: Int32, _ message: [UInt8], compressed: Bool = false) {
        send(id, Self.framed(message, compressed: compressed))
    }

    package func end(_ id: Int32) {
        bodies[id]?.isLast = true
        unsafe nghttp2_session_resume_data(raw, id)
    }

    package func reset(_ id: Int32, _ code: UInt32) { unsafe nghttp2_submit_rst_stream(raw, 0, id, code) }

    package func ping() { unsafe nghttp2_submit_ping(raw, 0, nil) }

    /// Reads `count` bytes of a stream: gives the server so much window again.
    package func consume(_ id: Int32, _ count: Int) { unsafe nghttp2_session_consume(raw, id, count) }

    package func receive(_ bytes: [UInt8]) {
        let taken = unsafe nghttp2_session_mem_recv(raw, bytes, bytes.count)
        if taken < 0 { lastError = "mem_recv: \(taken)" }
    }

    /// All that is to be sent now.
    package func takeOutput() -> [UInt8] {
        var output: [UInt8] = []
        while true {
            var start: UnsafePointer<UInt8>?
            let count = unsafe nghttp2_session_mem_send(raw, &start)
            guard count > 0 else { return output }
            unsafe output.append(contentsOf: UnsafeBufferPointer(start: start, count: Int(count)))
        }
    }

    /// Whether the server said that it takes no further streams, and none is open.
    package var isFinished: Bool {
        unsafe nghttp2_session_want_read(raw) == 0 && nghttp2_session_want_write(raw) == 0
    }

    // MARK: gRPC framing

    package static func framed(_ message: [UInt8], compressed: Bool = false) -> [UInt8] {
        let count = UInt32(message.count)
        return [compressed ? 1 : 0] + [24, 16, 8, 0].map { UInt8(truncatingIfNeeded: count >> $0) } + message
    }

    /// The messages that came back on a stream, as far as they are whole.
    package func messages(_ id: Int32) -> [[UInt8]] {
        var rest = streams[id]?.data[...] ?? []
        var found: [[UInt8]] = []
        while rest.count >= 5 {
            let count = rest.dropFirst().prefix(4).reduce(0) { $0 << 8 | Int($1) }
            guard rest.count >= 5 + count else { break }
            found.append(Array(rest.dropFirst(5).prefix(count)))
            rest = rest.dropFirst(5 + count)
        }
        return found
    }

    /// The grpc-status that ended a stream, in trailers or in a response without messages.
    package func grpcStatus(_ id: Int32) -> String? {
        streams[id]?.trailers["grpc-status"] ?? streams[id]?.fields["grpc-status"]
    }

    // MARK: What the callbacks tell

    fileprivate func field(_ id: Int32, isTrailer: Bool, _ name: String, _ value: String) {
        if isTrailer { streams[id]?.trailers[name] = value } else { streams[id]?.fields[name] = value }
    }

    fileprivate func data(_ id: Int32, _ bytes: UnsafeBufferPointer<UInt8>) {
        unsafe streams[id]?.data.append(contentsOf: bytes)
    }

    fileprivate func ended(_ id: Int32) { streams[id]?.remoteEnded = true }
    fileprivate func closed(_ id: Int32, _ code: UInt32) {
        streams[id]?.closeCode = code
        bodies[id] = nil
    }
    fileprivate func goAway(_ last: Int32) { goAways.append(last) }
    fileprivate func setting(_ id: Int32, _ value: UInt32) { settings[id] = value }

    fileprivate func nextBody(
        _ id: Int32,
        _ room: UnsafeMutableBufferPointer<UInt8>,
        _ flags: inout UInt32
    ) -> Int {
        guard let body = bodies[id] else { return Int(NGHTTP2_ERR_DEFERRED.rawValue) }
        let count = min(room.count, body.waiting.count)
        unsafe _ = room.update(fromContentsOf: body.waiting.prefix(count))
        bodies[id]?.waiting = body.waiting.dropFirst(count)
        if count == body.waiting.count, body.isLast {
            flags |= NGHTTP2_DATA_FLAG_EOF.rawValue
            return count
        }
        return count > 0 ? count : Int(NGHTTP2_ERR_DEFERRED.rawValue)
    }
}

private func withClient(_ user: UnsafeMutableRawPointer?, _ body: (HTTP2TestClient) -> Void) {
    guard let user = unsafe user else { return }
    body(unsafe Unmanaged<HTTP2TestClient>.fromOpaque(user).takeUnretainedValue())
}

private func readBody(
    _: OpaquePointer?,
    id: Int32,
    room: UnsafeMutablePointer<UInt8>?,
    count: Int,
    flags: UnsafeMutablePointer<UInt32>?,
    _: UnsafeMutablePointer<nghttp2_data_source>?,
    user: UnsafeMutableRawPointer?
) -> Int {
    var result = Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)
    guard let flags = unsafe flags else { return result }
    unsafe withClient(user) { client in
        result = unsafe client.nextBody(id, UnsafeMutableBufferPointer(start: room, count: count), &flags.pointee)
    }
    return result
}

private func registerClientCallbacks(_ callbacks: OpaquePointer?) {
    unsafe nghttp2_session_callbacks_set_on_header_callback(callbacks) {
        _,
        frame,
        name,
        nameCount,
        value,
        valueCount,
        _,
        user in
        guard let frame = unsafe frame else { return 0 }
        let isTrailer = unsafe frame.pointee.headers.cat == NGHTTP2_HCAT_HEADERS
        let name = unsafe String(decoding: UnsafeBufferPointer(start: name, count: nameCount), as: UTF8.self)
        let value = unsafe String(decoding: UnsafeBufferPointer(start: value, count: valueCount), as: UTF8.self)
        unsafe withClient(user) { unsafe $0.field(frame.pointee.hd.stream_id, isTrailer: isTrailer, name, value) }
        return 0
    }
    unsafe nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) { _, _, id, data, count, user in
        unsafe withClient(user) { unsafe $0.data(id, UnsafeBufferPointer(start: data, count: count)) }
        return 0
    }
    unsafe nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { _, id, code, user in
        unsafe withClient(user) { $0.closed(id, code) }
        return 0
    }
    unsafe nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { _, frame, user in
        guard let frame = unsafe frame else { return 0 }
        unsafe withClient(user) { client in
            let kind = unsafe UInt32(frame.pointee.hd.type)
            if kind == NGHTTP2_GOAWAY.rawValue { unsafe client.goAway(frame.pointee.goaway.last_stream_id) }
            if kind == NGHTTP2_SETTINGS.rawValue {
                for index in 0..<(unsafe frame.pointee.settings.niv) {
                    let entry = unsafe frame.pointee.settings.iv[index]
                    client.setting(entry.settings_id, entry.value)
                }
            }
            let ends = unsafe UInt32(frame.pointee.hd.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0
            if ends, kind == NGHTTP2_DATA.rawValue || kind == NGHTTP2_HEADERS.rawValue {
                unsafe client.ended(frame.pointee.hd.stream_id)
            }
        }
        return 0
    }
}

private func withFields<Result>(
    _ fields: [(String, String)],
    _ body: (UnsafePointer<nghttp2_nv>, Int) -> Result
) -> Result {
    let texts = fields.map { (Array($0.utf8), Array($1.utf8)) }
    let flat = texts.flatMap { $0 + $1 }
    return unsafe flat.withUnsafeBufferPointer { flat in
        var list: [nghttp2_nv] = unsafe []
        var offset = 0
        for (name, value) in texts {
            guard let start = flat.baseAddress else { continue }
            unsafe list.append(
                nghttp2_nv(
                    name: UnsafeMutablePointer(mutating: start + offset),
                    value: UnsafeMutablePointer(mutating: start + offset + name.count),
                    namelen: name.count,
                    valuelen: value.count,
                    flags: 0
                )
            )
            offset += name.count + value.count
        }
        return unsafe body(list, list.count)
    }
}
