// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex
import TestSupport
import Testing

@testable import Router

struct LateBindingTests {
    private static func options(
        requests: Int = 256,
        bytes: Int = 1 << 30,
        hold: Double = 30,
        bindingByPool: [String: Binding] = [:],
        serviceLevelByPool: [String: ServiceLevelRule] = [:]
    ) -> RouterOptions {
        RouterOptions(
            binding: .late,
            bindingByPool: bindingByPool,
            queue: QueueSettings(
                maximumRequests: requests,
                maximumBytes: bytes,
                maximumHold: Seconds(hold),
                // A pod opens shortly before its prompt ends, so that one prompt is there at a time.
                backlogShare: 0.3,
                maximumBacklog: Seconds(0.15)
            ),
            serviceLevelByPool: serviceLevelByPool
        )
    }

    private static let onePod = Pods.snapshot([Pods.endpoint(1, .both)])

    private static func dispatched(_ actions: [RouterAction]) -> [UInt64] {
        actions.compactMap { if case .dispatch(let id, _) = $0 { id.rawValue } else { nil } }
    }

    @Test func aFreePodIsTakenAtOnce() {
        var story = Story(Self.onePod, options: Self.options())
        let actions1 = story.send(.arrived(Pods.request(1)))
        #expect(Self.dispatched(actions1) == [1])
    }

    @Test func shortPromptsOvertakeLongOnesInTheQueue() {
        var story = Story(Self.onePod, options: Self.options())
        let actions2 = story.send(.arrived(Pods.request(1, prompt: 20_000)))
        #expect(Self.dispatched(actions2) == [1])
        let waits = story.send(.arrived(Pods.request(2, prompt: 20_000)), after: 0.05)
        #expect(Self.dispatched(waits).isEmpty)
        #expect(waits.contains { if case .wake = $0 { true } else { false } })
        let actions3 = story.send(.arrived(Pods.request(3, prompt: 200)), after: 0.05)
        #expect(Self.dispatched(actions3).isEmpty)
        #expect(story.router.queue.count == 2)
        // The first one's token: its pod is free.
        let actions4 = story.send(.firstToken(RequestID(1)), after: 1)
        #expect(Self.dispatched(actions4).first == 3)
    }

    @Test func laterArrivalsCountAsDelayedAsFarAsTheyWillNotWaitInTheQueue() {
        // Requests are held for the fast pod while the slow one is free: each is looked at when it comes.
        let slow = Pods.endpoint(2, .both, Pods.slow)
        var story = Story(Pods.snapshot([Pods.endpoint(1, .both), slow]), options: Self.options())
        let candidates = 4.0
        for (id, waiting) in [(1, 0), (2, 0), (3, 1)] as [(UInt64, Double)] {
            _ = story.send(.arrived(Pods.request(id, prompt: 4000)), after: 0.05)
            #expect(story.router.queue.count == Int(id) - 1)
            let counted = story.router.frame.surroundings.arrivalRate * candidates
            let share = counted / story.router.arrivals.perSecond(at: story.now)
            #expect(abs(share - 1 / (1 + 4 * waiting / candidates)) < 1e-9, "\(id)")
        }
    }

    /// Requests of one model wait for its pods; those of another have theirs to themselves.
    @Test func whoWaitsForOtherPodsDoesNotCount() {
        let pods = [
            Pods.endpoint(1, .both, served: ["m"]), Pods.endpoint(2, .both, Pods.slow, served: ["m"]),
            Pods.endpoint(3, .both, served: ["n"]), Pods.endpoint(4, .both, Pods.slow, served: ["n"]),
        ]
        var story = Story(Pods.snapshot(pods), options: Self.options())
        for id in 1...6 as ClosedRange<UInt64> { _ = story.send(.arrived(Pods.request(id, prompt: 4000))) }
        #expect(story.router.queue.count > 1)
        var other = Pods.request(7, prompt: 4000)
        other.model = "n"
        let actions = story.send(.arrived(other), after: 0.05)
        #expect(Self.dispatched(actions) == [7])
        let share = story.router.frame.surroundings.arrivalRate * 4 / story.router.arrivals.perSecond(at: story.now)
        #expect(abs(share - 1) < 1e-9)
    }

