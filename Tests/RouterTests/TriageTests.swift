// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import TestSupport
import Testing

@testable import Router

struct TriageTests {
    static func entry(_ base: Double, id: UInt64 = 1, priority: Int = 0, due: Double, scope: UInt32 = 1)
        -> WaitingEntry
    {
        WaitingEntry(
            id: RequestID(id),
            priority: priority,
            isSheddable: false,
            arrivedAt: 0,
            base: base,
            tail: 0,
            due: due,
            holdUntil: 1000,
            scope: EndpointID(scope)
        )
    }

    /// One that has seen a long prompt among many short ones.
    private static func triage(longest: Double) -> Triage {
        var triage = Triage()
        for _ in 0..<99 { triage.saw(0.1, at: 0) }
        triage.saw(longest, at: 0)
        return triage
    }

    @Test func aRequestInDangerLowersTheLimitOnceInASecond() {
        var triage = Self.triage(longest: 10)
        #expect(triage.limit == .infinity)
        triage.endangered(priority: 0, at: 5)
        #expect(triage.limit == 9.5)
        let once = triage.limit
        triage.endangered(priority: 0, at: 5.9)
        #expect(triage.limit == once)
        triage.endangered(priority: 0, at: 6)
        #expect(abs(triage.limit - 0.95 * once) < 1e-12)
    }

    @Test func theLimitRisesUntilItIsAboveAllThatComes() {
        var triage = Self.triage(longest: 8)
        for second in 0..<20 { triage.endangered(priority: 3, at: Double(second)) }
        let low = triage.limit
        #expect(low < 8 * 0.37)
        triage.saw(8, at: 619)
        triage.settle(at: 619)
        #expect(abs(triage.limit - 2 * low) < 1e-9)
        #expect(triage.setsAside(Self.entry(7, due: 9)))
        triage.saw(8, at: 1219)
        triage.settle(at: 1219)
        triage.settle(at: 1400)
        #expect(triage.limit == .infinity && !triage.setsAside(Self.entry(100, due: 9)))
    }

    @Test func nothingIsSetAsideForALowerPriority() {
        var triage = Self.triage(longest: 10)
        for second in 0..<5 { triage.endangered(priority: 0, at: Double(second)) }
        #expect(triage.setsAside(Self.entry(9, due: 99)))
        #expect(triage.setsAside(Self.entry(9, priority: -1, due: 99)))
        #expect(!triage.setsAside(Self.entry(9, priority: 1, due: 99)))
        // What the lower ones have brought the limit down to does not count for the higher one.
        triage.endangered(priority: 1, at: 6)
        #expect(triage.limit == 9.5)
        #expect(triage.setsAside(Self.entry(9.6, priority: 1, due: 99)))
    }

    @Test func amongPromptsOfLikeLengthNoneIsSetAside() {
        var triages = Triages()
        for id in 0..<100 as Range<UInt64> {
            var late = Self.entry(Double(id % 3 + 1), id: id, due: 5)
            triages.saw(late, at: 0)
            triages.watch(&late, at: 4)
            triages.settle(at: 4)
            #expect(!triages.setAside(late))
        }
    }

    @Test func aTightBoundIsNoSignOfOverload() {
        var triages = Triages()
        for _ in 0..<99 { triages.saw(Self.entry(0.01, due: 9), at: 0) }
        // 0.9 of its second are its own work: it could wait for a tenth.
        var tight = Self.entry(0.9, due: 1)
        triages.saw(tight, at: 0)
        triages.watch(&tight, at: 0.05)
        #expect(!tight.isEndangered && triages.areQuiet)
        triages.watch(&tight, at: 0.07)
        #expect(tight.isEndangered && !triages.areQuiet)
    }

    @Test func partsOfAFleetDoNotSetAsideForEachOther() {
        var triages = Triages()
        var late = Self.entry(5, id: 1, due: 6)
        let sameScope = Self.entry(5, id: 2, due: 99)
        let other = Self.entry(5, id: 3, due: 99, scope: 2)
        for _ in 0..<99 { triages.saw(Self.entry(0.1, due: 99), at: 0) }
        for entry in [late, sameScope, other] { triages.saw(entry, at: 0) }
        triages.watch(&late, at: 2)
        #expect(late.isEndangered && triages.setAside(sameScope) && !triages.setAside(other))
        // Counted once.
        triages.watch(&late, at: 10)
        triages.settle(at: 10)
        let limit = 0.95 * 5.0
        #expect(!triages.setAside(Self.entry(limit, due: 99)))
        #expect(triages.setAside(Self.entry(limit * 1.02, due: 99)))
    }

