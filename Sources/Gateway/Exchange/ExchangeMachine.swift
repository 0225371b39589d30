// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Router

/// One ext_proc exchange: what to do next, given what has happened. Holds no body, socket, clock or log.
///
/// The request's half goes `waiting → gathering → deciding → routed`, the response's half
/// `waiting → headers → body → ended`. Either can be skipped in part: modes leave out headers or bodies, Envoy answers a
/// client by itself while the request is still on its way (`abandoned`), the picker answers in the upstream's place. Once
/// `isOver`, nothing is sent any more and every input is ignored.
///
/// Three kinds of wrong:
/// - Orders that Envoy never sends end the call with INVALID_ARGUMENT.
/// - What is late by nature is ignored: a verdict after the client left, request chunks after Envoy gave up on them.
/// - The end of the stream is never an error. Envoy resets successful exchanges too; what the end means depends on how far
///   the response has come.
///
/// What Envoy accepts as answers in each mode is in the comments at each answer.
package struct ExchangeMachine: ~Copyable {
    private enum RequestHalf {
        case waiting
        case gathering(bytes: Int)
        case deciding(Pending)
        case routed(bodyEnded: Bool)
        /// The response began before the request was routed: it is Envoy's own.
        case abandoned
    }

    /// What Envoy waits for while the picker decides.
    private struct Pending {
        var headers = false
        /// The gathered body, and whether its end came with it: trailers follow a body without an end.
        var gathered: (isPresent: Bool, endOfStream: Bool) = (false, false)
        /// A buffered body, whose answer carries the route.
        var buffered = false
        /// Chunks of a streamed body.
        var chunks = 0
        var bodyEnded = false
        var trailers = false
    }

    private enum ResponseHalf {
        case waiting, headers, body, ended
    }

    private let bodyLimit: Int
    private let assumedModes: BodyModes
    private let streamEnd: ExchangeOptions.StreamEnd

    private var modes: BodyModes
    private var request = RequestHalf.waiting
    private var response = ResponseHalf.waiting
    private var answer = UpstreamAnswer(status: nil)
    private var sawFirstToken = false
    /// The picker was asked, and not yet told of an end.
    private var isOwedAnEnd = false
    /// No message will be sent or taken any more.
    private var isOver = false
    private var isFinished = false

    package init(_ options: ExchangeOptions) {
        bodyLimit = options.bodyLimit
        assumedModes = options.assumedModes
        streamEnd = options.streamEnd
        modes = options.assumedModes
    }

    /// Takes one input, and says what must now be done.
    package mutating func handle(_ input: Input) -> [Action] {
        switch input {
        case .remoteEnded:
            return streamEnded(lost: false) + finish(.ok)
        case .closed(let end):
            isFinished = true
            return streamEnded(lost: end == .connectionLost)
        default:
            break
        }
        guard !isOver else { return [] }
        switch input {
        case .requestHeaders(let endOfStream, let contentLength, let modes):
            return requestHeaders(endOfStream: endOfStream, contentLength: contentLength, modes: modes)
        case .requestBody(let count, let endOfStream):
            return requestBody(count: count, endOfStream: endOfStream)
        case .requestTrailers:
            return requestTrailers()
        case .responseHeaders(let answer, let endOfStream):
            return responseHeaders(answer, endOfStream: endOfStream)
        case .responseBody(let count, let endOfStream):
            return responseBody(count: count, endOfStream: endOfStream)
        case .responseTrailers:
            return responseTrailers()
        case .resolved(let verdict):
            return resolved(verdict)
        case .rejected(let answer):
            isOwedAnEnd = false
            return answerImmediately(answer)
        case .violation(let status):
            return violated(status)
        case .remoteEnded, .closed:
            return []
        }
    }
}

// MARK: - The request's half

