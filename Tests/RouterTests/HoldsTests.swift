// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex
import TestSupport
import Testing

@testable import Router

struct HoldsTests {
    /// What a look at the decision would leave behind if it were held.
    private static func hold(_ it: RandomDecision, _ best: Candidate, floor: DecodeFloor) -> Hold {
        let formula = CostFormula(
            request: it.request,
            dials: it.dials,
            settings: it.settings,
            surroundings: it.frame.surroundings,
            draw: it.draw
        )
        let ids = it.frame.states.map(\.id)
        let holdings = zip(ids, it.frame.held).filter { $0.1 > 0 }.map { PrefixHolding(endpoint: $0.0, tokens: $0.1) }
        return Hold(
            request: it.request.id,
            prefiller: ids.firstIndex(of: best.placement.prefiller) ?? 0,
            destination: ids.firstIndex(of: best.placement.destination) ?? 0,
            cost: best.drawnTotal,
            tpotLimit: formula.tpotLimit,
            lookedAt: 0,
            formula: formula,
            floor: floor,
            peer: it.frame.peer,
            holdings: holdings
        )
    }

    /// A pod that opens and is said to be no cheaper is not what the whole search then finds.
    @Test(arguments: 0..<30) func whatIsNotLookedAtAgainWouldBeHeldAgain(seed: Int) {
        var random = SplitMix64(seed: UInt64(seed) &* 104_729)
        var search = DecisionSearch()
        var spared = 0
        for _ in 0..<40 {
            var it = RandomDecision(
                &random,
                prefills: Int.random(in: 1...8, using: &random),
                decodes: Int.random(in: 1...8, using: &random)
            )
            // A price limit or a guard that ends takes candidates in or out whatever they cost.
            it.request.priceLimit = nil
            // Requests that a shared store knows are looked at in every round.
            it.frame.stored = []
            guard let best = search.best(it) else { continue }
            let hold = Self.hold(it, best, floor: search.floor)
            let opens = Int.random(in: 0..<it.frame.states.count, using: &random)
            it.frame.update(opens) { $0.backlog = 0 }
            guard !it.frame.mayBeCheaper(opens, than: hold) else { continue }
            spared += 1
            guard let now = search.best(it) else { continue }
            let id = it.frame.states[opens].id
            #expect(now.placement.prefiller != id || best.placement.prefiller == id, "seed \(seed)")
        }
        #expect(spared > 0)
    }

