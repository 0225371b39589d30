// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Writes answers to Envoy straight into a call's send buffer. Confined to one loop.
///
/// Field numbers are those of Sources/CExtProc/proto/ext_proc.proto, whose generated code the tests read these bytes with.
final class ResponseEncoder {
    /// Largest piece of a body in one streamed answer: some proxies cap messages at 64 KiB.
    static let chunkSize = 62_000
    /// `HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD`. The default would append to a client's header.
    private static let overwrite: UInt64 = 2
    /// `end_of_stream` of a streamed body, which stands behind the bytes.
    private let endOfStream = WireBuilder.encoded { $0.number(2, 1) }

    enum Direction {
        case request, response

        /// In the response's oneof.
        fileprivate var bodyField: UInt8 { self == .request ? 3 : 4 }
        fileprivate var trailersField: UInt8 { self == .request ? 5 : 6 }
    }

    /// Which headers a request gets besides its destination.
    private struct Steering: OptionSet {
        let rawValue: Int
        static let destination = Steering(rawValue: 1)
        static let prefiller = Steering(rawValue: 2)
        static let kvSource = Steering(rawValue: 4)
        static let combinations = 8
    }

    private let names: HeaderNames
    /// By what is set: the names to remove, encoded.
    private let removed: [[UInt8]]
    // Answers that are always the same.
    private let plainResponseHeaders: [UInt8]
    private let bare: (request: [UInt8], response: [UInt8])
    private let trailers: (request: [UInt8], response: [UInt8])
    private let overrides: (shown: [UInt8], hidden: [UInt8])
    /// Not checked for overlapping accesses: what writes into it touches nothing else of the encoder's that changes.
    @exclusivity(unchecked) private var builder = WireBuilder()
    private var known = RouteAnswers()

    init(names: HeaderNames) {
        self.names = names
        removed = (0..<Steering.combinations).map { combination in
            let steering = Steering(rawValue: combination)
            let set = [
                (Steering.destination, names.destination), (.prefiller, names.prefiller), (.kvSource, names.kvSource),
            ]
            let rest = names.removed(setting: set.filter { steering.contains($0.0) }.map(\.1))
            return WireBuilder.encoded { builder in
                for name in rest.reversed() { builder.text(2, name) }
            }
        }
        func nested(_ field: UInt8) -> [UInt8] { WireBuilder.encoded { $0.message(field) { $0.message(1) { _ in } } } }
        plainResponseHeaders = nested(2)
        bare = (nested(Direction.request.bodyField), nested(Direction.response.bodyField))
        overrides = (Self.override(showsResponse: true), Self.override(showsResponse: false))
        func empty(_ field: UInt8) -> [UInt8] { WireBuilder.encoded { $0.message(field) { _ in } } }
        trailers = (empty(Direction.request.trailersField), empty(Direction.response.trailersField))
    }

    /// A `ProcessingMode` that shows the request's body in full duplex, and of the response its headers, its end, and its
    /// body or not. `HeaderSendMode.SEND` is 1, `BodySendMode.FULL_DUPLEX_STREAMED` 4.
    private static func override(showsResponse: Bool) -> [UInt8] {
        WireBuilder.encoded { builder in
            builder.message(9) { builder in
                builder.number(6, 1)
                builder.number(5, 1)
                builder.number(4, showsResponse ? 4 : 0)
                builder.number(3, 4)
                builder.number(2, 1)
                builder.number(1, 1)
            }
        }
    }

    /// A message of its own, before the request headers are answered.
    func overrideModes(showsResponse: Bool, to call: any GRPCCall) {
        send(showsResponse ? overrides.shown : overrides.hidden, to: call)
    }

    /// Answers request headers: sends the request along `route`, or, where it is nil, lets the headers pass without what
    /// steers requests, because the decision comes with the body.
    func requestHeaders(_ route: Route?, destinations: String, contentLength: Int?, to call: any GRPCCall) {
        guard let route, contentLength == nil, route.kvSource == nil else {
            writeRequestHeaders(route, destinations: destinations, contentLength: contentLength)
            return send(to: call)
        }
        let message = known.message(destinations: destinations, prefiller: route.prefiller) {
            writeRequestHeaders(route, destinations: destinations, contentLength: nil)
            return unsafe [UInt8](builder.bytes)
        }
        send(message, to: call)
    }

    private func writeRequestHeaders(_ route: Route?, destinations: String, contentLength: Int?) {
        unsafe builder.clear()
        if route != nil { metadata(destinations) }
        unsafe builder.message(1) { builder in
            builder.message(1) { builder in
                if route != nil { builder.number(5, 1) }
                headers(route, destinations: destinations, contentLength: contentLength, &builder)
            }
        }
    }

    /// Answers a buffered request body: sends the request along `route`, with `body` in place of the client's unless nil.
    func bufferedBody(_ route: Route, destinations: String, body: UnsafeRawBufferPointer?, to call: any GRPCCall) {
        unsafe builder.clear()
        metadata(destinations)
        unsafe builder.message(Direction.request.bodyField) { builder in
            builder.message(1) { builder in
                builder.number(5, 1)
                if let body = unsafe body {
                    builder.message(3) { builder in
                        unsafe builder.append(body)
                        builder.head(1, body.count)
                    }
                }
                let length = unsafe body.map { $0.count }
                headers(route, destinations: destinations, contentLength: length, &builder)
            }
        }
        send(to: call)
    }

