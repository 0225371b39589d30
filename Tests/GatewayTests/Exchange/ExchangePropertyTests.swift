// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router
import TestSupport
import Testing

@testable import Gateway

/// Whatever comes in, Envoy must accept what goes out, and the picker must hear the truth.
@Suite("Exchange properties")
struct ExchangePropertyTests {
    /// One exchange as Envoy may drive it, with every choice drawn from a seed.
    struct Scenario {
        enum Ending: CaseIterable {
            case whole, clientLeaves, connectionLost, envoyAnswersEarly
        }

        var modes: BodyModes
        var requestChunks: [[UInt8]]?
        var requestTrailers: Bool
        var endsAlone: Bool
        var responseChunks: [[UInt8]]?
        var responseTrailers: Bool
        var status: Int
        var ending: Ending
        /// After so many messages the ending comes, where it is not whole.
        var cut: Int
        /// The picker answers after so many messages more, with this.
        var delay: Int
        var verdict: Verdict
        var refusesLate: Bool
        var path: String

        init(seed: UInt64) {
            var random = SplitMix64(seed: seed)
            let requestModes: [BodyMode] = [.fullDuplex, .fullDuplex, .streamed, .buffered, .none]
            let responseModes: [BodyMode] = [.fullDuplex, .fullDuplex, .streamed, .buffered, .none]
            modes = BodyModes(
                request: requestModes.randomElement(using: &random) ?? .none,
                response: responseModes.randomElement(using: &random) ?? .none
            )
            path = ["/v1/chat/completions", "/tokenize"].randomElement(using: &random) ?? ""
            let body = ExchangeTests.body
            requestChunks = Bool.random(using: &random) ? Self.cut(body, &random) : nil
            if Int.random(in: 0..<8, using: &random) == 0, path == "/tokenize" {
                requestChunks = Self.cut([UInt8](repeating: 7, count: 150_000), &random)
            }
            requestTrailers = Int.random(in: 0..<4, using: &random) == 0
            endsAlone = Bool.random(using: &random)
            let size = Int.random(in: 0..<16, using: &random) == 0 ? 150_000 : Int.random(in: 0..<3_000, using: &random)
            let answer = (0..<size).map { UInt8(truncatingIfNeeded: $0) }
            responseChunks = Int.random(in: 0..<5, using: &random) > 0 ? Self.cut(answer, &random) : nil
            responseTrailers = Int.random(in: 0..<4, using: &random) == 0
            status = [200, 200, 404, 503].randomElement(using: &random) ?? 200
            ending =
                Int.random(in: 0..<2, using: &random) == 0
                ? .whole : Ending.allCases.randomElement(using: &random) ?? .whole
            cut = Int.random(in: 0..<12, using: &random)
            delay = [0, 0, 1, 3].randomElement(using: &random) ?? 0
            verdict =
                Int.random(in: 0..<4, using: &random) == 0
                ? .answer(ImmediateAnswer(status: 429, body: "{}", details: "shed"))
                : .route(Route(destinations: ["10.0.0.1:8000"]))
            refusesLate = Int.random(in: 0..<6, using: &random) == 0
        }

        static func cut(_ bytes: [UInt8], _ random: inout SplitMix64) -> [[UInt8]] {
            var chunks: [[UInt8]] = []
            var rest = bytes[...]
            while !rest.isEmpty {
                let count = Int.random(in: 1...max(1, rest.count), using: &random)
                chunks.append(Array(rest.prefix(count)))
                rest = rest.dropFirst(count)
            }
            return chunks
        }
    }

    /// Plays Envoy's part in one scenario.
    struct Drive {
        let scenario: Scenario
        let bench: Bench
        var envoy: EnvoyModel
        var sent = 0
        var isOver = false
        var askedAt: Int?
        var lateRefusal = false

        init(_ scenario: Scenario) throws {
            self.scenario = scenario
            bench = try Bench(ScriptedPicker(scenario.delay == 0 ? scenario.verdict : nil))
            envoy = EnvoyModel(scenario.modes)
        }

        /// Sends one message unless the exchange is over, then lets the picker speak.
        mutating func send(_ message: [UInt8]) throws {
            guard !isOver else { return }
            sent += 1
            for answer in try bench.send(message) { try envoy.accept(answer) }
            try settle()
            if scenario.ending != .whole, sent > scenario.cut { try end() }
        }

        /// Lets a slow picker answer when its time has come, or, `now`, at once: Envoy waits for it.
        mutating func settle(now: Bool = false) throws {
            if let exchange = bench.picker.pending[RequestID(1)] {
                let asked = askedAt ?? sent
                askedAt = asked
                if now || sent >= asked + scenario.delay {
                    exchange.resolve(scenario.verdict)
                    if scenario.refusesLate, sent % 2 == 0 {
                        lateRefusal = true
                        exchange.resolve(.answer(ImmediateAnswer(status: 503, body: "late", details: "late")))
                    }
                }
            }
            for answer in try bench.answers() { try envoy.accept(answer) }
            if envoy.immediate != nil || bench.call.status != nil { isOver = true }
        }

        mutating func end() throws {
            guard !isOver else { return }
            switch scenario.ending {
            case .whole: break
            case .clientLeaves:
                isOver = true
                if sent % 2 == 0 { bench.handler.remoteEnded() }
                bench.handler.closed(.reset(errorCode: 2))
            case .connectionLost:
                isOver = true
                bench.handler.closed(.connectionLost)
            case .envoyAnswersEarly:
                guard !envoy.response.headersSent else { return }
                try respond(408, [Array("timeout".utf8)], trailers: false)
                isOver = true
            }
        }

