// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation
import Testing

@testable import Router

@Suite("LoRA adapters")
struct AdapterSlotsTests {
    @Test("What has requests is there; of the rest, what was used last")
    func cache() {
        var cache = AdapterCache()
        // An engine that says nothing of adapters is as before.
        cache.use("a")
        #expect(cache.state(of: "a") == nil)
        cache.observe(AdapterSlots(slots: 2, running: ["a", "b"]))
        #expect(cache.state(of: "a") == .loaded && cache.state(of: "b") == .loaded)
        #expect(cache.state(of: "c") == .slotsFull)
        // Without requests they stay until another takes their place.
        cache.observe(AdapterSlots(slots: 2))
        #expect(cache.state(of: "a") == .loaded && cache.state(of: "c") == .slotFree)
        cache.observe(AdapterSlots(slots: 2, running: ["a"]))
        cache.observe(AdapterSlots(slots: 2, running: ["c"]))
        cache.observe(AdapterSlots(slots: 2))
        #expect(cache.state(of: "c") == .loaded && cache.state(of: "a") == .loaded)
        #expect(cache.state(of: "b") == .slotFree)
    }

    @Test("One that waits for a slot is not there")
    func waiting() {
        var cache = AdapterCache()
        cache.observe(AdapterSlots(slots: 1, running: ["a"], waiting: ["b"]))
        #expect(cache.state(of: "a") == .loaded)
        #expect(cache.state(of: "b") == .slotsFull && cache.state(of: "c") == .slotsFull)
    }

    @Test("What was sent counts until the engine speaks again")
    func sent() {
        var cache = AdapterCache()
        cache.observe(AdapterSlots(slots: 2))
        cache.use("a")
        #expect(cache.state(of: "a") == .loaded && cache.state(of: "b") == .slotFree)
        cache.use("b")
        #expect(cache.state(of: "c") == .slotsFull)
        cache.observe(AdapterSlots(slots: 2, running: ["a"]))
        #expect(cache.state(of: "c") == .slotFree)
    }

    @Test("Names without end take bounded room")
    func bounds() {
        var cache = AdapterCache()
        cache.observe(AdapterSlots(slots: 1_000_000))
        #expect(cache.slots == AdapterSlots.maximumSlots)
        for number in 0..<5000 { cache.use("adapter \(number)") }
        #expect(cache.state(of: "adapter 0") == .slotsFull)
        cache.observe(AdapterSlots(slots: 2))
        #expect(cache.state(of: "adapter 4999") != .slotsFull)
    }

    private static func pod(_ id: UInt32, _ role: Role) -> Endpoint {
        var endpoint = Pods.endpoint(id, role, served: ["m", "sql"])
        endpoint.adapters = ["sql"]
        return endpoint
    }

    private static func load(_ adapters: AdapterSlots?, at now: Double) -> EndpointLoad {
        EndpointLoad(observedAt: Instant(now), waiting: 0, running: 0, kvUse: 0, adapters: adapters)
    }

    /// Pods of both roles: one has the adapter, one has a free slot, one has none, one says nothing.
    private static func story() -> Story {
        var story = Story(
            Pods.snapshot((1...3).map { pod($0, .both) }),
            options: RouterOptions(recordedShare: 1)
        )
        let slots = [
            AdapterSlots(slots: 2, running: ["x", "y"]), AdapterSlots(slots: 2, running: ["x"]),
            AdapterSlots(slots: 2, running: ["sql", "y"]),
        ]
        for (index, adapters) in slots.enumerated() {
            _ = story.send(.loadObserved(EndpointID(UInt32(index + 1)), load(adapters, at: 0.001)))
        }
        return story
    }

    @Test("A request goes where its adapter is, else where a slot is free, and waits at full pods last")
    func decisions() throws {
        var story = Self.story()
        let first = story.decide(Pods.request(1, prompt: 500, model: "sql"))
        #expect(first?.placement.destination == EndpointID(3))
        let taken = story.router.takeRecords()
        let record = try #require(taken.first)
        #expect(record.input.pods.map(\.adapter?.state) == [.slotsFull, .slotFree, .loaded])
        let both = record.input.ranked().filter { !$0.placement.isPair }
        #expect(both.map(\.placement.destination.rawValue) == [3, 2, 1])
        #expect(abs(both[1].terms.admission.rawValue - AdapterCache.loadSeconds) < 1e-9)
        #expect(both[2].terms.admission.rawValue >= AdapterCache.leastTurnover)
        let read = try JSONDecoder().decode(DecisionRecord.self, from: try JSONEncoder().encode(record))
        #expect(read.replays)
        // The base model needs no slot.
        _ = story.decide(Pods.request(2, prompt: 500))
        let second = try #require(story.router.takeRecords().first)
        #expect(second.input.pods.allSatisfy { $0.adapter == nil })
    }

    @Test("A queue at the adapter's pod outweighs a load elsewhere")
    func queue() {
        var story = Self.story()
        var seen: Set<EndpointID> = []
        for id in 1...40 {
            if let decision = story.decide(Pods.request(UInt64(id), prompt: 8000, model: "sql")) {
                seen.insert(decision.placement.destination)
            }
        }
        #expect(seen.contains(EndpointID(3)) && seen.contains(EndpointID(2)))
    }

    @Test("Both pods of a pair need the adapter")
    func pairs() throws {
        var story = Story(
            Pods.snapshot([Self.pod(1, .prefill), Self.pod(2, .prefill), Self.pod(3, .decode), Self.pod(4, .decode)]),
            options: RouterOptions(recordedShare: 1)
        )
        for id in 1...4 as ClosedRange<UInt32> {
            let running = id % 2 == 0 ? ["sql"] : []
            let slots = AdapterSlots(slots: 4, running: running)
            _ = story.send(.loadObserved(EndpointID(id), Self.load(slots, at: 0.001)))
        }
        _ = story.decide(Pods.request(1, prompt: 8000, model: "sql"))
        let record = try #require(story.router.takeRecords().first)
        let pairs = record.input.ranked().filter(\.placement.isPair)
        #expect(pairs.first?.placement == .pair(prefill: EndpointID(2), decode: EndpointID(4)))
        #expect(pairs.last?.placement == .pair(prefill: EndpointID(1), decode: EndpointID(3)))
        let (best, worst) = (try #require(pairs.first), try #require(pairs.last))
        #expect(abs((worst.terms.ttft - best.terms.ttft).rawValue - 2 * AdapterCache.loadSeconds) < 1e-9)
    }
}
