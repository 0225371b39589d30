// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router

@testable import Gateway

/// Judges the machine's actions by what Envoy 1.40 was seen to refuse, hang on or lose: see `EnvoyModel`, which judges the
/// same on the wire for orders that Envoy sends. This one stands any order of inputs.
struct AnswerOrder {
    typealias Input = ExchangeMachine.Input
    typealias Action = ExchangeMachine.Action

    /// What came and what was answered in one direction.
    struct Half: Hashable {
        var mode = BodyMode.fullDuplex
        var headersCame = false
        var headersAnswered = false
        var bodyCame = false
        /// Chunks that wait for their one answer, where the mode has it so.
        var chunksOpen = 0
        var endCame = false
        var bodySent = false
        var endSent = false
        var trailersCame = false
        var trailersAnswered = false

        var isDuplex: Bool { mode == .fullDuplex }
        var headersAreOpen: Bool { headersCame && !headersAnswered }

        mutating func came(body count: Int, endOfStream: Bool) {
            bodyCame = true
            if count > 0 || endOfStream || !isDuplex { chunksOpen += 1 }
            if endOfStream { endCame = true }
        }

        mutating func answerHeaders() -> String? {
            guard headersAreOpen else { return "an answer to headers that were not asked about" }
            headersAnswered = true
            return nil
        }

        mutating func sendStreamed(endOfStream: Bool) -> String? {
            guard isDuplex else { return "a streamed answer in mode \(mode)" }
            guard bodyCame else { return "a body where none came" }
            guard !headersAreOpen else { return "a body before the headers' answer" }
            guard !endSent else { return "a body after its end" }
            guard !trailersAnswered else { return "a body after the trailers" }
            if endOfStream {
                guard endCame else { return "an end of body that did not come" }
                guard !trailersCame else { return "an end of body before trailers" }
                endSent = true
            }
            chunksOpen = 0
            bodySent = true
            return nil
        }

        mutating func sendBare() -> String? {
            guard mode == .streamed || mode == .buffered else { return "a bare answer in mode \(mode)" }
            guard !headersAreOpen else { return "a body before the headers' answer" }
            guard chunksOpen > 0 else { return "an answer to a chunk that did not come" }
            guard !trailersAnswered else { return "a body after the trailers" }
            chunksOpen -= 1
            return nil
        }

        mutating func answerTrailers() -> String? {
            guard trailersCame, !trailersAnswered else { return "an answer to trailers that did not come" }
            guard !headersAreOpen else { return "trailers before the headers' answer" }
            guard mode == .none || chunksOpen == 0 else { return "trailers before the body" }
            guard !endSent else { return "trailers after the body's end" }
            trailersAnswered = true
            return nil
        }

        /// What Envoy would wait for without end.
        var openAnswer: String? {
            if headersAreOpen { return "headers" }
            if mode != .none, chunksOpen > 0 { return "a body" }
            if isDuplex, endCame, !endSent { return "a body's end" }
            return trailersCame && !trailersAnswered ? "trailers" : nil
        }
    }

    let skims: Bool
    let assumedModes: BodyModes
    private(set) var request = Half()
    private(set) var response = Half()
    private(set) var ends = 0
    private(set) var isAsked = false
    private(set) var isRefused = false
    private(set) var finishes = 0
    private var isOverridden = false
    private var isRouted = false
    private var isAbandoned = false
    private var sawImmediate = false
    private var sawFirstToken = false
    private var envoyEnded = false
    private var isClosed = false

    init(_ options: ExchangeOptions) {
        skims = options.skims
        assumedModes = options.assumedModes
    }

    private var isOver: Bool { sawImmediate || finishes > 0 || envoyEnded }

    private var responseEnded: Bool { response.endSent || response.trailersAnswered }

