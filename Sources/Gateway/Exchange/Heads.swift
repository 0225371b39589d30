// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CostModel
internal import Router

/// What is read of a request's headers.
struct RequestHead: Sendable, Hashable {
    var method = ""
    var path = ""
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

    private let requestFields: [(name: String, field: RequestField)]
    /// Bit n: a name of n bytes is among them. Most headers are told by their length to be none.
    private let lengths: UInt64
    /// Of the request before.
    private var last = (method: "", path: "")

    init(_ names: HeaderNames) {
        requestFields =
            [
                (":method", .method), (":path", .path), (names.requestID, .externalID),
                ("content-length", .contentLength), (names.destination, .destination), (names.prefiller, .prefiller),
            ]
            + names.sloTTFT.enumerated().map { ($1, .ttft(rank: $0)) }
            + names.sloTPOT.enumerated().map { ($1, .tpot(rank: $0)) }
            + names.objective.enumerated().map { ($1, .objective(rank: $0)) }
            + names.session.enumerated().map { ($1, .session(rank: $0)) }
        lengths = requestFields.reduce(0) { $0 | 1 << UInt64(min($1.name.utf8.count, 63)) }
    }

    private func field(named name: UnsafeRawBufferPointer) -> RequestField? {
        guard lengths >> UInt64(min(name.count, 63)) & 1 != 0 else { return nil }
        return requestFields.first { unsafe name.equals(string: $0.name) }?.field
    }

    mutating func requestHead(of message: borrowing ProcessingRequest) -> RequestHead {
        var head = RequestHead()
        var ranks = (ttft: Int.max, tpot: Int.max, objective: Int.max, session: Int.max)
        unsafe message.forEachHeader { name, value in
            guard let field = unsafe field(named: name) else { return }
            // Most requests of a loop are alike in these, and share the strings.
            if field == .path, unsafe value.equals(string: last.path) { return head.path = last.path }
            if field == .method, unsafe value.equals(string: last.method) { return head.method = last.method }
            let text = unsafe String(decoding: value, as: UTF8.self)
            switch field {
            case .method: head.method = text
            case .path: head.path = text
            case .externalID: head.externalID = text
            case .destination: head.destination = text
            case .prefiller: head.prefiller = text
            case .contentLength: head.contentLength = Int(text).flatMap { $0 >= 0 ? $0 : nil }
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
        last = (head.method, head.path)
        return head
    }

    func responseHead(of message: borrowing ProcessingRequest) -> ResponseHead {
        var head = ResponseHead()
        unsafe message.forEachHeader { name, value in
            if unsafe name.equals(":status") {
                head.status = unsafe Int(String(decoding: value, as: UTF8.self))
            } else if unsafe name.equals("content-type") {
                head.contentType = unsafe String(decoding: value, as: UTF8.self)
            } else if unsafe name.equals("content-encoding") {
                head.isEncoded = unsafe !value.equals("identity")
            } else if unsafe name.equals("date") || name.equals("server")
                || name.equals("x-envoy-upstream-service-time")
            {
                head.bearsServerMarks = true
            }
        }
        return head
    }

    /// A bound of a service level: a bad one is no bound.
    private func milliseconds(_ text: String) -> Seconds? {
        guard let value = Double(text), value.isFinite, value > 0 else { return nil }
        return Seconds(milliseconds: value)
    }
}
