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
    private let skims: Bool
    /// Whether the response's bodies are to be seen where modes are overridden. nil: they are not overridden.
    private let overriding: Bool?

    private var streamEnd: ExchangeOptions.StreamEnd
    private var modes: BodyModes
    private var isOverridden = false
    private var request = RequestHalf.waiting
    private var response = ResponseHalf.waiting
    private var answer = UpstreamAnswer(status: nil)
    private var sawFirstToken = false
    /// The picker was asked, and not yet told of an end.
    private var isOwedAnEnd = false
    /// No message will be sent or taken any more.
    private var isOver = false
    private var isFinished = false

    /// `isSampled`: whether this exchange is one whose response is to be seen, where that is a choice.
    package init(_ options: ExchangeOptions, isSampled: Bool = true) {
        skims = options.skims
        overriding = options.overriddenShare.map { _ in isSampled }
        bodyLimit = options.bodyLimit
        assumedModes = options.assumedModes
        streamEnd = options.streamEnd
        modes = options.assumedModes
    }

    /// Nothing has come yet.
    var isFresh: Bool {
        guard !isOver, case .waiting = request, case .waiting = response else { return false }
        return true
    }

    /// Whether the exchange's Envoy is known to send response headers: a response without bodies that ends before them was
    /// then left by its client. `protocol_config` does not tell; whoever drives the machine knows it from other exchanges.
    package var expectsResponseHeaders = false

    /// Whether response headers came where no body says that a response has begun.
    var sawHeadersAlone: Bool { modes.response == .none && response != .waiting }

    /// Whether the request's body is still on its way, and kept.
    package var isGathering: Bool {
        guard !isOver, case .gathering = request else { return false }
        return true
    }

    /// Whether response bodies come as they are sent, so that the first token can be seen.
    package var showsFirstToken: Bool { modes.response == .fullDuplex || modes.response == .streamed }

    /// Takes one input, and says what must now be done.
    package mutating func handle(_ input: Input) -> [Action] {
        var actions: [Action] = []
        handle(input, into: &actions)
        return actions
    }

    /// Takes one input, and appends what must now be done.
    package mutating func handle(_ input: Input, into actions: inout [Action]) {
        switch input {
        case .remoteEnded:
            streamEnded(lost: false, &actions)
            finish(.ok, &actions)
            return
        case .closed(let end):
            isFinished = true
            return streamEnded(lost: end == .connectionLost, &actions)
        default:
            guard !isOver else { return }
        }
        switch input {
        case .requestHeaders(let endOfStream, let contentLength, let modes):
            requestHeaders(endOfStream: endOfStream, contentLength: contentLength, modes: modes, &actions)
        case .requestBody(let count, let endOfStream):
            requestBody(count: count, endOfStream: endOfStream, &actions)
        case .requestTrailers:
            requestTrailers(&actions)
        case .responseHeaders(let answer, let endOfStream):
            responseHeaders(answer, endOfStream: endOfStream, &actions)
        case .responseBody(let count, let endOfStream):
            responseBody(count: count, endOfStream: endOfStream, &actions)
        case .responseTrailers:
            responseTrailers(&actions)
        case .resolved(let verdict):
            resolved(verdict, &actions)
        case .rejected(let answer): rejected(answer, &actions)
        case .violation(let status):
            violated(status, &actions)
        case .remoteEnded, .closed:
            break
        }
    }
}

// MARK: - The request's half

extension ExchangeMachine {
    private mutating func requestHeaders(
        endOfStream: Bool,
        contentLength: Int?,
        modes: BodyModes?,
        _ actions: inout [Action]
    ) {
        guard case .waiting = request, case .waiting = response else { return outOfOrder("request_headers", &actions) }
        self.modes = modes ?? assumedModes
        guard self.modes.request != .unsupported, self.modes.response != .unsupported else {
            return violated(GRPCStatus(.unimplemented, "body mode not supported"), &actions)
        }
        // What ends with its headers is known whole, and empty.
        if endOfStream { return ask(Pending(headers: true, bodyEnded: true), wholeBody: true, &actions) }
        overrideModes(&actions)
        switch self.modes.request {
        case .none, .streamed, .unsupported:
            // A streamed body comes only after the headers were answered, so the headers alone decide.
            ask(Pending(headers: true), wholeBody: false, &actions)
        case .fullDuplex, .buffered:
            if let contentLength, contentLength > bodyLimit { return tooLarge(&actions) }
            request = .gathering(bytes: 0)
            // A buffered body too comes only after the headers were answered; its answer may still change them.
            if self.modes.request == .buffered { actions.append(.answerRequestHeaders(nil)) }
        }
    }

