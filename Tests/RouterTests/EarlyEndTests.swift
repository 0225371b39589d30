// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@testable import Router

/// Exchanges that end before their answers.
struct EarlyEndTests {
    private static let early = Outcome(kind: .completed, isEarly: true)

    private static func request(_ id: UInt64, prompt: Int = 20_000) -> InferenceRequest {
        var request = Pods.request(id, prompt: prompt)
        request.showsFirstToken = false
        return request
    }

    @Test func workStaysInTheLedgerUntilItIsPredictedToEnd() throws {
        var story = Story(Pods.snapshot([Pods.endpoint(1, .both)]))
        let placed = story.decide(Self.request(1))
        let decision = try #require(placed)
        let before = story.router.summary(at: Instant(story.now)).endpoints[0]
        _ = story.send(.ended(RequestID(1), Self.early))
        let after = story.router.summary(at: Instant(story.now)).endpoints[0]
        #expect(after.inFlight == 1 && after.batch == 1 && after.backlog == before.backlog && after.backlog > .zero)
        #expect(story.router.counts.completed == 1)
        // Said twice, it is still one.
        _ = story.send(.ended(RequestID(1), Self.early))
        #expect(story.router.counts.completed == 1)
        let end = decision.predictedTTFT + decision.predictedTPOT * 199
        let shortly = story.router.summary(at: Instant(story.now) + end - Seconds(0.01)).endpoints[0]
        #expect(shortly.inFlight == 1 && shortly.batch == 1)
        let idle = story.router.summary(at: Instant(story.now) + end + Seconds(0.01))
        #expect(idle.inFlight == 0 && idle.tokensInFlight == 0)
        #expect(story.router.ledgers[0].isIdle && idle.endpoints[0].kvTokens == 0)
    }

    /// Nobody tells when a pod is free: predictions alone must spread the work.
    @Test func requestsThatNobodySeesSpread() {
        let fleet = Pods.snapshot((1...4).map { Pods.endpoint($0, .both) })
        var story = Story(fleet)
        var used: Set<EndpointID> = []
        for id in 1...4 as ClosedRange<UInt64> {
            guard let decision = story.decide(Self.request(id), after: 0.01) else { continue }
            used.insert(decision.placement.prefiller)
            _ = story.send(.ended(RequestID(id), Self.early))
        }
        #expect(used.count == 4)
    }

    @Test func anEndThatIsSeenIsTheEnd() {
        var story = Story(Pods.snapshot([Pods.endpoint(1, .both)]))
        _ = story.decide(Self.request(1))
        _ = story.send(.ended(RequestID(1), Outcome(kind: .cancelled, isEarly: true)))
        #expect(story.router.inFlight.isEmpty && story.router.ledgers[0].isIdle)
        // What is over by every prediction needs no settling.
        _ = story.decide(Self.request(2))
        _ = story.send(.ended(RequestID(2), Self.early), after: 1000)
        #expect(story.router.inFlight.isEmpty && story.router.predictedEnds.first == .infinity)
    }

    @Test(arguments: 0..<5) func endsComeInTheOrderOfTheirTimes(seed: Int) {
        var random = SplitMix64(seed: UInt64(seed))
        var ends = PredictedEnds()
        var times: [(Double, UInt64)] = []
        var found: [UInt64] = []
        for id in 0..<200 as Range<UInt64> {
            let time = Double(Int.random(in: 0..<50, using: &random))
            ends.add(RequestID(id), at: time)
            times.append((time, id))
        }
        while let id = ends.removeFirst() { found.append(id.rawValue) }
        #expect(found == times.sorted { $0 < $1 }.map(\.1) && ends.first == .infinity)
    }
}
