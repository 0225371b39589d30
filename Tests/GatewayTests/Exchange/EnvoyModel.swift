// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

@testable import Gateway

/// The rules by which Envoy 1.40 judges a picker's answers, as measured on the real one: what it accepts in which mode and
/// order, and what reaches the upstream and the client.
struct EnvoyModel {
    /// What Envoy would end the request for.
    struct Rejected: Error, CustomStringConvertible {
        var description: String
    }

    /// One direction of one exchange.
    struct Half {
        var mode: BodyMode
        var headersSent = false
        var headersAnswered = false
        /// Streamed or buffered chunks that wait for their answer, oldest first.
        var waiting: [[UInt8]] = []
        var bodySent = false
        var endSent = false
        var trailersSent = false
        var trailersAnswered = false
        /// What passed on to the other side.
        var passed: [UInt8] = []
        var endPassed = false

        /// Nothing is on its way to the picker or held by Envoy.
        var isComplete: Bool {
            guard headersAnswered || !headersSent, waiting.isEmpty, trailersAnswered == trailersSent else {
                return false
            }
            guard mode == .fullDuplex else { return true }
            return endPassed || !bodySent || trailersAnswered
        }

        mutating func acceptHeaders() throws(Rejected) {
            guard headersSent, !headersAnswered else { throw Rejected(description: "headers answer without headers") }
            headersAnswered = true
        }

        mutating func accept(_ body: EnvoyAnswer.Body) throws(Rejected) {
            switch (mode, body) {
            case (.fullDuplex, .streamed(let bytes, let endOfStream)):
                guard headersAnswered || !headersSent else { throw Rejected(description: "body before headers") }
                guard bodySent, !endPassed, !trailersAnswered else { throw Rejected(description: "spurious body") }
                guard bytes.count <= 62_000 else { throw Rejected(description: "chunk too large") }
                guard !(endOfStream && trailersSent) else { throw Rejected(description: "end of body before trailers") }
                passed += bytes
                endPassed = endOfStream
            case (.streamed, .bare), (.buffered, .bare), (.buffered, .routed):
                guard headersAnswered || !headersSent else { throw Rejected(description: "body before headers") }
                guard !waiting.isEmpty else { throw Rejected(description: "spurious body") }
                let chunk = waiting.removeFirst()
                if case .routed(let headers) = body, let replaced = headers.contentReplaced {
                    passed += replaced
                } else {
                    passed += chunk
                }
            default:
                throw Rejected(description: "\(body) in mode \(mode)")
            }
        }

        mutating func acceptTrailers() throws(Rejected) {
            guard trailersSent, !trailersAnswered, headersAnswered || !headersSent, waiting.isEmpty else {
                throw Rejected(description: "spurious trailers")
            }
            trailersAnswered = true
        }
    }

    var request: Half
    var response: Half
    private(set) var destination: String?
    private(set) var immediate: UInt64?
    /// The picker ended the call.
    private(set) var isFinished = false

    init(_ modes: BodyModes) {
        request = Half(mode: modes.request)
        response = Half(mode: modes.response)
    }

    mutating func accept(_ answer: EnvoyAnswer) throws(Rejected) {
        guard immediate == nil else { throw Rejected(description: "\(answer) after an immediate response") }
        switch answer {
        case .requestHeaders(let headers):
            try request.acceptHeaders()
            try route(headers)
        case .requestBody(let body):
            try request.accept(body)
            if case .routed(let headers) = body { try route(headers) }
        case .requestTrailers: try request.acceptTrailers()
        case .responseHeaders(let headers):
            try response.acceptHeaders()
            guard headers == EnvoyAnswer.Headers() else { throw Rejected(description: "response headers changed") }
        case .responseBody(let body): try response.accept(body)
        case .responseTrailers: try response.acceptTrailers()
        case .immediate(let status, _, _, _): immediate = status
        }
    }

    private mutating func route(_ headers: EnvoyAnswer.Headers) throws(Rejected) {
        let prefix = "x-gateway-destination-endpoint: "
        guard let set = headers.set.first(where: { $0.hasPrefix(prefix) }) else { return }
        guard destination == nil else { throw Rejected(description: "routed twice") }
        destination = String(set.dropFirst(prefix.count).prefix { $0 != " " })
    }
}