    /// Envoy takes an override before the headers are answered, and only where its configuration shows no body in full
    /// duplex: there it would be an error. `protocol_config` goes on to name the configured modes.
    private mutating func overrideModes(_ actions: inout [Action]) {
        guard let overriding, modes.response == .none, modes.request == .none || modes.request == .streamed else {
            return
        }
        modes = BodyModes(request: .fullDuplex, response: overriding ? .fullDuplex : .none)
        // The override asks for trailers, which keep the stream open until the response's end, and for response headers.
        streamEnd = .isResponseEnd
        isOverridden = true
        actions.append(.overrideModes(showsResponse: overriding))
    }

    private mutating func requestBody(count: Int, endOfStream: Bool, _ actions: inout [Action]) {
        switch request {
        case .gathering(let bytes):
            guard count <= bodyLimit - bytes else { return tooLarge(&actions) }
            actions.append(.gather)
            if modes.request == .buffered {
                // One message holds the whole body, also where trailers follow and it bears no end.
                ask(Pending(buffered: true, bodyEnded: endOfStream), wholeBody: true, &actions)
            } else if endOfStream {
                let pending = Pending(headers: true, gathered: (true, true), bodyEnded: true)
                ask(pending, wholeBody: true, &actions)
            } else {
                request = .gathering(bytes: bytes + count)
            }
        case .deciding(var pending):
            guard modes.request == .streamed, !pending.bodyEnded, !pending.trailers else {
                return outOfOrder("request_body", &actions)
            }
            pending.chunks += 1
            pending.bodyEnded = endOfStream
            request = .deciding(pending)
        case .routed(let bodyEnded):
            guard modes.request == .streamed, !bodyEnded else { return outOfOrder("request_body", &actions) }
            request = .routed(bodyEnded: endOfStream)
            actions.append(.passRequestBody)
        case .abandoned:
            break
        case .waiting:
            outOfOrder("request_body", &actions)
        }
    }

    private mutating func requestTrailers(_ actions: inout [Action]) {
        switch request {
        case .gathering(let bytes):
            guard modes.request == .fullDuplex else {
                // No message is left whose answer could carry the route.
                let error = APIError(status: 400, message: "a request with trailers needs a body")
                return answerImmediately(error.answer(details: "epp_pd_trailers_without_body"), &actions)
            }
            let pending = Pending(headers: true, gathered: (bytes > 0, false), bodyEnded: true, trailers: true)
            ask(pending, wholeBody: true, &actions)
        case .deciding(var pending):
            guard !pending.trailers, modes.request != .fullDuplex else {
                return outOfOrder("request_trailers", &actions)
            }
            pending.trailers = true
            request = .deciding(pending)
        case .routed(let bodyEnded):
            guard !bodyEnded else { return outOfOrder("request_trailers", &actions) }
            request = .routed(bodyEnded: true)
            actions.append(.answerRequestTrailers)
        case .abandoned:
            break
        case .waiting:
            outOfOrder("request_trailers", &actions)
        }
    }

    private mutating func ask(_ pending: Pending, wholeBody: Bool, _ actions: inout [Action]) {
        request = .deciding(pending)
        isOwedAnEnd = true
        actions.append(.ask(wholeBody: wholeBody))
    }

    private mutating func resolved(_ verdict: Verdict, _ actions: inout [Action]) {
        switch (request, verdict) {
        case (.deciding, .answer(let answer)):
            isOwedAnEnd = false
            answerImmediately(answer, &actions)
        case (.deciding(let pending), .route(let route)):
            guard !route.destinations.isEmpty else {
                end(.failed, isEarly: false, &actions)
                let error = APIError(status: 503, message: "no endpoint")
                return answerImmediately(error.answer(details: "epp_pd_no_endpoint"), &actions)
            }
            routed(route, pending, &actions)
        case (.routed, .answer(let answer)):
            guard response != .ended else { return }
            // Envoy accepts this at any time: before the first byte as an answer, after it by cutting the connection.
            end(.timedOut, isEarly: false, &actions)
            answerImmediately(answer, &actions)
        default:
            break
        }
    }

    private mutating func rejected(_ answer: ImmediateAnswer, _ actions: inout [Action]) {
        switch request {
        case .gathering, .deciding:
            isOwedAnEnd = false
            answerImmediately(answer, &actions)
        case .waiting, .routed, .abandoned:
            break
        }
    }