    /// Sends a body on in pieces of `chunkSize`. An empty body that ends the stream is one empty piece.
    ///
    /// `owner` keeps the bytes, unchanged, for as long as it lives: they are then not copied. nil: they are.
    func streamedBody(
        _ body: UnsafeRawBufferPointer,
        of owner: SharedBytes? = nil,
        endOfStream: Bool,
        _ direction: Direction,
        to call: any GRPCCall
    ) {
        var start = 0
        repeat {
            let end = min(start + Self.chunkSize, body.count)
            let piece = unsafe UnsafeRawBufferPointer(rebasing: body[start..<end])
            let isLast = endOfStream && end == body.count
            guard unsafe !piece.isEmpty || endOfStream else { return }
            unsafe send(piece, of: owner, isLast: isLast, direction, to: call)
            start = end
        } while start < body.count
    }

    private func send(
        _ piece: UnsafeRawBufferPointer,
        of owner: SharedBytes?,
        isLast: Bool,
        _ direction: Direction,
        to call: any GRPCCall
    ) {
        let tail = isLast ? endOfStream : []
        let (pieceCount, tailCount) = (piece.count, tail.count)
        unsafe builder.clear()
        unsafe builder.streamedHead(pieceCount, tailCount, direction.bodyField)
        let head = unsafe builder.bytes
        if let owner {
            return unsafe tail.withUnsafeBytes { unsafe call.send(head, piece, of: owner, $0) }
        }
        unsafe call.send(size: head.count + pieceCount + tailCount) { room in
            guard room.count == head.count + piece.count + tail.count else { return }
            unsafe room.copyMemory(from: head)
            unsafe UnsafeMutableRawBufferPointer(rebasing: room[head.count...]).copyMemory(from: piece)
            unsafe UnsafeMutableRawBufferPointer(rebasing: room[(room.count - tail.count)...]).copyBytes(from: tail)
        }
    }

    /// Lets a chunk of body pass as it is, where bodies are streamed or buffered.
    func bareBody(_ direction: Direction, to call: any GRPCCall) {
        send(direction == .request ? bare.request : bare.response, to: call)
    }

    /// Lets response headers pass, with `decision` in the header that tells of it.
    func responseHeaders(decision: String?, to call: any GRPCCall) {
        guard let decision else { return send(plainResponseHeaders, to: call) }
        unsafe builder.clear()
        unsafe builder.message(2) { builder in
            builder.message(1) { builder in
                builder.message(2) { set(names.decision, decision, &$0) }
            }
        }
        send(to: call)
    }

    func trailers(_ direction: Direction, to call: any GRPCCall) {
        send(direction == .request ? trailers.request : trailers.response, to: call)
    }

    func immediate(_ answer: ImmediateAnswer, to call: any GRPCCall) {
        unsafe builder.clear()
        unsafe builder.message(7) { builder in
            builder.text(5, answer.details)
            builder.text(3, answer.body)
            builder.message(2) { builder in
                for header in answer.headers.reversed() { set(header.name, header.value, &builder) }
            }
            builder.message(1) { $0.number(1, UInt64(bitPattern: Int64(Int32(clamping: answer.status)))) }
        }
        send(to: call)
    }

    // MARK: - Parts

    /// The header changes of `route`.
    private func headers(
        _ route: Route?,
        destinations: String,
        contentLength: Int?,
        _ builder: inout WireBuilder
    ) {
        builder.message(2) { builder in
            var steering: Steering = []
            if route != nil { steering.insert(.destination) }
            if route?.prefiller != nil { steering.insert(.prefiller) }
            if route?.kvSource != nil { steering.insert(.kvSource) }
            builder.append(removed[steering.rawValue])
            if let contentLength { set("content-length", String(contentLength), &builder) }
            guard let route else { return }
            if let source = route.kvSource { set(names.kvSource, source, &builder) }
            if let prefiller = route.prefiller { set(names.prefiller, prefiller, &builder) }
            set(names.destination, destinations, &builder)
        }
    }

    private func set(_ name: String, _ value: String, _ builder: inout WireBuilder) {
        builder.message(1) { builder in
            builder.number(3, Self.overwrite)
            builder.message(1) { builder in
                builder.text(3, value)
                builder.text(1, name)
            }
        }
    }

    /// The destination in the dynamic metadata: a Struct in a Struct, each a map of one entry.
    private func metadata(_ destinations: String) {
        unsafe builder.message(8) { builder in
            builder.message(1) { builder in
                builder.message(2) { builder in
                    builder.message(5) { builder in
                        builder.message(1) { builder in
                            builder.message(2) { $0.text(3, destinations) }
                            builder.text(1, names.destination)
                        }
                    }
                }
                builder.text(1, names.destinationNamespace)
            }
        }
    }

    // MARK: - Sending

    private func send(to call: any GRPCCall) {
        let message = unsafe builder.bytes
        unsafe call.send(size: message.count) { unsafe $0.copyBytes(from: message) }
    }

    private func send(_ message: [UInt8], to call: any GRPCCall) {
        unsafe call.send(size: message.count) { unsafe $0.copyBytes(from: message) }
    }
}

extension WireBuilder {
    /// The head of a piece of a streamed body: response{common{body_mutation{streamed_response{body, end_of_stream}}}}.
    /// The piece and its tail, the encoded end of the stream or nothing, are put behind it.
    fileprivate mutating func streamedHead(_ pieceCount: Int, _ tailCount: Int, _ bodyField: UInt8) {
        skip(tailCount)
        if pieceCount > 0 {
            skip(pieceCount)
            head(1, pieceCount)
        }
        // Each field holds all that stands behind its head.
        head(3, count)
        head(3, count)
        head(1, count)
        head(bodyField, count)
    }
}
