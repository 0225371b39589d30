// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CExtProc

/// One message from Envoy, lent for the time of one call. Its bytes lie in the arena that decoded it.
@safe struct ProcessingRequest: ~Copyable {
    enum Phase: Hashable {
        case requestHeaders, requestBody, requestTrailers, responseHeaders, responseBody, responseTrailers
        /// A phase that this picker does not know, or none at all.
        case unknown
    }

    /// Decoded, a header of some 40 bytes takes about four times its size; this is far above any honest message.
    private static let memoryPerByte = 16
    private static let memoryFloor = 1 << 20

    let phase: Phase
    private let message: UnsafePointer<Epp__ProcessingRequest>

    private init(_ message: UnsafePointer<Epp__ProcessingRequest>) {
        unsafe self.message = message
        phase =
            switch unsafe message.pointee.request_case {
            case EPP__PROCESSING_REQUEST__REQUEST_REQUEST_HEADERS: .requestHeaders
            case EPP__PROCESSING_REQUEST__REQUEST_REQUEST_BODY: .requestBody
            case EPP__PROCESSING_REQUEST__REQUEST_REQUEST_TRAILERS: .requestTrailers
            case EPP__PROCESSING_REQUEST__REQUEST_RESPONSE_HEADERS: .responseHeaders
            case EPP__PROCESSING_REQUEST__REQUEST_RESPONSE_BODY: .responseBody
            case EPP__PROCESSING_REQUEST__REQUEST_RESPONSE_TRAILERS: .responseTrailers
            default: .unknown
            }
    }

    /// Decodes `bytes` and lends the message to `body`.
    ///
    /// - Returns: false where the bytes are no such message; `body` is then not called.
    static func decode(
        _ bytes: UnsafeRawBufferPointer,
        in arena: MessageArena,
        _ body: (borrowing ProcessingRequest) -> Void
    ) -> Bool {
        arena.scope {
            let budget = bytes.count &* memoryPerByte &+ memoryFloor
            let message = unsafe arena.decoding(budget: budget) { allocator in
                unsafe epp__processing_request__unpack(
                    allocator,
                    bytes.count,
                    bytes.baseAddress?.assumingMemoryBound(to: UInt8.self)
                )
            }
            guard let message = unsafe message else { return false }
            body(unsafe ProcessingRequest(UnsafePointer(message)))
            return true
        }
    }

    /// True where Envoy only watches, and takes no answer.
    var isObservation: Bool { unsafe message.pointee.observability_mode != 0 }

    /// How bodies will come, where the message says so: on the first one of an exchange.
    var modes: BodyModes? {
        guard let configuration = unsafe message.pointee.protocol_config else { return nil }
        return unsafe BodyModes(
            request: BodyMode(wire: configuration.pointee.request_body_mode),
            response: BodyMode(wire: configuration.pointee.response_body_mode)
        )
    }

    var hasMetadata: Bool { unsafe message.pointee.metadata_context != nil }

    var endOfStream: Bool {
        switch phase {
        case .requestHeaders: unsafe message.pointee.request_headers?.pointee.end_of_stream != 0
        case .responseHeaders: unsafe message.pointee.response_headers?.pointee.end_of_stream != 0
        case .requestBody: unsafe message.pointee.request_body?.pointee.end_of_stream != 0
        case .responseBody: unsafe message.pointee.response_body?.pointee.end_of_stream != 0
        case .requestTrailers, .responseTrailers: true
        case .unknown: false
        }
    }

    /// The body's bytes; empty in other phases.
    var body: UnsafeRawBufferPointer {
        let body =
            switch phase {
            case .requestBody: unsafe message.pointee.request_body
            case .responseBody: unsafe message.pointee.response_body
            default: unsafe nil as UnsafeMutablePointer<Epp__HttpBody>?
            }
        guard let body = unsafe body else { return unsafe UnsafeRawBufferPointer(start: nil, count: 0) }
        return unsafe UnsafeRawBufferPointer(body.pointee.body)
    }

    /// Lends each header of a headers message: names in lower case, as Envoy sends them.
    func forEachHeader(_ body: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void) {
        let headers =
            switch phase {
            case .requestHeaders: unsafe message.pointee.request_headers
            case .responseHeaders: unsafe message.pointee.response_headers
            default: unsafe nil as UnsafeMutablePointer<Epp__HttpHeaders>?
            }
        guard let map = unsafe headers?.pointee.headers else { return }
        for index in 0..<(unsafe map.pointee.n_headers) {
            guard let header = unsafe map.pointee.headers[index] else { continue }
            // Envoy fills raw_value, older ones and other proxies value.
            let value = unsafe header.pointee.raw_value.len > 0 ? header.pointee.raw_value : header.pointee.value
            unsafe body(UnsafeRawBufferPointer(header.pointee.key), UnsafeRawBufferPointer(value))
        }
    }

    /// The strings under `key` in one namespace of the filter metadata: a list's strings, or one string.
    ///
    /// - Returns: nil where the namespace or the key is absent, or the value is of another kind.
    func metadata(namespace: String, key: String) -> [String]? {
        guard let metadata = unsafe message.pointee.metadata_context else { return nil }
        for index in 0..<(unsafe metadata.pointee.n_filter_metadata) {
            guard let entry = unsafe metadata.pointee.filter_metadata[index],
                unsafe entry.pointee.key.equals(string: namespace),
                let fields = unsafe entry.pointee.value
            else { continue }
            for index in 0..<(unsafe fields.pointee.n_fields) {
                guard let field = unsafe fields.pointee.fields[index], unsafe field.pointee.key.equals(string: key),
                    let value = unsafe field.pointee.value
                else { continue }
                return unsafe strings(in: value)
            }
        }
        return nil
    }

    private func strings(in value: UnsafePointer<Epp__Value>) -> [String]? {
        switch unsafe value.pointee.kind_case {
        case EPP__VALUE__KIND_STRING_VALUE:
            return unsafe [String(decoding: UnsafeRawBufferPointer(value.pointee.string_value), as: UTF8.self)]
        case EPP__VALUE__KIND_LIST_VALUE:
            guard let list = unsafe value.pointee.list_value else { return [] }
            return unsafe (0..<list.pointee.n_values).compactMap { index in
                unsafe list.pointee.values[index].map { item in
                    unsafe String(decoding: UnsafeRawBufferPointer(item.pointee.string_value), as: UTF8.self)
                }
            }
        default:
            return nil
        }
    }
}

extension UnsafeRawBufferPointer {
    init(_ data: ProtobufCBinaryData) {
        unsafe self.init(start: data.data, count: data.data == nil ? 0 : data.len)
    }

    /// True where the bytes are exactly those of `text`.
    func equals(string text: String) -> Bool {
        guard count == text.utf8.count else { return false }
        return unsafe elementsEqual(text.utf8)
    }

    /// True where the bytes are exactly those of `text`.
    @inline(__always)
    func equals(_ text: StaticString) -> Bool {
        guard count == text.utf8CodeUnitCount else { return false }
        let start = unsafe text.utf8Start
        for index in 0..<count where unsafe self[index] != start[index] { return false }
        return true
    }
}

extension ProtobufCBinaryData {
    fileprivate func equals(string text: String) -> Bool { unsafe UnsafeRawBufferPointer(self).equals(string: text) }
}