extension ExchangeMachine {
    private mutating func requestHeaders(endOfStream: Bool, contentLength: Int?, modes: BodyModes?) -> [Action] {
        guard case .waiting = request, case .waiting = response else { return outOfOrder("request_headers") }
        self.modes = modes ?? assumedModes
        guard self.modes.request != .unsupported, self.modes.response != .unsupported else {
            return violated(GRPCStatus(.unimplemented, "body mode not supported"))
        }
        if endOfStream { return ask(Pending(headers: true, bodyEnded: true), wholeBody: false) }
        switch self.modes.request {
        case .none, .streamed, .unsupported:
            // A streamed body comes only after the headers were answered, so the headers alone decide.
            return ask(Pending(headers: true), wholeBody: false)
        case .fullDuplex, .buffered:
            if let contentLength, contentLength > bodyLimit { return tooLarge() }
            request = .gathering(bytes: 0)
            // A buffered body too comes only after the headers were answered; its answer may still change them.
            return self.modes.request == .buffered ? [.answerRequestHeaders(nil)] : []
        }
    }

    private mutating func requestBody(count: Int, endOfStream: Bool) -> [Action] {
        switch request {
        case .gathering(let bytes):
            guard count <= bodyLimit - bytes else { return tooLarge() }
            if modes.request == .buffered {
                // One message holds the whole body, also where trailers follow and it bears no end.
                return [.gather] + ask(Pending(buffered: true, bodyEnded: endOfStream), wholeBody: true)
            }
            guard endOfStream else {
                request = .gathering(bytes: bytes + count)
                return [.gather]
            }
            return [.gather] + ask(Pending(headers: true, gathered: (true, true), bodyEnded: true), wholeBody: true)
        case .deciding(var pending):
            guard modes.request == .streamed, !pending.bodyEnded, !pending.trailers else {
                return outOfOrder("request_body")
            }
            pending.chunks += 1
            pending.bodyEnded = endOfStream
            request = .deciding(pending)
            return []
        case .routed(let bodyEnded):
            guard modes.request == .streamed, !bodyEnded else { return outOfOrder("request_body") }
            request = .routed(bodyEnded: endOfStream)
            return [.passRequestBody]
        case .abandoned:
            return []
        case .waiting:
            return outOfOrder("request_body")
        }
    }

    private mutating func requestTrailers() -> [Action] {
        switch request {
        case .gathering(let bytes):
            guard modes.request == .fullDuplex else {
                // No message is left whose answer could carry the route.
                return answerImmediately(
                    APIError(status: 400, message: "a request with trailers needs a body")
                        .answer(details: "epp_pd_trailers_without_body")
                )
            }
            let pending = Pending(headers: true, gathered: (bytes > 0, false), bodyEnded: true, trailers: true)
            return ask(pending, wholeBody: true)
        case .deciding(var pending):
            guard !pending.trailers, modes.request != .fullDuplex else { return outOfOrder("request_trailers") }
            pending.trailers = true
            request = .deciding(pending)
            return []
        case .routed(let bodyEnded):
            guard !bodyEnded else { return outOfOrder("request_trailers") }
            request = .routed(bodyEnded: true)
            return [.answerRequestTrailers]
        case .abandoned:
            return []
        case .waiting:
            return outOfOrder("request_trailers")
        }
    }

    private mutating func ask(_ pending: Pending, wholeBody: Bool) -> [Action] {
        request = .deciding(pending)
        isOwedAnEnd = true
        return [.ask(wholeBody: wholeBody)]
    }

    private mutating func resolved(_ verdict: Verdict) -> [Action] {
        switch (request, verdict) {
        case (.deciding, .answer(let answer)):
            isOwedAnEnd = false
            return answerImmediately(answer)
        case (.deciding(let pending), .route(let route)):
            guard !route.destinations.isEmpty else {
                let answer = APIError(status: 503, message: "no endpoint").answer(details: "epp_pd_no_endpoint")
                return end(.failed, isEarly: false) + answerImmediately(answer)
            }
            return routed(route, pending)
        case (.routed, .answer(let answer)):
            guard response != .ended else { return [] }
            // Envoy accepts this at any time: before the first byte as an answer, after it by cutting the connection.
            return end(.timedOut, isEarly: false) + answerImmediately(answer)
        default:
            return []
        }
    }