    @Test func aLongPromptIsNotStarved() {
        var story = Story(Self.onePod, options: Self.options(hold: 1000))
        _ = story.send(.arrived(Pods.request(1, prompt: 4000)))
        _ = story.send(.arrived(Pods.request(2, prompt: 20_000)))
        var served = false
        for id in 3...200 as ClosedRange<UInt64> where !served {
            _ = story.send(.arrived(Pods.request(id, prompt: 4000)))
            let actions = story.send(.firstToken(RequestID(story.lastDispatched)), after: 0.25)
            served = Self.dispatched(actions).contains(2)
        }
        #expect(served)
    }

    @Test func priorityComesBeforeOrder() {
        var story = Story(Self.onePod, options: Self.options())
        _ = story.send(.arrived(Pods.request(1, prompt: 10_000)))
        _ = story.send(.arrived(Pods.request(2, prompt: 100)))
        _ = story.send(.arrived(Pods.request(3, prompt: 10_000, priority: 5)))
        let actions5 = story.send(.firstToken(RequestID(1)), after: 1)
        #expect(Self.dispatched(actions5) == [3])
    }

    @Test func aRequestIsHeldForAPodThatFinishesItSooner() {
        // A slow pod stands idle; the fast one is free in a moment.
        let slow = Pods.endpoint(2, .both, Pods.slow)
        var story = Story(Pods.snapshot([Pods.endpoint(1, .both), slow]), options: Self.options())
        let first = story.send(.arrived(Pods.request(1, prompt: 4000)))
        #expect(Self.dispatched(first) == [1])
        let second = story.send(.arrived(Pods.request(2, prompt: 4000)), after: 0.05)
        #expect(Self.dispatched(second).isEmpty)
        let third = story.send(.firstToken(RequestID(1)), after: 0.2)
        #expect(Self.dispatched(third) == [2])
        for case .dispatch(_, let decision) in third {
            #expect(decision.placement == .both(EndpointID(1)))
        }
    }

    @Test func aPodWhoseDecodesWouldMissTheirBoundTakesNoMore() {
        // A step takes 10.9 ms + 0.04 ms per sequence + 27.5 ns per KV token: with a bound of 14 ms and nine tenths of it
        // allowed, 100,000 tokens of KV are too many.
        var story = Story(Self.onePod, options: Self.options())
        let level = ServiceLevel(tpot: Seconds(0.014))
        var sent = 0
        for id in 1...40 as ClosedRange<UInt64> {
            var request = Pods.request(id, prompt: 4000, output: 500)
            request.serviceLevel = level
            let actions = story.send(.arrived(request), after: 0.3)
            for other in Self.dispatched(actions) {
                sent += 1
                _ = story.send(.firstToken(RequestID(other)), after: 0.25)
            }
        }
        #expect(sent >= 5 && sent <= 20)
        #expect(story.router.queue.count == 40 - sent)
        // Those that end make room for one that waits.
        for id in 1...UInt64(sent) { story.end(id) }
        _ = story.send(.tick, after: 0.05)
        #expect(story.router.queue.count < 40 - sent)
    }

    @Test func leavingTakesARequestOutOfTheQueue() {
        var story = Story(Self.onePod, options: Self.options())
        _ = story.send(.arrived(Pods.request(1, prompt: 20_000)))
        _ = story.send(.arrived(Pods.request(2)))
        #expect(story.router.queue.count == 1)
        story.end(2, .cancelled)
        #expect(story.router.queue.isEmpty && story.router.queue.bytes == 0)
        let actions6 = story.send(.firstToken(RequestID(1)), after: 1)
        #expect(Self.dispatched(actions6).isEmpty)
    }

    @Test func aFullQueueShedsOrBindsEarly() {
        var story = Story(Self.onePod, options: Self.options(requests: 3))
        _ = story.send(.arrived(Pods.request(1, prompt: 20_000)))
        for id in 2...4 as ClosedRange<UInt64> { _ = story.send(.arrived(Pods.request(id, prompt: 20_000))) }
        #expect(story.router.queue.count == 3)
        guard case .shed(_, let retry) = story.refusal(Pods.request(5, priority: -1)) else {
            Issue.record("expected 429")
            return
        }
        #expect(retry >= Seconds(1))
        let actions7 = story.send(.arrived(Pods.request(6)))
        #expect(Self.dispatched(actions7) == [6])
        #expect(story.router.counts.overflowed == 1)
    }

    @Test func theQueueIsBoundedByBytes() {
        var story = Story(Self.onePod, options: Self.options(bytes: 1000))
        _ = story.send(.arrived(Pods.request(1, prompt: 20_000)))
        var big = Pods.request(2)
        big.bodyBytes = 600
        _ = story.send(.arrived(big))
        big.id = RequestID(3)
        let actions8 = story.send(.arrived(big))
        #expect(Self.dispatched(actions8) == [3])
    }

