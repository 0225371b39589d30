// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CNghttp2

/// The header fields of our responses, and how they are handed to nghttp2.
enum ResponseFields {
    /// Longest grpc-message sent, after percent-encoding.
    static let maxMessageBytes = 1024

    /// HTTP 200 and the promise of messages: the call's queue follows.
    static func submitStart(_ raw: OpaquePointer, _ call: GRPCServerCall) {
        var provider = unsafe provider(of: call)
        withFields(2) { fields in
            fields.add(":status", "200")
            fields.add("content-type", "application/grpc")
            unsafe nghttp2_submit_response(raw, call.streamID, fields.start, fields.count, &provider)
        }
    }

    /// The head of a page: the call's queue follows, and is all.
    static func submitPage(_ raw: OpaquePointer, _ call: GRPCServerCall, status: Int, contentType: String) {
        var provider = unsafe provider(of: call)
        let status = Array("\(status)".utf8)
        let contentType = Array(contentType.utf8)
        unsafe status.withUnsafeBufferPointer { status in
            unsafe contentType.withUnsafeBufferPointer { contentType in
                withFields(3) { fields in
                    unsafe fields.add(":status", copying: status)
                    unsafe fields.add("content-type", copying: contentType)
                    fields.add("cache-control", "no-cache, private")
                    unsafe nghttp2_submit_response(raw, call.streamID, fields.start, fields.count, &provider)
                }
            }
        }
    }

    private static func provider(of call: GRPCServerCall) -> nghttp2_data_provider {
        var provider = unsafe nghttp2_data_provider()
        unsafe provider.source.ptr = Unmanaged.passUnretained(call).toOpaque()
        unsafe provider.read_callback = { _, _, _, limit, flags, source, _ in
            guard let call = unsafe source?.pointee.ptr, let flags = unsafe flags else {
                return Int(NGHTTP2_ERR_CALLBACK_FAILURE.rawValue)
            }
            return unsafe Unmanaged<GRPCServerCall>.fromOpaque(call)._withUnsafeGuaranteedRef { call in
                switch call.nextPiece(upTo: limit) {
                case .wait: return Int(NGHTTP2_ERR_DEFERRED.rawValue)
                case .send(let count, let isLast, let hasTrailers):
                    unsafe flags.pointee = NGHTTP2_DATA_FLAG_NO_COPY.rawValue
                    if isLast { unsafe flags.pointee |= NGHTTP2_DATA_FLAG_EOF.rawValue }
                    if isLast, hasTrailers { unsafe flags.pointee |= NGHTTP2_DATA_FLAG_NO_END_STREAM.rawValue }
                    return count
                }
            }
        }
        return unsafe provider
    }

    static func submitTrailers(_ raw: OpaquePointer, _ streamID: Int32, _ status: GRPCStatus) {
        withStatus(status) { fields in
            unsafe nghttp2_submit_trailer(raw, streamID, fields.start, fields.count)
        }
    }

    /// A response without messages: headers and trailers in one.
    static func submitTrailersOnly(_ raw: OpaquePointer, _ streamID: Int32, _ status: GRPCStatus) {
        withStatus(status, isWholeResponse: true) { fields in
            unsafe nghttp2_submit_response(raw, streamID, fields.start, fields.count, nil)
        }
    }

    /// An answer to what is no gRPC: a bare HTTP status.
    static func submitRejection(_ raw: OpaquePointer, _ streamID: Int32, httpStatus: Int) {
        withFields(2) { fields in
            fields.add(":status", httpStatus == 405 ? "405" : "415")
            unsafe nghttp2_submit_response(raw, streamID, fields.start, fields.count, nil)
        }
    }

    /// Percent-encodes all but printable ASCII (gRPC over HTTP/2, "Percent-Encoded"), cut at `maxMessageBytes`.
    static func percentEncoded(_ message: String) -> [UInt8] {
        let digits = Array("0123456789ABCDEF".utf8)
        var encoded: [UInt8] = []
        for byte in message.utf8 {
            let isPlain = byte >= 0x20 && byte <= 0x7E && byte != UInt8(ascii: "%")
            guard encoded.count + (isPlain ? 1 : 3) <= maxMessageBytes else { break }
            if isPlain {
                encoded.append(byte)
            } else {
                encoded += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return encoded
    }

    private static func withStatus(
        _ status: GRPCStatus,
        isWholeResponse: Bool = false,
        _ submit: (borrowing FieldList) -> Void
    ) {
        let message = status.message.isEmpty ? [] : percentEncoded(status.message)
        unsafe message.withUnsafeBufferPointer { message in
            withFields(5) { fields in
                if isWholeResponse {
                    fields.add(":status", "200")
                    fields.add("content-type", "application/grpc")
                    fields.add("grpc-accept-encoding", "identity,gzip")
                }
                fields.add("grpc-status", digits(of: status.code))
                if !message.isEmpty { unsafe fields.add("grpc-message", copying: message) }
                submit(fields)
            }
        }
    }

    private static func digits(of code: GRPCStatusCode) -> StaticString {
        switch code {
        case .ok: "0"
        case .cancelled: "1"
        case .unknown: "2"
        case .invalidArgument: "3"
        case .deadlineExceeded: "4"
        case .notFound: "5"
        case .resourceExhausted: "8"
        case .unimplemented: "12"
        case .internal: "13"
        case .unavailable: "14"
        }
    }

    private static func withFields(_ capacity: Int, _ body: (inout FieldList) -> Void) {
        unsafe withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: capacity) { room in
            var fields = unsafe FieldList(room)
            body(&fields)
        }
    }
}

/// Header fields in the form that nghttp2 reads. Lives inside one temporary allocation.
@safe private struct FieldList: ~Copyable {
    private let room: UnsafeMutableBufferPointer<nghttp2_nv>
    private(set) var count = 0

    /// nghttp2 copies names and values of constant strings never, others at once.
    private static let constant = UInt8(
        NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue | NGHTTP2_NV_FLAG_NO_COPY_VALUE.rawValue
    )
    private static let constantName = UInt8(NGHTTP2_NV_FLAG_NO_COPY_NAME.rawValue)

    init(_ room: UnsafeMutableBufferPointer<nghttp2_nv>) { unsafe self.room = room }

    var start: UnsafePointer<nghttp2_nv>? { unsafe UnsafePointer(room.baseAddress) }

    mutating func add(_ name: StaticString, _ value: StaticString) {
        unsafe add(name, value.utf8Start, value.utf8CodeUnitCount, Self.constant)
    }

    mutating func add(_ name: StaticString, copying value: UnsafeBufferPointer<UInt8>) {
        guard let start = value.baseAddress else { return }
        unsafe add(name, start, value.count, Self.constantName)
    }

    private mutating func add(_ name: StaticString, _ value: UnsafePointer<UInt8>, _ valueCount: Int, _ flags: UInt8) {
        unsafe room.initializeElement(
            at: count,
            to: nghttp2_nv(
                name: UnsafeMutablePointer(mutating: name.utf8Start),
                value: UnsafeMutablePointer(mutating: value),
                namelen: name.utf8CodeUnitCount,
                valuelen: valueCount,
                flags: flags
            )
        )
        count += 1
    }
}