    @Test func holdingsAreFoundByEndpoint() {
        var random = SplitMix64(seed: 5)
        var search = DecisionSearch()
        let it = RandomDecision(&random, prefills: 12, decodes: 12)
        guard let best = search.best(it) else { return }
        let hold = Self.hold(it, best, floor: search.floor)
        for (state, held) in zip(it.frame.states, it.frame.held) { #expect(hold.held(by: state.id) == held) }
        #expect(hold.held(by: EndpointID(2)) == 0 && hold.held(by: EndpointID(.max)) == 0)
    }

    @Test func holdsAreBoundedAndForgotten() {
        var random = SplitMix64(seed: 6)
        var search = DecisionSearch()
        let it = RandomDecision(&random, prefills: 2, decodes: 2)
        guard let best = search.best(it) else { return }
        var holds = Holds()
        for id in 0..<UInt64(2 * Holds.most) {
            var hold = Self.hold(it, best, floor: search.floor)
            hold.request = RequestID(id)
            holds.add(hold)
            holds.add(hold)
        }
        #expect(holds.requests.count == Holds.most)
        let last = RequestID(UInt64(2 * Holds.most - 1))
        #expect(holds.isHeld(last) && !holds.isHeld(RequestID(0)))
        holds.forget(last)
        #expect(!holds.isHeld(last))
    }

    /// In a large fleet a round looks at one request, and asks for the next round at once.
    @Test func aRoundIsBounded() {
        let options = RouterOptions(
            binding: .late,
            queue: QueueSettings(pricedPerRound: 2, backlogShare: 0.3, maximumBacklog: Seconds(0.15))
        )
        var story = Story(Pods.snapshot([Pods.endpoint(1, .both), Pods.endpoint(2, .both)]), options: options)
        for id in 1...2 as ClosedRange<UInt64> { _ = story.send(.arrived(Pods.request(id, prompt: 20_000))) }
        for id in 3...8 as ClosedRange<UInt64> {
            _ = story.send(.arrived(Pods.request(id, prompt: 500)), after: 0.01)
        }
        #expect(story.router.queue.count == 6)
        // Both pods are free by the clock: one round places one request.
        let actions = story.send(.firstToken(RequestID(1)), after: 3)
        let sent = actions.filter { if case .dispatch = $0 { true } else { false } }
        #expect(sent.count == 1 && story.router.queue.count == 5)
        guard case .wake(let at)? = actions.last else {
            Issue.record("the rest is left to a wake")
            return
        }
        #expect(at.rawValue <= story.now + 0.001_5)
        _ = story.send(.tick, after: at.rawValue - story.now)
        #expect(story.router.queue.count == 4)
    }

    /// A shell may leave out a wake where an earlier one is outstanding: its tick asks again.
    @Test func everyTickAsksForTheNext() {
        var story = Story(Pods.snapshot([Pods.endpoint(1, .both)]), options: RouterOptions(binding: .late))
        _ = story.send(.arrived(Pods.request(1, prompt: 100_000)))
        _ = story.send(.arrived(Pods.request(2, prompt: 100_000)), after: 0.01)
        #expect(story.router.queue.count == 1)
        for _ in 0..<20 {
            let actions = story.send(.tick, after: 0.001)
            #expect(actions.count { if case .wake = $0 { true } else { false } } == 1)
        }
    }
}

struct WaitingQueueTests {
    private static func entry(_ id: UInt64, _ random: inout SplitMix64) -> WaitingEntry {
        WaitingEntry(
            id: RequestID(id),
            priority: Int.random(in: -1...1, using: &random),
            isSheddable: Bool.random(using: &random),
            arrivedAt: Double.random(in: 0...10, using: &random),
            base: Double.random(in: 0.01...3, using: &random),
            tail: 0.1,
            due: Double.random(in: 5...20, using: &random),
            holdUntil: Double.random(in: 20...30, using: &random),
            scope: EndpointID(1)
        )
    }

    @Test(arguments: 0..<10) func keepsItsBoundsAndOrder(seed: Int) {
        var random = SplitMix64(seed: UInt64(seed))
        var queue = WaitingQueue(QueueSettings())
        var naive: [UInt64: WaitingEntry] = [:]
        for step in 1...200 as ClosedRange<UInt64> {
            if Int.random(in: 0..<3, using: &random) > 0 || naive.isEmpty {
                let entry = Self.entry(step, &random)
                queue.add(entry, Pods.request(step))
                naive[step] = entry
            } else if let id = naive.keys.sorted().randomElement(using: &random) {
                naive[id] = nil
                #expect(queue.remove(RequestID(id))?.id == RequestID(id))
            }
            #expect(queue.count == naive.count && queue.remove(RequestID(100_000)) == nil)
            #expect(abs(queue.work - naive.values.reduce(0) { $0 + $1.base }) < 1e-9)
            let ends = naive.values.map(\.holdUntil).min() ?? .infinity
            #expect(queue.nextHoldEnd <= ends)
            var order: [Int] = []
            var triages = Triages()
            queue.first(7, at: 12, triages: &triages, into: &order)
            let found = order.map { queue.entries[$0].id.rawValue }
            #expect(found == Self.sorted(naive, at: 12).prefix(7).map(\.id.rawValue))
            for place in order { #expect(queue.requests[place].id == queue.entries[place].id) }
        }
        queue.renewBounds()
        #expect(queue.nextHoldEnd == naive.values.map(\.holdUntil).min())
    }

    private static func sorted(_ entries: [UInt64: WaitingEntry], at now: Double) -> [WaitingEntry] {
        entries.values.sorted { a, b in
            if a.priority != b.priority { return a.priority > b.priority }
            let late = (a.slack(at: now) < 0, b.slack(at: now) < 0)
            if late.0 != late.1 { return late.1 }
            if late.0 { return a.base != b.base ? a.base < b.base : a.id < b.id }
            let ratios = (a.ratio(at: now), b.ratio(at: now))
            return ratios.0 != ratios.1 ? ratios.0 > ratios.1 : a.id < b.id
        }
    }
}

extension DecisionSearch {
    fileprivate mutating func best(_ it: RandomDecision) -> Candidate? {
        best(for: it.request, in: it.frame, dials: it.dials, settings: it.settings, draw: it.draw)
    }
}