    /// Gives the answers that Envoy waits for: headers first, then the body, then trailers.
    private mutating func routed(_ route: Route, _ pending: Pending, _ actions: inout [Action]) {
        request = .routed(bodyEnded: pending.bodyEnded || pending.trailers)
        if pending.headers { actions.append(.answerRequestHeaders(route)) }
        if pending.gathered.isPresent || pending.gathered.endOfStream {
            actions.append(.sendGathered(endOfStream: pending.gathered.endOfStream))
        }
        if pending.buffered { actions.append(.answerBufferedBody(route)) }
        for _ in 0..<pending.chunks { actions.append(.passRequestBody) }
        if pending.trailers { actions.append(.answerRequestTrailers) }
        actions.append(.dropGathered)
        // Not later: what Envoy has then sent of the response would be lost. Not earlier: it still needs answers.
        guard skims, pending.bodyEnded || pending.trailers else { return }
        isOver = true
        end(.completed, isEarly: true, &actions)
        finish(.ok, &actions)
    }

    private mutating func tooLarge(_ actions: inout [Action]) {
        let message = "the request body is larger than the limit of \(bodyLimit) bytes"
        answerImmediately(APIError(status: 413, message: message).answer(details: "epp_pd_body_too_large"), &actions)
    }
}

// MARK: - The response's half

extension ExchangeMachine {
    private mutating func responseHeaders(_ answer: UpstreamAnswer, endOfStream: Bool, _ actions: inout [Action]) {
        guard response == .waiting, responseBegins(&actions) else { return outOfOrder("response_headers", &actions) }
        self.answer = answer
        response = .headers
        actions.append(.answerResponseHeaders)
        if endOfStream { responseEnded(&actions) }
    }

    private mutating func responseBody(count: Int, endOfStream: Bool, _ actions: inout [Action]) {
        guard response != .ended, modes.response != .none, responseBegins(&actions) else {
            return outOfOrder("response_body", &actions)
        }
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
        if endOfStream { responseEnded(&actions) }
    }

    private mutating func responseTrailers(_ actions: inout [Action]) {
        guard response != .ended, responseBegins(&actions) else { return outOfOrder("response_trailers", &actions) }
        actions.append(.answerResponseTrailers)
        responseEnded(&actions)
    }

    /// A response before the route is Envoy's own, such as 408: the request will not be sent any more.
    ///
    /// - Returns: false where no request came first.
    private mutating func responseBegins(_ actions: inout [Action]) -> Bool {
        switch request {
        case .waiting: return false
        case .routed, .abandoned: return true
        case .gathering, .deciding:
            request = .abandoned
            actions.append(.dropGathered)
            end(.cancelled, isEarly: false, &actions)
            return true
        }
    }

    private mutating func responseEnded(_ actions: inout [Action]) {
        response = .ended
        end(answer.kind, isEarly: false, &actions)
    }
}

// MARK: - The end

extension ExchangeMachine {
    private mutating func streamEnded(lost: Bool, _ actions: inout [Action]) {
        guard !isOver else { return }
        isOver = true
        let wasLeft = response == .waiting && (expectsResponseHeaders || isOverridden)
        if case .routed = request, modes.response == .none, !lost, !wasLeft {
            return end(answer.kind, isEarly: streamEnd == .isEarly, &actions)
        }
        // Whoever sees bodies sees their end; a stream that ends before it was left by its client.
        actions.append(.dropGathered)
        end(.cancelled, isEarly: false, &actions)
    }

    private mutating func answerImmediately(_ answer: ImmediateAnswer, _ actions: inout [Action]) {
        isOver = true
        actions.append(.dropGathered)
        actions.append(.answerImmediately(answer))
        finish(.ok, &actions)
    }

    private mutating func outOfOrder(_ message: StaticString, _ actions: inout [Action]) {
        violated(GRPCStatus(.invalidArgument, "\(message) out of order"), &actions)
    }

    private mutating func violated(_ status: GRPCStatus, _ actions: inout [Action]) {
        isOver = true
        actions.append(.dropGathered)
        end(.cancelled, isEarly: false, &actions)
        finish(status, &actions)
    }

    private mutating func end(_ kind: Outcome.Kind, isEarly: Bool, _ actions: inout [Action]) {
        guard isOwedAnEnd else { return }
        isOwedAnEnd = false
        actions.append(.ended(kind, status: answer.status, isEarly: isEarly))
    }

    private mutating func finish(_ status: GRPCStatus, _ actions: inout [Action]) {
        guard !isFinished else { return }
        isFinished = true
        actions.append(.finish(status))
    }
}
