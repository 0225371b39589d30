// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import TestSupport
import Testing

@testable import Gateway
@testable import Router

/// What Envoy only lets us watch: decided, followed to its end, never answered.
struct ObservationTests {
    typealias Action = ExchangeMachine.Action
    typealias Input = ExchangeMachine.Input

    private let streamed = BodyModes(request: .streamed, response: .streamed)

    private func play(_ inputs: [Input], limit: Int = 1000) -> [Action] {
        var options = ExchangeOptions()
        options.bodyLimit = limit
        var machine = ObservationMachine(options)
        var actions: [Action] = []
        for input in inputs { machine.handle(input, into: &actions) }
        return actions
    }

    @Test func aStreamIsAskedAboutOnceItsBodyIsComplete() {
        let actions = play([
            .requestHeaders(endOfStream: false, contentLength: nil, modes: streamed),
            .requestBody(count: 10, endOfStream: false), .requestBody(count: 5, endOfStream: true),
            .resolved(.route(Route(destinations: ["a:1"]))),
            .responseHeaders(UpstreamAnswer(status: 200), endOfStream: false),
            .responseBody(count: 7, endOfStream: false), .responseBody(count: 0, endOfStream: true),
            .closed(.reset(errorCode: 2)),
        ])
        #expect(
            actions == [
                .gather, .gather, .ask(wholeBody: true), .dropGathered, .firstToken, .observe,
                .ended(.completed, status: 200, isEarly: false), .dropGathered,
            ]
        )
    }

    @Test func trailersEndABody() {
        let actions = play([
            .requestHeaders(endOfStream: false, contentLength: nil, modes: streamed),
            .requestBody(count: 10, endOfStream: false), .requestTrailers,
            .responseHeaders(UpstreamAnswer(status: 200), endOfStream: false), .responseTrailers, .remoteEnded,
        ])
        #expect(
            actions == [
                .gather, .ask(wholeBody: true), .dropGathered, .ended(.completed, status: 200, isEarly: false),
                .dropGathered, .finish(.ok),
            ]
        )
    }

    @Test func whoLeavesEarlyIsCancelled() {
        let actions = play([
            .requestHeaders(endOfStream: true, contentLength: nil, modes: streamed),
            .responseHeaders(UpstreamAnswer(status: 200), endOfStream: false),
            .responseBody(count: 3, endOfStream: false), .closed(.connectionLost),
            .responseBody(count: 3, endOfStream: true),
        ])
        let ends = actions.filter { if case .ended = $0 { true } else { false } }
        #expect(ends == [.ended(.cancelled, status: 200, isEarly: false)])
    }

    @Test func bodiesOverTheLimitAreNotAskedAbout() {
        let actions = play(
            [
                .requestHeaders(endOfStream: false, contentLength: nil, modes: streamed),
                .requestBody(count: 60, endOfStream: false), .requestBody(count: 60, endOfStream: true),
                .responseHeaders(UpstreamAnswer(status: 200), endOfStream: true), .remoteEnded,
            ],
            limit: 100
        )
        #expect(actions == [.gather, .dropGathered, .dropGathered, .finish(.ok)])
    }

    /// Whatever comes in whatever order: nothing is sent, each asked request ends exactly once, the end is the end.
    @Test(arguments: 0..<200 as Range<UInt64>)
    func anyOrderIsHarmless(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let bodiless = BodyModes(request: .none, response: .none)
        let refusal = ImmediateAnswer(status: 503, body: "", details: "")
        let inputs = (0..<30).map { _ -> Input in
            let end = Bool.random(using: &random)
            return switch Int.random(in: 0..<11, using: &random) {
            case 0: .requestHeaders(endOfStream: end, contentLength: nil, modes: streamed)
            case 1: .requestHeaders(endOfStream: end, contentLength: 5, modes: bodiless)
            case 2, 3: .requestBody(count: Int.random(in: 0...80, using: &random), endOfStream: end)
            case 4: .requestTrailers
            case 5: .responseHeaders(UpstreamAnswer(status: end ? 200 : 500), endOfStream: end)
            case 6: .responseBody(count: Int.random(in: 0...8, using: &random), endOfStream: end)
            case 7: .responseTrailers
            case 8: .resolved(end ? .route(Route(destinations: ["a:1"])) : .answer(refusal))
            case 9: .rejected(refusal)
            default: end ? .remoteEnded : .violation(GRPCStatus(.invalidArgument, "x"))
            }
        }
        let actions = play(inputs + [.closed(.reset(errorCode: 2))], limit: 100)
        var asked = 0
        var ended = 0
        var finished = 0
        for action in actions {
            switch action {
            case .ask: asked += 1
            case .ended: ended += 1
            case .finish: finished += 1
            case .gather, .dropGathered, .observe, .firstToken: #expect(finished == 0)
            default: Issue.record("sent \(action)")
            }
        }
        #expect(asked <= 1 && finished <= 1)
        let wasRejected = inputs.contains { if case .rejected = $0 { true } else { false } }
        #expect(wasRejected ? ended <= asked : ended == asked)
    }
}