    @Test func keysOfTokensCountAmongTheBytes() {
        var story = Story(Self.onePod, options: Self.options(bytes: 1000))
        _ = story.send(.arrived(Pods.request(1, prompt: 20_000)))
        var long = Pods.request(2)
        long.tokenPrefix = PrefixKeys(kind: .tokens, tokensPerBlock: 16, hashes: [UInt64](repeating: 7, count: 126))
        let actions = story.send(.arrived(long))
        #expect(Self.dispatched(actions) == [2] && story.router.counts.overflowed == 1)
    }

    @Test func sheddableRequestsAreRefusedWhenTheyCannotMeetTheirBound() {
        var story = Story(Self.onePod, options: Self.options())
        _ = story.send(.arrived(Pods.request(1, prompt: 100_000)))
        guard case .shed = story.refusal(Pods.request(2, priority: -1, level: ServiceLevel(ttft: Seconds(0.5)))) else {
            Issue.record("expected 429")
            return
        }
        // Others are never refused for their bound.
        _ = story.send(.arrived(Pods.request(3, level: ServiceLevel(ttft: Seconds(0.5)))))
        #expect(story.router.queue.count == 1)
    }

    /// Who does not wait in the queue is refused on arrival, if it may be refused at all.
    @Test func earlyBindingRefusesOnArrivalWhatWillBeLate() {
        let level = ServiceLevel(ttft: Seconds(0.5))
        var story = Story(Self.onePod)
        _ = story.send(.arrived(Pods.request(1, prompt: 100_000)))
        guard case .shed(_, let retry) = story.refusal(Pods.request(2, priority: -1, level: level)) else {
            Issue.record("expected 429")
            return
        }
        #expect(retry >= Seconds(1))
        #expect(story.decide(Pods.request(3, level: level)) != nil)
        #expect(story.decide(Pods.request(4, priority: -1, level: ServiceLevel(ttft: Seconds(600)))) != nil)
        #expect(story.decide(Pods.request(5, priority: -1)) != nil)
    }

    /// Whose pods have left is told so at once, as on arrival, and not when its hold ends.
    @Test func podsThatLeaveTakeTheirHopesAlong() {
        let a = Pods.endpoint(1, .both, served: ["m"])
        let b = Pods.endpoint(2, .both, served: ["n"])
        var story = Story(Pods.snapshot([a, b]), options: Self.options())
        for id in 1...3 as ClosedRange<UInt64> { _ = story.send(.arrived(Pods.request(id, prompt: 20_000))) }
        for id in 4...5 as ClosedRange<UInt64> {
            _ = story.send(.arrived(Pods.request(id, prompt: 20_000, model: "n")))
        }
        #expect(story.router.queue.count == 3)
        let left = story.send(.fleetChanged(Pods.snapshot([b], version: 2, fresh: true)), after: 0.1)
        #expect(left.count { if case .refuse(_, .unknownModel) = $0 { true } else { false } } == 2)
        #expect(story.router.queue.count == 1)
        let empty = story.send(.fleetChanged(Pods.snapshot([], version: 3)), after: 0.1)
        #expect(empty.contains { if case .refuse(RequestID(5), .noEndpoint) = $0 { true } else { false } })
        #expect(story.router.queue.isEmpty)
    }

    @Test func whoWaitsMayWaitALittleForAFirstPod() {
        var options = Self.options()
        options.queue.podlessHold = Seconds(3)
        // A prefill pod that stays does not change that.
        let others = [[], [Pods.endpoint(9, .prefill)]]
        for (comesBack, rest) in [(true, others[0]), (true, others[1]), (false, others[0]), (false, others[1])] {
            var story = Story(Self.onePod, options: options)
            for id in 1...3 as ClosedRange<UInt64> { _ = story.send(.arrived(Pods.request(id, prompt: 20_000))) }
            let gone = story.send(.fleetChanged(Pods.snapshot(rest, version: 2)), after: 0.1)
            #expect(!gone.contains { if case .refuse = $0 { true } else { false } })
            if comesBack {
                let back = story.send(.fleetChanged(Self.onePod), after: 1)
                #expect(Self.dispatched(back) == [2])
                // Who still waits may wait as long as ever.
                let holds = story.router.queue.entries.map(\.holdUntil)
                #expect(holds == [options.queue.maximumHold.rawValue])
            } else {
                let end = story.send(.tick, after: 3.01)
                #expect(end.contains { if case .refuse(RequestID(2), .noEndpoint) = $0 { true } else { false } })
            }
        }
    }