        mutating func request() throws {
            let modes = scenario.modes
            let hasBody = scenario.requestChunks != nil
            envoy.request.headersSent = true
            try send(
                EnvoyMessage.requestHeaders(
                    [(":method", "POST"), (":path", scenario.path)],
                    endOfStream: !hasBody,
                    modes: (Self.wire(modes.request), Self.wire(modes.response))
                )
            )
            guard let chunks = scenario.requestChunks else { return try settle(now: true) }
            if modes.request != .fullDuplex { try settle(now: true) }
            switch modes.request {
            case .none, .unsupported: break
            case .buffered:
                envoy.request.bodySent = true
                envoy.request.waiting.append(chunks.flatMap(\.self))
                try send(EnvoyMessage.requestBody(chunks.joined(), endOfStream: !scenario.requestTrailers))
                try settle(now: true)
            case .streamed, .fullDuplex:
                for (index, chunk) in chunks.enumerated() {
                    let isEnd = index == chunks.count - 1 && !scenario.endsAlone && !scenario.requestTrailers
                    try sendChunk(chunk, endOfStream: isEnd)
                }
                if scenario.endsAlone, !scenario.requestTrailers { try sendChunk([], endOfStream: true) }
            }
            if scenario.requestTrailers, !isOver, !envoy.response.headersSent {
                envoy.request.trailersSent = true
                try send(EnvoyMessage.requestTrailers)
            }
            try settle(now: true)
        }

        private mutating func sendChunk(_ chunk: [UInt8], endOfStream: Bool) throws {
            guard !isOver else { return }
            envoy.request.bodySent = true
            if envoy.request.mode == .streamed { envoy.request.waiting.append(chunk) }
            try send(EnvoyMessage.requestBody(chunk, endOfStream: endOfStream))
        }

        mutating func respond(_ status: Int, _ chunks: [[UInt8]]?, trailers: Bool) throws {
            guard !isOver else { return }
            envoy.response.headersSent = true
            try send(EnvoyMessage.responseHeaders(status, endOfStream: chunks == nil && !trailers))
            guard let chunks else {
                if trailers { try respondTrailers() }
                return
            }
            if envoy.response.mode == .buffered {
                envoy.response.bodySent = true
                envoy.response.waiting.append(chunks.flatMap(\.self))
                try send(EnvoyMessage.responseBody(chunks.joined(), endOfStream: !trailers))
            } else if envoy.response.mode != .none {
                for chunk in chunks { try respondChunk(chunk, endOfStream: false) }
                if !trailers { try respondChunk([], endOfStream: true) }
            }
            if trailers { try respondTrailers() }
        }

        private mutating func respondChunk(_ chunk: [UInt8], endOfStream: Bool) throws {
            guard !isOver else { return }
            envoy.response.bodySent = true
            if envoy.response.mode == .streamed { envoy.response.waiting.append(chunk) }
            try send(EnvoyMessage.responseBody(chunk, endOfStream: endOfStream))
        }

        private mutating func respondTrailers() throws {
            guard !isOver else { return }
            envoy.response.trailersSent = true
            try send(EnvoyMessage.responseTrailers)
        }

        static func wire(_ mode: BodyMode) -> UInt64 {
            switch mode {
            case .none: 0
            case .streamed: 1
            case .buffered: 2
            case .fullDuplex: 4
            case .unsupported: 5
            }
        }
    }

    @Test("Envoy accepts every answer, and both sides get what was sent", arguments: 0..<20)
    func scenarios(block: UInt64) throws {
        for seed in block * 50..<(block + 1) * 50 {
            let scenario = Scenario(seed: seed)
            var drive = try Drive(scenario)
            do {
                try drive.request()
                if drive.envoy.immediate == nil {
                    try drive.respond(scenario.status, scenario.responseChunks, trailers: scenario.responseTrailers)
                }
            } catch let error as EnvoyModel.Rejected {
                Issue.record("seed \(seed): \(error)")
                continue
            }
            try drive.end()
            drive.bench.handler.closed(.reset(errorCode: 2))
            check(drive, seed)
        }
    }

    private func check(_ drive: Drive, _ seed: UInt64) {
        let (scenario, envoy, picker) = (drive.scenario, drive.envoy, drive.bench.picker)
        let isJSONRefused = drive.bench.observer.notes.contains("answered 400")
        let wasRefused = envoy.immediate != nil && envoy.destination == nil
        let expectedEnds = picker.requests.isEmpty || (wasRefused && picker.outcomes.isEmpty) ? 0 : 1
        #expect(picker.outcomes.count == expectedEnds, "seed \(seed): \(picker.events)")
        #expect(picker.requests.count <= 1, "seed \(seed)")
        #expect(picker.firstTokens <= 1, "seed \(seed)")
        guard scenario.ending == .whole, !isJSONRefused else { return }
        if envoy.immediate != nil {
            if envoy.destination != nil { #expect(picker.outcomes.first?.kind == .timedOut, "seed \(seed)") }
            return
        }
        #expect(envoy.destination == "10.0.0.1:8000", "seed \(seed)")
        #expect(envoy.request.isComplete, "seed \(seed)")
        #expect(envoy.response.isComplete, "seed \(seed)")
        if envoy.request.mode != .none {
            #expect(envoy.request.passed == scenario.requestChunks?.flatMap(\.self) ?? [], "seed \(seed)")
        }
        if envoy.response.mode != .none {
            #expect(envoy.response.passed == scenario.responseChunks?.flatMap(\.self) ?? [], "seed \(seed)")
        }
        #expect(picker.outcomes.first?.kind == (scenario.status < 400 ? .completed : .failed), "seed \(seed)")
        #expect(drive.bench.call.status == nil, "seed \(seed)")
    }
}
