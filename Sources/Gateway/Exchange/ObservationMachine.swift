// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import Router

/// One exchange that Envoy only lets us watch (`observability_mode`): it sends what passes, waits for nothing and ignores
/// answers, so none is given. The request is put to the picker once its body is complete; whatever the verdict, nothing is
/// sent. Takes the inputs and gives the actions of `ExchangeMachine`.
package struct ObservationMachine: ~Copyable {
    private enum RequestHalf {
        case waiting
        case gathering(bytes: Int)
        case asked
        /// Too large, unreadable, or answered before it was complete: not put to the picker.
        case lost
    }

    private let bodyLimit: Int
    private var request = RequestHalf.waiting
    private var seesAnswerBodies = true
    private var sawAnswerHeaders = false
    private var answer = UpstreamAnswer(status: nil)
    private var sawFirstToken = false
    private var hasEnded = false
    private var isOver = false

    package init(_ options: ExchangeOptions) { bodyLimit = options.bodyLimit }

    /// See `ExchangeMachine`.
    package var expectsResponseHeaders = false

    /// Whether response headers came where no body says that a response has begun.
    var sawHeadersAlone: Bool { !seesAnswerBodies && sawAnswerHeaders }

    /// Whether the request's body is still on its way, and kept.
    package var isGathering: Bool {
        guard !isOver, case .gathering = request else { return false }
        return true
    }

    /// Whether the picker knows of the request, and has not been told of its end.
    var isFollowed: Bool {
        guard !isOver, !hasEnded, case .asked = request else { return false }
        return true
    }

    /// Takes one input, and appends what must now be done.
    package mutating func handle(_ input: ExchangeMachine.Input, into actions: inout [ExchangeMachine.Action]) {
        guard !isOver else { return }
        switch input {
        case .requestHeaders(let endOfStream, _, let modes):
            guard case .waiting = request else { return }
            seesAnswerBodies = modes?.response != BodyMode.none
            if endOfStream || modes?.request == BodyMode.none {
                ask(wholeBody: endOfStream, &actions)
            } else {
                request = .gathering(bytes: 0)
            }
        case .requestBody(let count, let endOfStream): requestBody(count, endOfStream, &actions)
        case .requestTrailers:
            if case .gathering = request { ask(wholeBody: true, &actions) }
        case .responseHeaders(let answer, let endOfStream):
            if case .gathering = request { lose(&actions) }
            self.answer = answer
            sawAnswerHeaders = true
            if endOfStream { end(answer.kind, &actions) }
        case .responseBody(let count, let endOfStream):
            responseBody(count, endOfStream, &actions)
        case .responseTrailers: end(answer.kind, &actions)
        case .resolved: break
        case .rejected: lose(&actions)
        case .violation(let status):
            over(&actions)
            actions.append(.finish(status))
        case .remoteEnded:
            over(&actions)
            actions.append(.finish(.ok))
        case .closed: over(&actions)
        }
    }

    private mutating func requestBody(_ count: Int, _ endOfStream: Bool, _ actions: inout [ExchangeMachine.Action]) {
        guard case .gathering(let bytes) = request else { return }
        guard count <= bodyLimit - bytes else { return lose(&actions) }
        actions.append(.gather)
        request = .gathering(bytes: bytes + count)
        if endOfStream { ask(wholeBody: true, &actions) }
    }

    private mutating func ask(wholeBody: Bool, _ actions: inout [ExchangeMachine.Action]) {
        request = .asked
        actions.append(.ask(wholeBody: wholeBody))
        actions.append(.dropGathered)
    }

    private mutating func responseBody(_ count: Int, _ endOfStream: Bool, _ actions: inout [ExchangeMachine.Action]) {
        if count > 0 {
            if case .asked = request, !sawFirstToken, !hasEnded, !answer.isFailure {
                sawFirstToken = true
                actions.append(.firstToken)
            }
            actions.append(.observe)
        }
        if endOfStream { end(answer.kind, &actions) }
    }

    private mutating func lose(_ actions: inout [ExchangeMachine.Action]) {
        request = .lost
        actions.append(.dropGathered)
    }

    private mutating func end(_ kind: Outcome.Kind, _ actions: inout [ExchangeMachine.Action]) {
        guard case .asked = request, !hasEnded else { return }
        hasEnded = true
        actions.append(.ended(kind, status: answer.status, isEarly: false))
    }

    /// Envoy closes the stream some seconds after the answer has ended. Where it sends answers' bodies, one that has not
    /// ended by then was left by its client.
    private mutating func over(_ actions: inout [ExchangeMachine.Action]) {
        let wasLeft = seesAnswerBodies || (expectsResponseHeaders && !sawAnswerHeaders)
        end(wasLeft ? .cancelled : answer.kind, &actions)
        isOver = true
        actions.append(.dropGathered)
    }
}