    @Test func everyHoldEnds() {
        var story = Story(Self.onePod, options: Self.options(hold: 2))
        _ = story.send(.arrived(Pods.request(1, prompt: 200_000)))
        _ = story.send(.arrived(Pods.request(2, prompt: 3000)))
        _ = story.send(.arrived(Pods.request(3, prompt: 3000, priority: -1)))
        let actions = story.send(.tick, after: 2.01)
        #expect(Self.dispatched(actions) == [2])
        #expect(actions.contains { if case .refuse(RequestID(3), .shed) = $0 { true } else { false } })
    }

    @Test func wakesComeUntilTheQueueIsEmpty() {
        var story = Story(Self.onePod, options: Self.options())
        _ = story.send(.arrived(Pods.request(1, prompt: 20_000, streams: false)))
        var actions = story.send(.arrived(Pods.request(2, prompt: 20_000, streams: false)))
        var served: [UInt64] = []
        var ticks = 0
        while served.isEmpty, ticks < 1000 {
            guard case .wake(let at)? = actions.last else {
                Issue.record("nothing to wait for")
                return
            }
            #expect(at.rawValue > story.now)
            actions = story.send(.tick, after: at.rawValue - story.now)
            served = Self.dispatched(actions)
            ticks += 1
        }
        #expect(served == [2] && ticks < 20)
    }

    @Test func poolsMayBindEarly() {
        // Nobody names the pool: all that serve the model belong to it.
        var story = Story(Self.onePod, options: Self.options(bindingByPool: ["default": .early]))
        for id in 1...5 as ClosedRange<UInt64> {
            let actions = story.send(.arrived(Pods.request(id, prompt: 20_000)))
            #expect(Self.dispatched(actions) == [id])
        }
    }

    @Test func aPoolMayBindLateWhereOthersDoNot() {
        var options = Self.options(bindingByPool: ["default": .late])
        options.binding = .early
        var story = Story(Self.onePod, options: options)
        for id in 1...3 as ClosedRange<UInt64> { _ = story.send(.arrived(Pods.request(id, prompt: 20_000))) }
        #expect(story.router.queue.count == 2)
        // Held on: early binding of the others does not empty the queue.
        _ = story.send(.tick, after: 0.01)
        #expect(story.router.queue.count == 2)
    }

    /// The rules of a pool hold where it is the only one that may serve the request: by its model, or by the subset.
    @Test(arguments: [nil, ["10.0.0.1:8000"], ["10.0.0.2"]] as [[String]?]) func whosePoolsRulesHold(subset: [String]?)
    {
        let fleet = Pods.snapshot([Pods.endpoint(1, .both, pool: "a"), Pods.endpoint(2, .both, pool: "b")])
        let rules = ["a": ServiceLevelRule(ttftBase: Seconds(3)), "b": ServiceLevelRule(ttftBase: Seconds(7))]
        var options = Self.options(bindingByPool: ["a": .early, "b": .early], serviceLevelByPool: rules)
        options.recordedShare = 1
        var story = Story(fleet, options: options)
        _ = story.send(.arrived(Pods.request(1, subset: subset)))
        let level = story.router.takeRecords().first?.input.request.serviceLevel.ttft
        #expect(level == (subset == nil ? nil : subset == ["10.0.0.1:8000"] ? Seconds(3) : Seconds(7)))
        var asked = Pods.request(2)
        asked.pool = "b"
        asked.ruledBy = "b"
        _ = story.send(.arrived(asked))
        #expect(story.router.takeRecords().first?.input.request.serviceLevel.ttft == Seconds(7))
    }

    @Test func withoutFirstTokensBindingIsEarly() {
        var story = Story(Self.onePod, options: Self.options())
        for id in 1...60 as ClosedRange<UInt64> {
            _ = story.send(.arrived(Pods.request(id)), after: 1)
            story.end(id)
        }
        #expect(!story.router.monitors.allAreTrusted)
        for id in 100...105 as ClosedRange<UInt64> {
            let actions10 = story.send(.arrived(Pods.request(id, prompt: 20_000)))
            #expect(Self.dispatched(actions10) == [id])
        }
    }

