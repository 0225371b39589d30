// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CExtProc
import TestSupport
import Testing

@testable import Gateway

/// What the codec writes and reads, judged by protobuf-c's generated code.
@Suite("Codec against protobuf-c")
struct OracleTests {
    @Test("Every answer is what protobuf-c would have written of it")
    func answers() throws {
        var random = SplitMix64(seed: 6)
        let encoder = ResponseEncoder(names: HeaderNames())
        for _ in 0..<300 {
            let call = FakeCall()
            let size = [0, 1, 127, 128, 5_000, 62_000, 62_001, 140_000][Int(random.next() % 8)]
            let body = (0..<size).map { UInt8(truncatingIfNeeded: $0) }
            let route = Route(
                destinations: ["10.0.0.1:8000"],
                prefiller: random.next() % 2 == 0 ? "10.0.0.2:8000" : nil,
                kvSource: random.next() % 2 == 0 ? "10.0.0.3:8000" : nil
            )
            let length = random.next() % 2 == 0 ? size : nil
            let isLast = random.next() % 2 == 0
            unsafe body.withUnsafeBytes { body in
                switch random.next() % 7 {
                case 0: encoder.requestHeaders(route, destinations: "10.0.0.1:8000", contentLength: length, to: call)
                case 1: encoder.requestHeaders(nil, destinations: "", contentLength: nil, to: call)
                case 2: unsafe encoder.bufferedBody(route, destinations: "a:1", body: isLast ? body : nil, to: call)
                case 3: unsafe encoder.streamedBody(body, endOfStream: isLast, isLast ? .request : .response, to: call)
                case 4:
                    encoder.bareBody(isLast ? .request : .response, to: call)
                    encoder.trailers(isLast ? .request : .response, to: call)
                case 5: encoder.responseHeaders(decision: isLast ? "joint" : nil, to: call)
                default:
                    let headers = [ImmediateAnswer.Header("a", "1"), ImmediateAnswer.Header("content-type", "")]
                    encoder.immediate(
                        ImmediateAnswer(status: isLast ? 503 : 0, headers: headers, body: "{}", details: "why"),
                        to: call
                    )
                }
            }
            for bytes in call.sent { #expect(try repacked(bytes) == bytes) }
        }
    }

    /// The bytes after protobuf-c has read and written them.
    private func repacked(_ bytes: [UInt8]) throws -> [UInt8] {
        let unpacked = unsafe epp__processing_response__unpack(nil, bytes.count, bytes)
        let message = unsafe try #require(unpacked)
        defer { unsafe epp__processing_response__free_unpacked(message, nil) }
        var packed = [UInt8](repeating: 0, count: unsafe epp__processing_response__get_packed_size(message))
        unsafe epp__processing_response__pack(message, &packed)
        return packed
    }

    @Test("Headers, bodies and modes are read as protobuf-c reads them, from damaged messages too")
    func requests() throws {
        var random = SplitMix64(seed: 7)
        let seeds = [
            EnvoyMessage.requestHeaders(metadata: [("envoy.lb.subset_hint", "k", .list(["a:1", "b:2"]))]),
            EnvoyMessage.responseHeaders(), EnvoyMessage.requestBody([1, 2, 3], endOfStream: true),
            EnvoyMessage.responseBody([], endOfStream: true), EnvoyMessage.requestTrailers,
        ]
        var read = 0
        for round in 0..<20_000 {
            var bytes = seeds[round % seeds.count]
            for _ in 0..<(random.next() % 3) {
                let place = Int(random.next() % UInt64(bytes.count))
                bytes[place] = UInt8(truncatingIfNeeded: random.next())
            }
            guard let message = unsafe epp__processing_request__unpack(nil, bytes.count, bytes) else { continue }
            defer { unsafe epp__processing_request__free_unpacked(message, nil) }
            let expected = unsafe Self.summary(message.pointee)
            let found = unsafe bytes.withUnsafeBytes { bytes in
                var found: String?
                _ = unsafe ProcessingRequest.decode(bytes) { found = Self.summary($0) }
                return found
            }
            // Where fields that occur once occur twice, protobuf-c merges them and we take the last: such messages are
            // none that a proxy sends, and whatever is made of them is safe.
            if let found, found == expected { read += 1 }
        }
        #expect(read > 10_000)
        for bytes in seeds {
            let unpacked = unsafe epp__processing_request__unpack(nil, bytes.count, bytes)
            let message = unsafe try #require(unpacked)
            defer { unsafe epp__processing_request__free_unpacked(message, nil) }
            let expected = unsafe Self.summary(message.pointee)
            unsafe bytes.withUnsafeBytes { bytes in
                let isRead = unsafe ProcessingRequest.decode(bytes) { request in
                    let found = Self.summary(request)
                    #expect(found == expected)
                }
                #expect(isRead)
            }
        }
    }

    private static func summary(_ request: borrowing ProcessingRequest) -> String {
        var text = "\(request.phase) \(request.endOfStream) \(request.isObservation)"
        text += " \(request.modes.map { "\($0)" } ?? "-") \(unsafe Array(request.body))"
        let isWhole = unsafe request.forEachHeader { name, value in text += unsafe " \(Array(name))=\(Array(value))" }
        return isWhole ? text : "malformed"
    }

    private static func summary(_ request: Epp__ProcessingRequest) -> String {
        let phases: [(Epp__ProcessingRequest__RequestCase, ProcessingRequest.Phase)] = [
            (EPP__PROCESSING_REQUEST__REQUEST_REQUEST_HEADERS, .requestHeaders),
            (EPP__PROCESSING_REQUEST__REQUEST_RESPONSE_HEADERS, .responseHeaders),
            (EPP__PROCESSING_REQUEST__REQUEST_REQUEST_BODY, .requestBody),
            (EPP__PROCESSING_REQUEST__REQUEST_RESPONSE_BODY, .responseBody),
            (EPP__PROCESSING_REQUEST__REQUEST_REQUEST_TRAILERS, .requestTrailers),
            (EPP__PROCESSING_REQUEST__REQUEST_RESPONSE_TRAILERS, .responseTrailers),
        ]
        let kind = unsafe request.request_case
        let phase = phases.first { $0.0 == kind }?.1 ?? .unknown
        var isEnd = false
        var body: [UInt8] = []
        var headers = ""
        switch phase {
        case .requestHeaders, .responseHeaders:
            let content = unsafe request.request_headers.pointee
            isEnd = unsafe content.end_of_stream != 0
            if let map = unsafe content.headers {
                for index in 0..<(unsafe map.pointee.n_headers) {
                    guard let header = unsafe map.pointee.headers[index] else { continue }
                    let raw = unsafe array(header.pointee.raw_value)
                    let plain = unsafe array(header.pointee.value)
                    let value = raw.isEmpty ? plain : raw
                    headers += unsafe " \(array(header.pointee.key))=\(value)"
                }
            }
        case .requestBody, .responseBody:
            let content = unsafe request.request_body.pointee
            isEnd = unsafe content.end_of_stream != 0
            body = unsafe array(content.body)
        case .requestTrailers, .responseTrailers: isEnd = true
        case .unknown: break
        }
        var modes = "-"
        if let configuration = unsafe request.protocol_config {
            let found = unsafe BodyModes(
                request: BodyMode(wire: configuration.pointee.request_body_mode),
                response: BodyMode(wire: configuration.pointee.response_body_mode)
            )
            modes = "\(found)"
        }
        let isObservation = unsafe request.observability_mode != 0
        return "\(phase) \(isEnd) \(isObservation) \(modes) \(body)\(headers)"
    }

    private static func array(_ data: ProtobufCBinaryData) -> [UInt8] {
        unsafe Array(UnsafeBufferPointer(start: data.data, count: data.len))
    }
}