    @Test func aBoundThatNobodyCouldKeepIsNoSignOfOverload() {
        var triages = Triages()
        var hopeless = Self.entry(5, due: 4)
        triages.saw(hopeless, at: 0)
        triages.watch(&hopeless, at: 3)
        #expect(triages.areQuiet && !triages.setAside(hopeless))
    }

    @Test func manyPartsAreForgottenNotKept() {
        var triages = Triages()
        for scope in 0..<1000 as Range<UInt32> { triages.saw(Self.entry(1, due: 9, scope: scope), at: 0) }
        for _ in 0..<99 { triages.saw(Self.entry(0.01, due: 9, scope: 999), at: 0) }
        var late = Self.entry(1, due: 1.5, scope: 999)
        triages.watch(&late, at: 1)
        #expect(triages.setAside(Self.entry(1, due: 9, scope: 999)))
    }
}

/// Triage in the queue: what the Router does with it.
struct TriagedQueueTests {
    private static let level = ServiceLevel(ttft: Seconds(1))

    /// Long ones have no bound.
    private static func request(_ id: UInt64, _ prompt: Int) -> InferenceRequest {
        var request = Pods.request(id, prompt: prompt)
        if prompt < 10_000 { request.serviceLevel = level }
        return request
    }

    private static func dispatched(_ actions: [RouterAction]) -> [UInt64] {
        actions.compactMap { if case .dispatch(let id, _) = $0 { id.rawValue } else { nil } }
    }

    /// Two pods, one of them always busy with what came last; short prompts in danger.
    @Test func aLongPromptWaitsForAnIdleFleetAfterShortOnesWereInDanger() {
        let pods = Pods.snapshot([Pods.endpoint(1, .both), Pods.endpoint(2, .both)])
        var story = Story(pods, options: RouterOptions(binding: .late))
        // Most prompts were short.
        let short = TriageTests.entry(0.05, due: 9)
        for _ in 0..<200 { story.router.triages.saw(short, at: 0) }
        // Both pods are busy for seconds, so that the short ones that come now miss their bound of a second.
        for id in 1...2 as ClosedRange<UInt64> { _ = story.send(.arrived(Self.request(id, 60_000))) }
        for id in 3...6 as ClosedRange<UInt64> { _ = story.send(.arrived(Self.request(id, 2000)), after: 0.01) }
        _ = story.send(.arrived(Self.request(7, 60_000)), after: 0.01)
        // One pod is free: the short ones go, and with the other one at work the long one stays.
        var sent = Self.dispatched(story.send(.firstToken(RequestID(1)), after: 1.5))
        for _ in 0..<20 {
            sent += Self.dispatched(story.send(.tick, after: 0.1))
            for id in sent where id != 7 { _ = story.send(.firstToken(RequestID(id))) }
        }
        #expect(Set(sent).isSuperset(of: 3...6) && !sent.contains(7))
        #expect(story.router.queue.contains(RequestID(7)))
        let summary = story.router.summary(at: story.router.now)
        #expect(summary.queued == 1 && summary.setAside == 1)
        // The whole fleet is idle.
        var after = Self.dispatched(story.send(.firstToken(RequestID(2))))
        for _ in 0..<40 { after += Self.dispatched(story.send(.tick, after: 0.1)) }
        #expect(after == [7])
    }

    @Test func whatIsSetAsideOfHigherPriorityComesAfterWhatIsNot() {
        var triages = Triages()
        var queue = WaitingQueue(QueueSettings())
        let waiting = [
            TriageTests.entry(5, id: 1, priority: 1, due: 99), TriageTests.entry(5, id: 2, priority: 1, due: 5.5),
            TriageTests.entry(0.1, id: 3, due: 99),
        ]
        for _ in 0..<99 { triages.saw(waiting[2], at: 0) }
        for entry in waiting {
            triages.saw(entry, at: 0)
            queue.add(entry, Pods.request(entry.id.rawValue, prompt: 1000))
        }
        var order: [Int] = []
        queue.first(10, at: 1, triages: &triages, into: &order)
        #expect(order.map { queue.entries[$0].id.rawValue } == [3, 1, 2])
    }

    @Test func withoutDangerALongPromptGoesToTheFirstFreePod() {
        let pods = Pods.snapshot([Pods.endpoint(1, .both), Pods.endpoint(2, .both)])
        var story = Story(pods, options: RouterOptions(binding: .late))
        var sent = Self.dispatched(story.send(.arrived(Self.request(1, 60_000))))
        sent += Self.dispatched(story.send(.arrived(Self.request(2, 60_000))))
        #expect(sent == [1, 2])
    }
}