    /// A pool whose answers show nothing is bound early; what waits for another goes on waiting.
    @Test func eachPoolIsTrustedByItself() {
        let fleet = Pods.snapshot([
            Pods.endpoint(1, .both, served: ["m"], pool: "a"), Pods.endpoint(2, .both, served: ["n"], pool: "b"),
        ])
        var story = Story(fleet, options: Self.options())
        // One short of a verdict.
        for id in 1..<UInt64(BindingMonitor.fewest) {
            _ = story.send(.arrived(Pods.request(id, prompt: 20, model: "n")), after: 1)
            story.end(id)
        }
        for id in 1000...1001 as ClosedRange<UInt64> { _ = story.send(.arrived(Pods.request(id, prompt: 100_000))) }
        for id in 1002...1004 as ClosedRange<UInt64> {
            _ = story.send(.arrived(Pods.request(id, prompt: 100_000, model: "n")))
        }
        #expect(story.router.queue.count == 3)
        let doubted = story.send(.ended(RequestID(1002), Outcome(kind: .completed)))
        #expect(Set(Self.dispatched(doubted)) == [1003, 1004] && story.router.queue.count == 1)
        let on = Dictionary(
            uniqueKeysWithValues: story.router.summary(at: Instant(story.now)).lateBinding.map { ($0.pool, $0.isOn) }
        )
        #expect(on == ["a": true, "b": false])
        // The one pool binds on arrival, the other holds.
        for id in 200...202 as ClosedRange<UInt64> {
            #expect(Self.dispatched(story.send(.arrived(Pods.request(id, prompt: 20_000, model: "n")))) == [id])
        }
        #expect(Self.dispatched(story.send(.arrived(Pods.request(300, prompt: 20_000)))).isEmpty)
        // Whoever either may answer is bound on arrival.
        #expect(Self.dispatched(story.send(.arrived(Pods.request(301, prompt: 20_000, model: nil)))) == [301])
        // What is known stays when the fleet changes.
        _ = story.send(
            .fleetChanged(Pods.snapshot(fleet.endpoints.map(\.endpoint) + [Pods.endpoint(3, .prefill)], version: 2))
        )
        #expect(Self.dispatched(story.send(.arrived(Pods.request(302, prompt: 20_000, model: "n")))) == [302])
    }

    @Test func engineValuesRiseWithArrivalAndLength() {
        var options = Self.options()
        options.enginePriority = ["default": .lowestFirst]
        options.epoch = Seconds(1_700_000_000)
        let fleet = Pods.snapshot((1...4).map { Pods.endpoint($0, .both) })
        var story = Story(fleet, options: options)
        let short = story.decide(Pods.request(1, prompt: 100), after: 1)?.enginePriority ?? 0
        let long = story.decide(Pods.request(2, prompt: 20_000))?.enginePriority ?? 0
        let urgent = story.decide(Pods.request(3, prompt: 20_000, priority: 1))?.enginePriority ?? 0
        #expect(short > 1_700_000_000_000 && long > short)
        // A class is worth the longest hold.
        #expect(abs(long - urgent - 30_000) < 2_000)
        options.enginePriority = ["default": .highestFirst]
        story = Story(fleet, options: options)
        #expect(story.decide(Pods.request(1, prompt: 100), after: 1)?.enginePriority ?? 0 < -1_700_000_000_000)
    }

    @Test func enginesOfOtherPoolsAreToldNoPriority() {
        var options = Self.options()
        options.enginePriority = ["a": .lowestFirst, "c": .highestFirst]
        for (prefill, decode, isTold) in [("a", "a", true), ("a", "b", false), ("b", "a", false), ("a", "c", false)] {
            let slow = Pods.slow
            let fleet = Pods.snapshot([
                Pods.endpoint(1, .prefill, pool: prefill), Pods.endpoint(2, .decode, slow, pool: decode),
            ])
            var story = Story(fleet, options: options)
            let decision = story.decide(Pods.request(1, prompt: 20_000))
            #expect(decision?.placement == .pair(prefill: EndpointID(1), decode: EndpointID(2)))
            #expect((decision?.enginePriority != nil) == isTold, "\(prefill) and \(decode)")
        }
    }
}

extension Pods {
    /// Ten times slower than the H100.
    static let slow = profile(
        base: 112,
        perThousand: 484,
        perMillionPairs: 9.56,
        step: 109,
        perSequence: 0.40,
        perMillionKV: 275,
        hourly: 15.96,
        capacity: 480_000,
        network: 140e9
    )
}
