// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router
import TestSupport
import Testing

@testable import Gateway

/// Whatever comes in, in whatever order: the machine never gives an answer that Envoy refuses, and forgets none.
struct AnswerOrderTests {
    typealias Input = ExchangeMachine.Input
    typealias Action = ExchangeMachine.Action

    private static let route = Route(destinations: ["a:1"])

    @Test(arguments: 0..<20)
    func noOrderOfInputsMakesAWrongOrderOfAnswers(block: UInt64) {
        for seed in block * 400..<(block + 1) * 400 {
            var random = SplitMix64(seed: seed)
            let options = Self.options(&random)
            var machine = ExchangeMachine(options, isSampled: Bool.random(using: &random))
            machine.expectsResponseHeaders = Bool.random(using: &random)
            var order = AnswerOrder(options)
            let inputs = Bool.random(using: &random) ? Self.anything(&random) : Self.nearlyRight(&random)
            var gathered = 0
            for input in inputs + [.closed(.reset(errorCode: 2))] {
                order.take(input)
                for action in machine.handle(input) {
                    if case .requestBody(let count, _) = input, action == .gather { gathered += count }
                    if let wrong = order.judge(action) {
                        Issue.record("seed \(seed): \(wrong): \(action) of \(inputs)")
                    }
                }
                if let missing = order.missing() {
                    Issue.record("seed \(seed): \(missing) after \(input) of \(inputs)")
                }
            }
            #expect(gathered <= options.bodyLimit, "seed \(seed)")
            #expect(
                order.ends == (order.isAsked && !order.isRefused ? 1 : 0),
                "seed \(seed): \(order.ends) ends of \(inputs)"
            )
        }
    }

    private static func options(_ random: inout SplitMix64) -> ExchangeOptions {
        var options = ExchangeOptions()
        options.bodyLimit = 150
        options.skims = Int.random(in: 0..<4, using: &random) == 0
        options.streamEnd = Bool.random(using: &random) ? .isEarly : .isResponseEnd
        options.assumedModes = modes(&random)
        options.overriddenShare = Bool.random(using: &random) ? 0.5 : nil
        return options
    }

    private static func modes(_ random: inout SplitMix64) -> BodyModes {
        let modes: [BodyMode] = [.none, .none, .streamed, .buffered, .fullDuplex, .fullDuplex, .fullDuplex]
        return BodyModes(
            request: modes.randomElement(using: &random) ?? .none,
            response: modes.randomElement(using: &random) ?? .none
        )
    }

    private static func anything(_ random: inout SplitMix64) -> [Input] {
        (0..<Int.random(in: 1..<20, using: &random)).map { _ in input(&random) }
    }

    /// An exchange as Envoy drives it, with a few inputs left out, doubled, exchanged or put in from elsewhere.
    private static func nearlyRight(_ random: inout SplitMix64) -> [Input] {
        let hasBody = Int.random(in: 0..<4, using: &random) > 0
        let hasTrailers = hasBody && Int.random(in: 0..<4, using: &random) == 0
        let pair = Int.random(in: 0..<6, using: &random) == 0 ? nil : modes(&random)
        var inputs: [Input] = [.requestHeaders(endOfStream: !hasBody, contentLength: nil, modes: pair)]
        if hasBody {
            for _ in 0..<Int.random(in: 0..<3, using: &random) {
                inputs.append(.requestBody(count: 50, endOfStream: false))
            }
            inputs.append(hasTrailers ? .requestTrailers : .requestBody(count: 0, endOfStream: true))
        }
        inputs.append(.resolved(.route(route)))
        // Modes that route by the headers are answered before the body comes.
        if pair?.request == .streamed || pair?.request == BodyMode.none { inputs.swapAt(1, inputs.count - 1) }
        inputs.append(.responseHeaders(UpstreamAnswer(status: 200), endOfStream: false))
        if pair?.response != BodyMode.none {
            inputs.append(.responseBody(count: 9, endOfStream: false))
            inputs.append(.responseBody(count: 0, endOfStream: true))
        }
        for _ in 0..<Int.random(in: 0..<3, using: &random) {
            let at = Int.random(in: 0..<inputs.count, using: &random)
            switch Int.random(in: 0..<4, using: &random) {
            case 0: if inputs.count > 1 { inputs.remove(at: at) }
            case 1: inputs.insert(inputs[at], at: at)
            case 2: inputs.swapAt(at, Int.random(in: 0..<inputs.count, using: &random))
            default: inputs.insert(input(&random), at: at)
            }
        }
        return inputs
    }

    private static func input(_ random: inout SplitMix64) -> Input {
        let flag = Bool.random(using: &random)
        let count = [0, 1, 50, 90].randomElement(using: &random) ?? 0
        let answer = ImmediateAnswer(status: 429, body: "", details: "")
        switch Int.random(in: 0..<16, using: &random) {
        case 0...2:
            var pair = modes(&random)
            if Int.random(in: 0..<20, using: &random) == 0 { pair.request = .unsupported }
            return .requestHeaders(endOfStream: flag, contentLength: count, modes: pair)
        case 3, 4: return .requestBody(count: count, endOfStream: flag)
        case 5: return .requestTrailers
        case 6: return .responseHeaders(UpstreamAnswer(status: flag ? 200 : 500), endOfStream: count == 0)
        case 7: return .responseBody(count: count, endOfStream: flag)
        case 8: return .responseTrailers
        case 9, 10: return .resolved(.route(count == 1 ? Route(destinations: []) : route))
        case 11: return .resolved(.answer(answer))
        case 12: return .rejected(answer)
        case 13: return flag ? .remoteEnded : .violation(GRPCStatus(.invalidArgument))
        case 14: return .closed(flag ? .connectionLost : .finished)
        default: return .responseBody(count: count, endOfStream: false)
        }
    }

    // MARK: - The judge itself

    enum Step {
        case takes(Input), gives(Action)
    }

    /// Each ends in an action that Envoy refuses: the rows about wrong answers.
    ///
    /// Made anew each time: a global's boxed payloads have tagged addresses, which LeakSanitizer takes for lost.
    static var wrong: [(String, [Step])] {
        let headers = Step.takes(.requestHeaders(endOfStream: false, contentLength: nil, modes: .fullDuplex))
        let body = Step.takes(.requestBody(count: 5, endOfStream: true))
        let routed: [Step] = [
            headers, body, .gives(.answerRequestHeaders(route)), .gives(.sendGathered(endOfStream: true)),
        ]
        let answered = routed + [.takes(.responseHeaders(UpstreamAnswer(status: 200), endOfStream: false))]
        let chunk = Step.takes(.responseBody(count: 1, endOfStream: false))
        return [
            ("a body before the headers' answer", [headers, body, .gives(.sendGathered(endOfStream: true))]),
            ("a body after its end", routed + [.gives(.sendGathered(endOfStream: true))]),
            ("a bare answer in mode fullDuplex", routed + [.gives(.passRequestBody)]),
            (
                "a bare answer in mode fullDuplex",
                answered + [.gives(.answerResponseHeaders), chunk, .gives(.passResponseBody)]
            ),
            ("a body before the headers' answer", answered + [chunk, .gives(.echoResponseBody(endOfStream: false))]),
            (
                "an end of body that did not come",
                answered + [.gives(.answerResponseHeaders), chunk, .gives(.echoResponseBody(endOfStream: true))]
            ),
            ("an answer to trailers that did not come", routed + [.gives(.answerRequestTrailers)]),
            (
                "trailers before the body",
                [
                    headers, .takes(.requestBody(count: 5, endOfStream: false)), .takes(.requestTrailers),
                    .gives(.answerRequestHeaders(route)), .gives(.answerRequestTrailers),
                ]
            ),
            (
                "sent after the end",
                answered + [
                    .gives(.answerImmediately(ImmediateAnswer(status: 503, body: "", details: ""))),
                    .gives(.answerResponseHeaders),
                ]
            ),
            (
                "an override of modes that Envoy does not let go",
                [headers, .gives(.overrideModes(showsResponse: true))]
            ),
            ("a clean end before the request was on its way", [headers, .gives(.finish(GRPCStatus(.ok)))]),
            ("headers let go without a destination", [headers, .gives(.answerRequestHeaders(nil))]),
        ]
    }

    @Test(arguments: wrong.indices)
    func wrongAnswersAreSeen(index: Int) {
        let (expected, steps) = Self.wrong[index]
        var order = AnswerOrder(ExchangeOptions())
        var found: [String] = []
        for step in steps {
            switch step {
            case .takes(let input): order.take(input)
            case .gives(let action): if let wrong = order.judge(action) { found.append(wrong) }
            }
        }
        #expect(found == [expected])
    }

    @Test func aForgottenAnswerIsSeen() {
        var order = AnswerOrder(ExchangeOptions())
        order.take(.requestHeaders(endOfStream: false, contentLength: nil, modes: .fullDuplex))
        order.take(.requestBody(count: 5, endOfStream: true))
        #expect(order.missing() == nil)
        #expect(order.judge(.answerRequestHeaders(Self.route)) == nil)
        #expect(order.missing() == "no answer to the request's a body")
        #expect(order.judge(.sendGathered(endOfStream: true)) == nil)
        #expect(order.missing() == nil)
    }
}