    mutating func take(_ input: Input) {
        guard !isOver else { return }
        switch input {
        case .requestHeaders(let endOfStream, _, let modes):
            guard !request.headersCame else { return }
            request.headersCame = true
            request.mode = (modes ?? assumedModes).request
            response.mode = (modes ?? assumedModes).response
            // No body comes then, and none is waited for.
            if endOfStream { request.mode = request.mode == .unsupported ? .unsupported : .none }
        case .requestBody(let count, let endOfStream): request.came(body: count, endOfStream: endOfStream)
        case .requestTrailers: request.trailersCame = true
        case .responseHeaders:
            isAbandoned = isAbandoned || !isRouted
            response.headersCame = true
        case .responseBody(let count, let endOfStream):
            isAbandoned = isAbandoned || !isRouted
            response.came(body: count, endOfStream: endOfStream)
        case .responseTrailers:
            isAbandoned = isAbandoned || !isRouted
            response.trailersCame = true
        case .remoteEnded: envoyEnded = true
        case .closed: (envoyEnded, isClosed) = (true, true)
        case .resolved, .rejected, .violation: break
        }
    }

    /// - Returns: what is wrong with this action, or nil.
    mutating func judge(_ action: Action) -> String? {
        switch action {
        case .ask:
            guard !isAsked, !isOver else { return "asked twice, or too late" }
            isAsked = true
            return nil
        case .gather:
            return isOver ? "gathered after the end" : nil
        case .dropGathered, .observe: return nil
        case .firstToken:
            guard isAsked, ends == 0, !sawFirstToken else { return "a first token of nothing" }
            sawFirstToken = true
            return nil
        case .ended:
            ends += 1
            return isAsked && ends == 1 ? nil : "an end of nothing"
        case .finish(let status): return finish(status)
        default: break
        }
        guard !isOver else { return "sent after the end" }
        return send(action)
    }

    private mutating func finish(_ status: GRPCStatus) -> String? {
        finishes += 1
        guard finishes == 1, !isClosed else { return "finished twice, or a closed call" }
        // A clean end makes Envoy go on by itself: to a destination of the client's wish, or with a part of the answer.
        guard status.code == .ok, !envoyEnded, !sawImmediate else { return nil }
        guard skims, isRouted, request.openAnswer == nil else { return "a clean end before the request was on its way" }
        return response == Half(mode: response.mode) ? nil : "a clean end within the response"
    }

    private mutating func send(_ action: Action) -> String? {
        switch action {
        case .overrideModes(let showsResponse):
            guard request.headersAreOpen, !isOverridden else { return "an override after the headers' answer" }
            guard request.mode == .none || request.mode == .streamed, response.mode == .none else {
                return "an override of modes that Envoy does not let go"
            }
            isOverridden = true
            request.mode = .fullDuplex
            response.mode = showsResponse ? .fullDuplex : .none
            return nil
        case .answerRequestHeaders(let route):
            guard route != nil || request.mode == .buffered else { return "headers let go without a destination" }
            return request.answerHeaders() ?? take(route)
        case .sendGathered(let endOfStream): return request.sendStreamed(endOfStream: endOfStream)
        case .answerBufferedBody(let route):
            guard request.mode == .buffered else { return "a buffered answer in mode \(request.mode)" }
            return request.sendBare() ?? take(route)
        case .passRequestBody:
            guard request.mode == .streamed else { return "a bare answer in mode \(request.mode)" }
            return request.sendBare()
        case .answerRequestTrailers: return request.answerTrailers()
        case .answerResponseHeaders: return response.answerHeaders()
        case .echoResponseBody(let endOfStream): return response.sendStreamed(endOfStream: endOfStream)
        case .passResponseBody: return response.sendBare()
        case .answerResponseTrailers: return response.answerTrailers()
        case .answerImmediately:
            guard request.headersCame else { return "an answer to nobody" }
            guard !responseEnded else { return "an answer after the answer" }
            sawImmediate = true
            isRefused = ends == 0
            return nil
        default: return nil
        }
    }

    private mutating func take(_ route: Route?) -> String? {
        guard let route else { return nil }
        guard !isRouted, !isAbandoned, !route.destinations.isEmpty else { return "routed twice, too late or nowhere" }
        isRouted = true
        return nil
    }

    /// - Returns: what Envoy now waits for in vain, or nil.
    func missing() -> String? {
        guard !isOver else { return nil }
        if isRouted, let open = request.openAnswer { return "no answer to the request's \(open)" }
        return response.openAnswer.map { "no answer to the response's \($0)" }
    }
}
