// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation
import Testing

@testable import Router

/// Requests that another picker places: decided and recorded beside what was served, which the ledger follows.
struct ShadowTests {
    private static var options: RouterOptions {
        var options = RouterOptions()
        options.recordedShare = 1
        return options
    }

    private func watched(_ id: UInt64, at served: Served?, hashes: [UInt64] = []) -> InferenceRequest {
        var request = Pods.request(id, prompt: 4000, hashes: hashes)
        request.shadow = Shadow(served: served)
        return request
    }

    private func inFlight(_ given: Router) -> [EndpointID: Int] {
        var router = given
        var counts: [EndpointID: Int] = [:]
        for endpoint in router.summary(at: .origin).endpoints { counts[endpoint.id] = endpoint.inFlight }
        return counts.filter { $0.value > 0 }
    }

    @Test func theLedgerFollowsWhatWasServed() {
        var story = Story(Pods.mixed, options: Self.options)
        // The slowest pods of the fleet, which the Router itself would not take for a first request.
        let served = Served(destination: "10.0.0.9:8000", prefiller: "10.0.0.5:8000")
        let decision = story.decide(watched(1, at: served))
        #expect(decision?.placement == .pair(prefill: EndpointID(5), decode: EndpointID(9)))
        #expect(inFlight(story.router) == [EndpointID(5): 1, EndpointID(9): 1])
        let records = story.router.takeRecords()
        #expect(records.count == 1)
        #expect(records[0].shadow?.served == served)
        #expect(records[0].shadow?.candidate?.placement == decision?.placement)
        #expect(records[0].chosen?.placement != decision?.placement)
        #expect((records[0].chosen?.terms.total ?? .zero) < (records[0].shadow?.candidate?.terms.total ?? .zero))
        #expect(records[0].replays)
        _ = story.send(.firstToken(RequestID(1)), after: 1)
        _ = story.send(.ended(RequestID(1), Outcome(kind: .completed, outputTokens: 50)), after: 2)
        #expect(inFlight(story.router).isEmpty)
    }

    /// The index learns the prompt where it was computed.
    @Test func prefixesAreLearnedWhereTheyWereServed() {
        let fleet = Pods.snapshot((1...4).map { Pods.endpoint($0, .both, kv: Pods.layout(connector: nil)) })
        var story = Story(fleet, options: Self.options)
        let hashes = (0..<250).map { UInt64($0) }
        _ = story.decide(watched(1, at: Served(destination: "10.0.0.3:8000"), hashes: hashes))
        _ = story.send(.ended(RequestID(1), Outcome(kind: .completed)), after: 1)
        let next = story.decide(Pods.request(2, prompt: 4000, hashes: hashes), after: 1)
        #expect(next?.placement == .both(EndpointID(3)))
    }

    @Test func whatIsServedMayBecomeKnownLater() {
        var story = Story(Pods.mixed, options: Self.options)
        #expect(story.decide(watched(1, at: nil)) == nil)
        #expect(story.router.takeRecords().isEmpty && inFlight(story.router).isEmpty)
        _ = story.send(.served(RequestID(1), Served(destination: "10.0.0.8:8000")), after: 0.5)
        #expect(inFlight(story.router) == [EndpointID(8): 1])
        let records = story.router.takeRecords()
        #expect(records.map(\.shadow?.candidate?.placement) == [.local(EndpointID(8))])
        // Told twice, it is what it was.
        _ = story.send(.served(RequestID(1), Served(destination: "10.0.0.7:8000")))
        #expect(inFlight(story.router) == [EndpointID(8): 1])
        _ = story.send(.ended(RequestID(1), Outcome(kind: .completed)), after: 1)
        #expect(inFlight(story.router).isEmpty && story.router.takeRecords().isEmpty)
    }

    @Test func whatNobodySaidIsRecordedAtTheEnd() {
        var story = Story(Pods.mixed, options: Self.options)
        _ = story.decide(watched(1, at: nil))
        _ = story.send(.ended(RequestID(1), Outcome(kind: .completed)), after: 1)
        let records = story.router.takeRecords()
        #expect(records.count == 1)
        #expect(records[0].shadow == ShadowRecord(served: nil, candidate: nil))
        #expect(records[0].chosen != nil && records[0].replays)
    }

    @Test func placesOutsideTheFleetAreNamedAndNotFollowed() throws {
        var story = Story(Pods.mixed, options: Self.options)
        let served = Served(destination: "192.168.1.1:80")
        #expect(story.decide(watched(1, at: served)) == nil)
        #expect(inFlight(story.router).isEmpty)
        let records = story.router.takeRecords()
        #expect(records.map(\.shadow) == [ShadowRecord(served: served, candidate: nil)])
        // The log's line holds it.
        let line = try JSONEncoder().encode(records[0])
        #expect(try JSONDecoder().decode(DecisionRecord.self, from: line) == records[0])
    }

    @Test func requestsThatWaitToBeToldAreBounded() {
        var story = Story(Pods.mixed, options: Self.options)
        for id in 0..<UInt64(Router.maximumUnserved + 10) {
            _ = story.send(.arrived(watched(id, at: nil)))
            _ = story.router.takeRecords()
        }
        #expect(story.router.unserved.count == Router.maximumUnserved)
    }

    /// Nothing of a shadow waits in the queue of late binding.
    @Test func lateBindingDoesNotHoldThem() {
        var options = Self.options
        options.binding = .late
        var story = Story(Pods.mixed, options: options)
        let served = Served(destination: "10.0.0.9:8000", prefiller: "10.0.0.5:8000")
        for id in 0..<50 as Range<UInt64> { #expect(story.decide(watched(id, at: served)) != nil) }
        #expect(story.router.queue.count == 0)
    }
}
