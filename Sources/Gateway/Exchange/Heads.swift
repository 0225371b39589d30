// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CostModel
internal import Router

/// What is read of a request's headers.
struct RequestHead: Sendable, Hashable {
    var method = ""
    var path = ""
    /// By the path alone.
    var api = InferenceAPI.other
    var externalID = ""
    var contentLength: Int?
    var serviceLevel = ServiceLevel()
    var objective: String?
    var session: String?
    /// What stands in the routing headers: another picker's choice where this one only watches, else worth nothing.
    var destination: String?
    var prefiller: String?

    /// Where another picker sends the request.
    var served: Served? {
        destination.map { Served(destination: Self.first(of: $0), prefiller: prefiller.map(Self.first)) }
    }

    /// The first of a list of endpoints.
    private static func first(of list: String) -> String {
        String(list.prefix { $0 != "," }.filter { $0 != " " })
    }
}

/// What is read of a response's headers.
struct ResponseHead: Sendable, Hashable {
    var status: Int?
    var contentType = ""
    var isEncoded = false
    /// Headers that a server, or Envoy's router on a server's behalf, adds to what an upstream answered.
    var bearsServerMarks = false

    /// True for an answer that Envoy made up because no upstream gave one: 503 in plain text, without the headers that
    /// RFC 9110 6.6.1 (Date) asks of servers, or that servers and Envoy's router add. Envoy says so in no other way.
    var isLocalAnswer: Bool { status == 503 && contentType == "text/plain" && !bearsServerMarks }

    /// The same as the machine needs it.
    var answer: UpstreamAnswer { UpstreamAnswer(status: status, isLocal: isLocalAnswer) }
}

/// Reads heads by a table of names, built once per loop.
struct HeadReader {
    private enum RequestField: Hashable {
        case method, path, externalID, contentLength, destination, prefiller
        /// The lower rank counts where a request carries several names of the same thing.
        case ttft(rank: Int), tpot(rank: Int), objective(rank: Int), session(rank: Int)
    }

    /// A name as it is compared: its length and first eight bytes tell nearly all apart.
    private struct Name {
        let count: Int
        let start: UInt64
        let bytes: [UInt8]
        let field: RequestField

        init(_ name: String, _ field: RequestField) {
            bytes = Array(name.utf8)
            count = bytes.count
            start = unsafe bytes.withUnsafeBytes { unsafe $0.firstWord }
            self.field = field
        }

        @inline(__always)
        func equals(_ other: UnsafeRawBufferPointer, _ otherStart: UInt64) -> Bool {
            guard count == other.count, start == otherStart else { return false }
            guard count > 8 else { return true }
            return unsafe bytes.withUnsafeBytes { unsafe $0.suffix(from: 8).elementsEqual(other.suffix(from: 8)) }
        }
    }

    /// Sorted by length.
    private let requestFields: [Name]
    /// Where in them the names of each length begin: most headers are told by their length to be none.
    private let starts: [Int]
    /// Of the request before.
    private var last = (method: "", path: "", api: InferenceAPI.other)

    init(_ names: HeaderNames) {
        let names =
            [
                Name(":method", .method), Name(":path", .path), Name("content-length", .contentLength),
                Name(names.destination, .destination), Name(names.prefiller, .prefiller),
            ]
            + (names.requestID.map { [Name($0, .externalID)] } ?? [])
            + names.sloTTFT.enumerated().map { Name($1, .ttft(rank: $0)) }
            + names.sloTPOT.enumerated().map { Name($1, .tpot(rank: $0)) }
            + names.objective.enumerated().map { Name($1, .objective(rank: $0)) }
            + names.session.enumerated().map { Name($1, .session(rank: $0)) }
        requestFields = names.sorted { $0.count < $1.count }
        let longest = requestFields.last?.count ?? 0
        starts = (0...longest + 1).map { length in names.count { $0.count < length } }
    }

    private func field(named name: UnsafeRawBufferPointer) -> RequestField? {
        guard name.count + 1 < starts.count else { return nil }
        let range = starts[name.count]..<starts[name.count + 1]
        guard !range.isEmpty else { return nil }
        let start = unsafe name.firstWord
        for index in range where unsafe requestFields[index].equals(name, start) { return requestFields[index].field }
        return nil
    }

