// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CNghttp2

/// The functions that nghttp2 calls: each finds the session or the call by its pointer, and tells it.
///
/// The closures capture nothing, and are formed outside of any actor: they run on whatever thread drives the session.
enum SessionCallbacks {
    static func makeServerSession() throws(HTTP2Error) -> OpaquePointer {
        var callbacks: OpaquePointer?
        try unsafe HTTP2Error.check(nghttp2_session_callbacks_new(&callbacks))
        defer { unsafe nghttp2_session_callbacks_del(callbacks) }
        unsafe register(callbacks)

        var option: OpaquePointer?
        try unsafe HTTP2Error.check(nghttp2_option_new(&option))
        defer { unsafe nghttp2_option_del(option) }
        // Windows follow what was consumed, not what was received.
        unsafe nghttp2_option_set_no_auto_window_update(option, 1)
        unsafe nghttp2_option_set_no_closed_streams(option, 1)
        // RequestForm says why, and does it instead.
        unsafe nghttp2_option_set_no_http_messaging(option, 1)
        unsafe nghttp2_option_set_stream_reset_rate_limit(option, StreamResetRate.burst, StreamResetRate.perSecond)

        var session: OpaquePointer?
        try unsafe HTTP2Error.check(nghttp2_session_server_new2(&session, callbacks, nil, option))
        guard let session = unsafe session else { throw .outOfMemory }
        return unsafe session
    }

    /// Says which session the callbacks belong to.
    static func setOwner(_ raw: OpaquePointer, _ owner: UnsafeMutableRawPointer) {
        unsafe nghttp2_session_set_user_data(raw, owner)
    }

    private static func register(_ callbacks: OpaquePointer?) {
        unsafe nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks) { _, frame, user in
            guard let frame = unsafe frame, unsafe isRequest(frame) else { return 0 }
            unsafe withSession(user) { unsafe $0.streamOpened(frame.pointee.hd.stream_id) }
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_header_callback(callbacks) {
            raw,
            frame,
            name,
            nameCount,
            value,
            valueCount,
            _,
            _ in
            guard let frame = unsafe frame, unsafe isRequest(frame) else { return 0 }
            var isWellFormed = true
            unsafe withCall(raw, frame.pointee.hd.stream_id) {
                isWellFormed = unsafe $0.header(
                    name: UnsafeBufferPointer(start: name, count: nameCount),
                    value: UnsafeBufferPointer(start: value, count: valueCount)
                )
            }
            guard !isWellFormed else { return 0 }
            unsafe nghttp2_submit_rst_stream(
                raw,
                UInt8(NGHTTP2_FLAG_NONE.rawValue),
                frame.pointee.hd.stream_id,
                NGHTTP2_PROTOCOL_ERROR.rawValue
            )
            return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE.rawValue
        }
        unsafe nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks) {
            raw,
            _,
            streamID,
            data,
            count,
            user in
            let bytes = unsafe UnsafeRawBufferPointer(start: data, count: count)
            unsafe withSession(user) { $0.consumed(count) }
            unsafe withCall(raw, streamID) { unsafe $0.received(bytes) }
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks) { raw, frame, _ in
            guard let frame = unsafe frame else { return 0 }
            let kind = unsafe UInt32(frame.pointee.hd.type)
            guard kind == NGHTTP2_HEADERS.rawValue || kind == NGHTTP2_DATA.rawValue else { return 0 }
            let (isRequest, endsStream) = unsafe (isRequest(frame), endsStream(frame))
            // Most frames of data are neither.
            guard isRequest || endsStream else { return 0 }
            unsafe withCall(raw, frame.pointee.hd.stream_id) { call in
                if isRequest { call.requestComplete() }
                if endsStream { call.remoteHalfClosed() }
            }
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_stream_close_callback(callbacks) { raw, streamID, errorCode, user in
            unsafe withCall(raw, streamID) { call in
                unsafe withSession(user) { $0.streamClosed(call, errorCode: errorCode) }
            }
            return 0
        }
        unsafe nghttp2_session_callbacks_set_on_frame_send_callback(callbacks) { raw, frame, _ in
            guard let frame = unsafe frame,
                unsafe UInt32(frame.pointee.hd.type) == NGHTTP2_HEADERS.rawValue, unsafe endsStream(frame)
            else { return 0 }
            unsafe withCall(raw, frame.pointee.hd.stream_id) { $0.trailersSent() }
            return 0
        }
        unsafe nghttp2_session_callbacks_set_send_data_callback(callbacks) { _, _, header, count, source, user in
            guard let header = unsafe header, let call = unsafe source?.pointee.ptr else {
                return NGHTTP2_ERR_CALLBACK_FAILURE.rawValue
            }
            unsafe Unmanaged<GRPCServerCall>.fromOpaque(call)._withUnsafeGuaranteedRef { call in
                unsafe withSession(user) { unsafe $0.send(frameHeader: header, from: call, count) }
            }
            return 0
        }
    }
}

private func isRequest(_ frame: UnsafePointer<nghttp2_frame>) -> Bool {
    unsafe UInt32(frame.pointee.hd.type) == NGHTTP2_HEADERS.rawValue
        && frame.pointee.headers.cat == NGHTTP2_HCAT_REQUEST
}

private func endsStream(_ frame: UnsafePointer<nghttp2_frame>) -> Bool {
    unsafe UInt32(frame.pointee.hd.flags) & NGHTTP2_FLAG_END_STREAM.rawValue != 0
}

/// The session outlives its nghttp2 session, whose pointer to it is therefore good.
private func withSession(_ user: UnsafeMutableRawPointer?, _ body: (HTTP2Session) -> Void) {
    guard let user = unsafe user else { return }
    unsafe Unmanaged<HTTP2Session>.fromOpaque(user)._withUnsafeGuaranteedRef(body)
}

/// The session holds each call from the stream's opening until its close was told, so the pointer is good.
private func withCall(_ raw: OpaquePointer?, _ streamID: Int32, _ body: (GRPCServerCall) -> Void) {
    guard let call = unsafe nghttp2_session_get_stream_user_data(raw, streamID) else { return }
    unsafe Unmanaged<GRPCServerCall>.fromOpaque(call)._withUnsafeGuaranteedRef(body)
}
