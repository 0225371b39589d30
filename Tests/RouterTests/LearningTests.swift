// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@testable import Router

struct OutputLengthsTests {
    @Test func expectsTheMedianOfLikePrompts() {
        var lengths = OutputLengths()
        for output in 1...99 { lengths.learn(model: "m", promptTokens: 1000, outputTokens: output) }
        for _ in 0..<10 { lengths.learn(model: "m", promptTokens: 8000, outputTokens: 7) }
        #expect(lengths.expected(model: "m", promptTokens: 900) == 50)
        #expect(lengths.expected(model: "m", promptTokens: 9000) == 7)
        #expect(lengths.expected(model: "m", promptTokens: 900, limit: 10) == 10)
        #expect(lengths.expected(model: "other", promptTokens: 900) == OutputLengths.initial)
    }

    @Test func forgetsWhatIsOld() {
        var lengths = OutputLengths()
        for _ in 0..<200 { lengths.learn(model: "m", promptTokens: 10, outputTokens: 1000) }
        for _ in 0..<100 { lengths.learn(model: "m", promptTokens: 10, outputTokens: 3) }
        #expect(lengths.expected(model: "m", promptTokens: 10) == 3)
    }

    @Test func modelsBeyondTheBoundShareOneEntry() {
        var lengths = OutputLengths()
        for model in 0..<(OutputLengths.maximumModels + 50) {
            for _ in 0..<5 { lengths.learn(model: "m\(model)", promptTokens: 10, outputTokens: 33) }
        }
        #expect(lengths.expected(model: "never seen", promptTokens: 10) == 33)
    }

    @Test func absurdNumbersDoNoHarm() {
        var lengths = OutputLengths()
        lengths.learn(model: nil, promptTokens: .max, outputTokens: .max)
        lengths.learn(model: nil, promptTokens: -1, outputTokens: 5)
        #expect(lengths.expected(model: nil, promptTokens: .min, limit: 0) == 1)
    }
}

struct PromptLengthsTests {
    @Test func learnsTheRatio() {
        var lengths = PromptLengths()
        #expect(lengths.tokens(model: "m", promptBytes: 4000) == 1000)
        for _ in 0..<200 { lengths.learn(model: "m", promptBytes: 3000, promptTokens: 1000) }
        #expect(abs(lengths.tokensPerByte(model: "m") - 1.0 / 3) < 1e-6)
        #expect(lengths.tokensPerByte(model: "other") == PromptLengths.initialRatio)
    }

    @Test func incredibleReportsAreIgnored() {
        var lengths = PromptLengths()
        lengths.learn(model: "m", promptBytes: 10, promptTokens: 5000)
        lengths.learn(model: "m", promptBytes: 0, promptTokens: 5000)
        #expect(lengths.tokensPerByte(model: "m") == PromptLengths.initialRatio)
        #expect(lengths.tokens(model: "m", promptBytes: 0) == 1)
    }

    @Test func modelsAreBounded() {
        var lengths = PromptLengths()
        for model in 0..<(PromptLengths.maximumModels + 10) {
            lengths.learn(model: "m\(model)", promptBytes: 100, promptTokens: 100)
        }
        #expect(lengths.tokensPerByte(model: "m\(PromptLengths.maximumModels + 5)") == PromptLengths.initialRatio)
    }
}

struct EndpointHealthTests {
    private let settings = HealthSettings()

    @Test func threeFailuresInARowPause() {
        var health = EndpointHealth()
        let r1 = health.refused(settings, at: Instant(0), unit: 0)
        #expect(!r1)
        let r2 = health.refused(settings, at: Instant(0), unit: 0)
        #expect(!r2)
        _ = health.answered()
        let r3 = health.refused(settings, at: Instant(0), unit: 0)
        #expect(!r3)
        let r4 = health.refused(settings, at: Instant(0), unit: 0)
        #expect(!r4)
        #expect(health.cause(at: Instant(0)) == nil)
        let r5 = health.refused(settings, at: Instant(0), unit: 0)
        #expect(r5)
        #expect(health.cause(at: Instant(0.9)) == .refusesConnections)
        #expect(health.cause(at: Instant(1)) == nil)
    }

    @Test func onTrialOneFailureDoublesThePause() {
        var health = EndpointHealth()
        for _ in 0..<3 { _ = health.failedPrefill(settings, at: Instant(0), unit: 0.5) }
        #expect(health.pauseEnd(after: Instant(0)) == Instant(1.1))
        let r6 = health.failedPrefill(settings, at: Instant(2), unit: 0)
        #expect(r6)
        #expect(health.cause(at: Instant(3.9)) == .failsPrefills)
        let r7 = health.prefilled()
        #expect(r7)
        #expect(health.cause(at: Instant(3.9)) == nil)
    }

    @Test func pausesAreBounded() {
        var health = EndpointHealth()
        var now = 0.0
        for _ in 0..<100 {
            _ = health.refused(settings, at: Instant(now), unit: 0.999)
            now += 1000
        }
        _ = health.refused(settings, at: Instant(now), unit: 0.999)
        #expect(health.cause(at: Instant(now + 73)) == nil)
        #expect(health.cause(at: Instant(now + 59)) == .refusesConnections)
    }
}
