// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

@testable import Gateway

/// What Envoy sends, by the field numbers of envoy.service.ext_proc.v3.
enum EnvoyMessage {
    static func requestHeaders(
        _ headers: [(String, String)]? = nil,
        endOfStream: Bool = false,
        modes: (request: UInt64, response: UInt64)? = (4, 4),
        metadata: [(namespace: String, key: String, value: MetadataValue)] = []
    ) -> [UInt8] {
        message(2, metadata: metadata) { writer in
            let method = endOfStream ? "GET" : "POST"
            writeHeaders(headers ?? [(":method", method), (":path", "/v1/chat/completions")], endOfStream, &writer)
        } also: { writer in
            guard let modes else { return }
            writer.message(11) { writer in
                // Proto3 leaves zeros out.
                if modes.request > 0 { writer.number(1, modes.request) }
                if modes.response > 0 { writer.number(2, modes.response) }
            }
        }
    }

    static func responseHeaders(
        _ status: Int = 200,
        _ headers: [(String, String)] = [("content-type", "application/json"), ("date", "now"), ("server", "uvicorn")],
        endOfStream: Bool = false,
        metadata: [(namespace: String, key: String, value: MetadataValue)] = []
    ) -> [UInt8] {
        message(3, metadata: metadata) { writeHeaders([(":status", String(status))] + headers, endOfStream, &$0) }
    }

    static func requestBody(_ body: some Sequence<UInt8>, endOfStream: Bool) -> [UInt8] {
        self.body(4, body, endOfStream)
    }

    static func responseBody(_ body: some Sequence<UInt8>, endOfStream: Bool) -> [UInt8] {
        self.body(5, body, endOfStream)
    }

    static let requestTrailers = message(6) { writeTrailers(&$0) }
    static let responseTrailers = message(7) { writeTrailers(&$0) }

    enum MetadataValue {
        case text(String)
        case list([String])
        case number(Double)
    }

    static func message(
        _ phase: UInt64,
        metadata: [(namespace: String, key: String, value: MetadataValue)] = [],
        _ body: (inout WireWriter) -> Void,
        also: (inout WireWriter) -> Void = { _ in }
    ) -> [UInt8] {
        var writer = WireWriter()
        writer.message(phase, body)
        if !metadata.isEmpty {
            writer.message(8) { writer in
                for (namespace, key, value) in metadata {
                    writer.message(1) { writer in
                        writer.text(1, namespace)
                        writer.message(2) { writer in
                            writer.message(1) { writer in
                                writer.text(1, key)
                                writer.message(2) { write(value, &$0) }
                            }
                        }
                    }
                }
            }
        }
        also(&writer)
        return writer.bytes
    }

    private static func write(_ value: MetadataValue, _ writer: inout WireWriter) {
        switch value {
        case .text(let text): writer.text(3, text)
        case .list(let items):
            writer.message(6) { writer in
                for item in items { writer.message(1) { $0.text(3, item) } }
            }
        case .number(let number):
            writer.varint(2 << 3 | 1)
            for shift in stride(from: 0, to: 64, by: 8) {
                writer.byte(UInt8(truncatingIfNeeded: number.bitPattern >> UInt64(shift)))
            }
        }
    }

    private static func writeHeaders(_ headers: [(String, String)], _ endOfStream: Bool, _ writer: inout WireWriter) {
        writer.message(1) { writer in
            for (name, value) in headers {
                writer.message(1) { writer in
                    writer.text(1, name)
                    writer.text(3, value)
                }
            }
        }
        if endOfStream { writer.number(3, 1) }
    }

    private static func writeTrailers(_ writer: inout WireWriter) {
        writer.message(1) { writer in
            writer.message(1) { writer in
                writer.text(1, "x-checksum")
                writer.text(3, "1")
            }
        }
    }

    private static func body(_ phase: UInt64, _ body: some Sequence<UInt8>, _ endOfStream: Bool) -> [UInt8] {
        message(phase) { writer in
            let body = Array(body)
            if !body.isEmpty { writer.data(1, body) }
            if endOfStream { writer.number(2, 1) }
        }
    }
}

/// What the gateway answered, read back by the same field numbers.
enum EnvoyAnswer: Hashable {
    case requestHeaders(Headers)
    case responseHeaders(Headers)
    case requestBody(Body)
    case responseBody(Body)
    case requestTrailers
    case responseTrailers
    case immediate(status: UInt64, headers: [String], body: String, details: String)

    struct Headers: Hashable {
        /// `name: value`, each with its append action.
        var set: [String] = []
        var removed: [String] = []
        var clearsRouteCache = false
        var contentReplaced: [UInt8]?
        /// `namespace/key=value`
        var metadata: [String] = []
    }

    enum Body: Hashable {
        case bare
        case streamed([UInt8], endOfStream: Bool)
        /// With header changes, and perhaps another body: buffered.
        case routed(Headers)
    }

    init(_ bytes: [UInt8]) throws {
        let message = try WireMessage(bytes)
        guard let phase = message.names.filter({ $0 <= 7 }).first, message.names.filter({ $0 <= 7 }).count == 1 else {
            throw WireMessage.Malformed()
        }
        let inner = try message.message(phase) ?? WireMessage([])
        switch phase {
        case 1: self = .requestHeaders(try Self.headers(inner, message))
        case 2: self = .responseHeaders(try Self.headers(inner, message))
        case 3: self = .requestBody(try Self.body(inner, message))
        case 4: self = .responseBody(try Self.body(inner, message))
        case 5: self = .requestTrailers
        case 6: self = .responseTrailers
        default:
            self = .immediate(
                status: try inner.message(1)?.number(1) ?? 0,
                headers: try Self.mutation(inner.message(2)).set,
                body: try inner.text(3) ?? "",
                details: try inner.text(5) ?? ""
            )
        }
    }

    private static func headers(_ inner: WireMessage, _ outer: WireMessage) throws -> Headers {
        let common = try inner.message(1) ?? WireMessage([])
        var result = try mutation(common.message(2))
        result.clearsRouteCache = common.number(5) == 1
        result.contentReplaced = try common.message(3)?.data(1)
        for namespace in try outer.message(8)?.messages(1) ?? [] {
            for field in try namespace.message(2)?.message(5)?.messages(1) ?? [] {
                let value = try field.message(2)?.text(3) ?? "?"
                result.metadata.append("\(try namespace.text(1) ?? "")/\(try field.text(1) ?? "")=\(value)")
            }
        }
        return result
    }

    private static func mutation(_ mutation: WireMessage?) throws -> Headers {
        guard let mutation else { return Headers() }
        return Headers(
            set: try mutation.messages(1).map { option in
                let header = try option.message(1)
                return "\(try header?.text(1) ?? ""): \(try header?.text(3) ?? "") [\(option.number(3) ?? 0)]"
            },
            removed: mutation.texts(2)
        )
    }

    private static func body(_ inner: WireMessage, _ outer: WireMessage) throws -> Body {
        guard let common = try inner.message(1), !common.fields.isEmpty else { return .bare }
        guard let streamed = try common.message(3)?.message(3) else { return .routed(try headers(inner, outer)) }
        return .streamed(try streamed.data(1) ?? [], endOfStream: streamed.number(2) == 1)
    }
}

extension WireWriter {
    mutating func byte(_ byte: UInt8) { bytes.append(byte) }
}