    /// Gives the answers that Envoy waits for: headers first, then the body, then trailers.
    private mutating func routed(_ route: Route, _ pending: Pending) -> [Action] {
        request = .routed(bodyEnded: pending.bodyEnded || pending.trailers)
        var actions: [Action] = []
        if pending.headers { actions.append(.answerRequestHeaders(route)) }
        if pending.gathered.isPresent || pending.gathered.endOfStream {
            actions.append(.sendGathered(endOfStream: pending.gathered.endOfStream))
        }
        if pending.buffered { actions.append(.answerBufferedBody(route)) }
        actions += Array(repeating: .passRequestBody, count: pending.chunks)
        if pending.trailers { actions.append(.answerRequestTrailers) }
        actions.append(.dropGathered)
        return actions
    }

    private mutating func tooLarge() -> [Action] {
        let message = "the request body is larger than the limit of \(bodyLimit) bytes"
        return answerImmediately(APIError(status: 413, message: message).answer(details: "epp_pd_body_too_large"))
    }
}

// MARK: - The response's half

extension ExchangeMachine {
    private mutating func responseHeaders(_ answer: UpstreamAnswer, endOfStream: Bool) -> [Action] {
        guard response == .waiting else { return outOfOrder("response_headers") }
        guard let early = responseBegins() else { return outOfOrder("response_headers") }
        self.answer = answer
        response = .headers
        return early + [.answerResponseHeaders] + (endOfStream ? responseEnded() : [])
    }

    private mutating func responseBody(count: Int, endOfStream: Bool) -> [Action] {
        guard response != .ended, modes.response != .none, let early = responseBegins() else {
            return outOfOrder("response_body")
        }
        var actions = early
        response = .body
        if count > 0 {
            if !sawFirstToken, isOwedAnEnd, !answer.isFailure {
                sawFirstToken = true
                actions.append(.firstToken)
            }
            actions.append(.observe)
        }
        // Full duplex takes streamed answers only, and any number of them; the other modes take one bare answer a chunk.
        actions.append(modes.response == .fullDuplex ? .echoResponseBody(endOfStream: endOfStream) : .passResponseBody)
        return actions + (endOfStream ? responseEnded() : [])
    }

    private mutating func responseTrailers() -> [Action] {
        guard response != .ended, let early = responseBegins() else { return outOfOrder("response_trailers") }
        return early + [.answerResponseTrailers] + responseEnded()
    }

    /// A response before the route is Envoy's own, such as 408: the request will not be sent any more.
    ///
    /// - Returns: nil where no request came first.
    private mutating func responseBegins() -> [Action]? {
        switch request {
        case .waiting: return nil
        case .routed, .abandoned: return []
        case .gathering, .deciding:
            request = .abandoned
            return [.dropGathered] + end(.cancelled, isEarly: false)
        }
    }

    private mutating func responseEnded() -> [Action] {
        response = .ended
        return end(answer.kind, isEarly: false)
    }
}

// MARK: - The end

extension ExchangeMachine {
    private mutating func streamEnded(lost: Bool) -> [Action] {
        guard !isOver else { return [] }
        isOver = true
        guard case .routed = request, modes.response == .none, !lost else {
            // Whoever sees bodies sees their end; a stream that ends before it was left by its client.
            return [.dropGathered] + end(.cancelled, isEarly: false)
        }
        return end(answer.kind, isEarly: streamEnd == .isEarly)
    }

    private mutating func answerImmediately(_ answer: ImmediateAnswer) -> [Action] {
        isOver = true
        return [.dropGathered, .answerImmediately(answer)] + finish(.ok)
    }

    private mutating func outOfOrder(_ message: String) -> [Action] {
        violated(GRPCStatus(.invalidArgument, "\(message) out of order"))
    }

    private mutating func violated(_ status: GRPCStatus) -> [Action] {
        isOver = true
        return [.dropGathered] + end(.cancelled, isEarly: false) + finish(status)
    }

    private mutating func end(_ kind: Outcome.Kind, isEarly: Bool) -> [Action] {
        guard isOwedAnEnd else { return [] }
        isOwedAnEnd = false
        return [.ended(kind, status: answer.status, isEarly: isEarly)]
    }

    private mutating func finish(_ status: GRPCStatus) -> [Action] {
        guard !isFinished else { return [] }
        isFinished = true
        return [.finish(status)]
    }
}