    /// Reads into `head`, which must be fresh.
    ///
    /// - Returns: false where the message is malformed.
    mutating func readRequestHead(of message: borrowing ProcessingRequest, into head: inout RequestHead) -> Bool {
        var ranks = (ttft: Int.max, tpot: Int.max, objective: Int.max, session: Int.max)
        let isWhole = unsafe message.forEachHeader { name, value in
            guard let field = unsafe field(named: name) else { return }
            // Most requests of a loop are alike in these, and share the strings.
            switch field {
            case .path where unsafe value.equals(string: last.path): return head.path = last.path
            case .method where unsafe value.equals(string: last.method): return head.method = last.method
            case .contentLength: return head.contentLength = unsafe value.natural
            default: break
            }
            let text = unsafe String(decoding: value, as: UTF8.self)
            switch field {
            case .method: head.method = text
            case .path: head.path = text
            case .externalID: head.externalID = text
            case .destination: head.destination = text
            case .prefiller: head.prefiller = text
            case .contentLength: break
            case .ttft(let rank):
                guard rank < ranks.ttft, let bound = milliseconds(text) else { return }
                (head.serviceLevel.ttft, ranks.ttft) = (bound, rank)
            case .tpot(let rank):
                guard rank < ranks.tpot, let bound = milliseconds(text) else { return }
                (head.serviceLevel.tpot, ranks.tpot) = (bound, rank)
            case .objective(let rank):
                guard rank < ranks.objective, !text.isEmpty else { return }
                (head.objective, ranks.objective) = (text, rank)
            case .session(let rank):
                guard rank < ranks.session, !text.isEmpty else { return }
                (head.session, ranks.session) = (text, rank)
            }
        }
        guard isWhole else { return false }
        if head.method != last.method || head.path != last.path {
            last = (head.method, head.path, InferenceAPI(path: head.path))
        }
        head.api = last.api
        return true
    }

    /// - Returns: nil where the message is malformed.
    func responseHead(of message: borrowing ProcessingRequest) -> ResponseHead? {
        var head = ResponseHead()
        let isWhole = unsafe message.forEachHeader { name, value in
            if unsafe name.equals(":status") {
                head.status = unsafe value.natural
            } else if unsafe name.equals("content-type") {
                head.contentType = unsafe Self.knownType(value) ?? String(decoding: value, as: UTF8.self)
            } else if unsafe name.equals("content-encoding") {
                head.isEncoded = unsafe !value.equals("identity")
            } else if unsafe name.equals("date") || name.equals("server")
                || name.equals("x-envoy-upstream-service-time")
            {
                head.bearsServerMarks = true
            }
        }
        return isWhole ? head : nil
    }

    /// What nearly all answers are, without making a string of it.
    private static func knownType(_ value: UnsafeRawBufferPointer) -> String? {
        if unsafe value.equals("application/json") { return "application/json" }
        if unsafe value.equals("text/event-stream") { return "text/event-stream" }
        if unsafe value.equals("text/event-stream; charset=utf-8") { return "text/event-stream; charset=utf-8" }
        return nil
    }

    /// A bound of a service level: a bad one is no bound.
    private func milliseconds(_ text: String) -> Seconds? {
        guard let value = Double(text), value.isFinite, value > 0 else { return nil }
        return Seconds(milliseconds: value)
    }
}

extension UnsafeRawBufferPointer {
    /// The first eight bytes, or all of fewer, as a number.
    var firstWord: UInt64 {
        guard count < 8 else { return unsafe loadUnaligned(as: UInt64.self) }
        var word: UInt64 = 0
        for index in 0..<count { word |= unsafe UInt64(self[index]) << UInt64(8 * index) }
        return word
    }

    /// The decimal number that these bytes are. nil where they are none, or a larger one than counts of bytes are.
    fileprivate var natural: Int? {
        guard unsafe !isEmpty, count <= 18 else { return nil }
        var number = 0
        for index in 0..<count {
            let byte = unsafe self[index]
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
            number = number * 10 + Int(byte - UInt8(ascii: "0"))
        }
        return number
    }
}
