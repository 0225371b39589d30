// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Foundation
import PrefixIndex
import TestSupport
import Testing

@testable import Fleet

@Suite("KV events over ZeroMQ", .serialized)
struct KVEventServiceTests {
    private static let source = EventSourceID(holder: 3, rank: 0)

    /// A batch that stores `blocks` blocks of a prompt of its own.
    private static func batch(_ prompt: Int, blocks: Int = 4) -> [UInt8] {
        var encoder = KVEventEncoder()
        encoder.stored(
            (0..<blocks).map { UInt64(prompt * 1_000 + $0 + 1) },
            parent: nil,
            tokens: tokens(prompt, blocks: blocks),
            blockSize: 16
        )
        return encoder.batch(time: Double(prompt))
    }

    private static func tokens(_ prompt: Int, blocks: Int = 4) -> [UInt32] {
        (0..<(16 * blocks)).map { UInt32(prompt * 10_000 + $0) }
    }

    private static func held(_ index: EventPrefixIndex, _ prompt: Int, holder: UInt32 = 3) -> Int {
        var hasher = TokenKeyHasher(model: nil, cacheSalt: nil)
        hasher.update(tokens(prompt))
        var result: [TierMatch] = []
        index.matches(of: hasher.finish(), into: &result)
        return result.first { $0.holder == holder }?.tokens ?? 0
    }

    /// Waits until the condition holds; false after ten seconds.
    private static func eventually(_ condition: () -> Bool) async throws -> Bool {
        for _ in 0..<1_000 {
            if condition() { return true }
            try await Task.sleep(for: .milliseconds(10))
        }
        return false
    }

    private static func started(_ subscriptions: [KVEventSubscription]) throws -> (EventPrefixIndex, KVEventService) {
        let index = try EventPrefixIndex(budget: 4 << 20)
        let service = KVEventService(index: index)
        try service.start()
        service.replace(subscriptions)
        return (index, service)
    }

    @Test("batches arrive; a lost one is asked for again")
    func replay() async throws {
        let publisher = try KVEventPublisher(endpoint: "tcp://*:*", topic: "kv@pod@m", replay: "tcp://*:*")
        defer { publisher.stop() }
        let (index, service) = try Self.started([
            KVEventSubscription(source: Self.source, endpoint: publisher.endpoint, replay: publisher.replayEndpoint)
        ])
        defer { service.stop() }
        // What was published before the subscription comes by replay too.
        publisher.publish(Self.batch(0))
        var next = 1
        let joined = try await Self.eventually {
            publisher.publish(Self.batch(next))
            next += 1
            return Self.held(index, 0) == 64
        }
        #expect(joined)
        publisher.publish(Self.batch(next), isLost: true)
        publisher.publish(Self.batch(next + 1))
        #expect(try await Self.eventually { Self.held(index, next + 1) == 64 })
        for prompt in 0...(next + 1) { #expect(Self.held(index, prompt) == 64, "prompt \(prompt)") }
        #expect(try await Self.eventually { service.statistics.gaps == 1 })
        #expect(service.statistics.lostBatches == 0)
        #expect(index.statistics.doubtfulSources == 0)
    }

    @Test("without replay a lost batch makes the pod's part doubtful")
    func loss() async throws {
        let publisher = try KVEventPublisher(endpoint: "tcp://*:*")
        let (index, service) = try Self.started([
            KVEventSubscription(source: Self.source, endpoint: publisher.endpoint)
        ])
        defer { service.stop() }
        var next = 0
        #expect(
            try await Self.eventually {
                publisher.publish(Self.batch(next))
                next += 1
                return service.statistics.messages > 0
            }
        )
        publisher.publish(Self.batch(next), isLost: true)
        publisher.publish(Self.batch(next + 1))
        #expect(try await Self.eventually { Self.held(index, next + 1) == 64 })
        #expect(Self.held(index, next) == 0)
        #expect(try await Self.eventually { service.statistics.lostBatches == 1 })
        #expect(index.statistics.doubtfulSources == 1)
    }

    @Test("a restarted engine starts clean; one that left is forgotten")
    func restart() async throws {
        let first = try KVEventPublisher(endpoint: "tcp://*:*")
        let (index, service) = try Self.started([KVEventSubscription(source: Self.source, endpoint: first.endpoint)])
        defer { service.stop() }
        // The same batch until it has come: what was sent before the subscription stood is lost.
        let old = 1
        #expect(
            try await Self.eventually {
                first.publish(Self.batch(old))
                return Self.held(index, old) == 64
            }
        )
        // What is still on its way comes before the index is written to from here.
        var messages = -1
        #expect(
            try await Self.eventually {
                defer { messages = service.statistics.messages }
                return messages == service.statistics.messages
            }
        )
        // The same place, a new process: numbers begin again. Two publishers at once stand for the two lives.
        var feed = KVEventFeed(source: Self.source, canReplay: false)
        feed.live([[], KVEventEncoder.sequenceFrame(100), Self.batch(old)], index, now: 1)
        feed.live([[], KVEventEncoder.sequenceFrame(0), Self.batch(500)], index, now: 2)
        #expect(Self.held(index, old) == 0 && Self.held(index, 500) == 64)
        #expect(feed.restarts == 1)
        service.replace([])
        #expect(try await Self.eventually { Self.held(index, 500) == 0 })
        #expect(try await Self.eventually { service.statistics.subscriptions == 0 })
    }

    @Test("publishers that connect are told apart by topic and rank")
    func bindMode() async throws {
        // A port that is free now: another publisher binds it for a moment.
        let probe = try KVEventPublisher(endpoint: "tcp://*:*").endpoint
        let port = try #require(probe.split(separator: ":").last)
        let (index, service) = try Self.started([
            KVEventSubscription(source: EventSourceID(holder: 1, rank: 0), endpoint: "tcp://*:\(port)", names: ["a"]),
            KVEventSubscription(source: EventSourceID(holder: 2, rank: 0), endpoint: "tcp://*:\(port)", names: ["b"]),
        ])
        defer { service.stop() }
        let a = try KVEventPublisher(endpoint: "tcp://127.0.0.1:\(port)", topic: "kv@a@m")
        let b = try KVEventPublisher(endpoint: "tcp://127.0.0.1:\(port)", topic: "kv@b@m")
        let stranger = try KVEventPublisher(endpoint: "tcp://127.0.0.1:\(port)", topic: "kv@c@m")
        let arrived = try await Self.eventually {
            a.publish(Self.batch(1))
            b.publish(Self.batch(2))
            stranger.publish(Self.batch(3))
            return Self.held(index, 1, holder: 1) == 64 && Self.held(index, 2, holder: 2) == 64
                && service.statistics.unknownTopics > 0
        }
        #expect(arrived, "\(service.statistics)")
        #expect(Self.held(index, 1, holder: 2) == 0 && Self.held(index, 2, holder: 1) == 0)
    }

    @Test("messages that are no batches are counted and do no harm")
    func malformed() throws {
        let index = try EventPrefixIndex(budget: 4 << 20)
        var feed = KVEventFeed(source: Self.source, canReplay: false)
        feed.live([[1]], index, now: 0)
        feed.live([[], [1, 2], [3]], index, now: 0)
        feed.live([[], KVEventEncoder.sequenceFrame(0), [0xFF]], index, now: 0)
        feed.live([], index, now: 0)
        #expect(feed.malformed == 4)
        feed.live([[], KVEventEncoder.sequenceFrame(1), Self.batch(1)], index, now: 0)
        #expect(Self.held(index, 1) == 64)
    }

    @Test("ranks publish on ports that count up; where the picker binds, all come to one")
    func ranks() {
        let place = KVEventsPlace(
            endpoint: "tcp://10.0.0.5:5557",
            replay: "tcp://10.0.0.5:6557",
            topic: "kv@",
            ranks: 3
        )
        let all = KVEventSubscription.at(place, holder: 4, names: ["a"])
        #expect(all.map(\.source.rank) == [0, 1, 2] && all.allSatisfy { $0.source.holder == 4 && $0.topic == "kv@" })
        #expect(all.map(\.endpoint) == (5557...5559).map { "tcp://10.0.0.5:\($0)" })
        #expect(all.map(\.replay) == (6557...6559).map { "tcp://10.0.0.5:\($0)" })
        let bound = KVEventSubscription.at(KVEventsPlace(endpoint: "tcp://*:5557", ranks: 2), holder: 4, names: ["a"])
        #expect(bound.map(\.endpoint) == ["tcp://*:5557", "tcp://*:5557"] && bound.allSatisfy(\.binds))
        #expect(KVEventSubscription.at(.discovered, holder: 4, names: []).isEmpty)
    }

    @Test("what /kv_event_sources of a real vLLM says")
    func discovery() throws {
        let answer =
            #"{"0":{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:15557","replay_endpoint":"#
            + #""tcp://127.0.0.1:15558","buffer_steps":10000,"hwm":100000,"max_queue_size":100000,"#
            + #""topic":"kv@127.0.0.1:18100@tiny"},"1":{"endpoint":"tcp://*:15558","topic":""},"#
            + #""2":{"endpoint":"tcp://collector:5557"},"x":{},"3":{"enable_kv_cache_events":false,"endpoint":"tcp://*:1"}}"#
        #expect(
            KVEventSubscription.discovered(Array(answer.utf8), holder: 7, address: "10.0.0.5") == [
                KVEventSubscription(
                    source: EventSourceID(holder: 7, rank: 0),
                    endpoint: "tcp://10.0.0.5:15557",
                    replay: "tcp://10.0.0.5:15558",
                    topic: "kv@127.0.0.1:18100@tiny"
                ),
                KVEventSubscription(source: EventSourceID(holder: 7, rank: 1), endpoint: "tcp://10.0.0.5:15558"),
            ]
        )
        let six = KVEventSubscription.discovered(Array(answer.utf8), holder: 7, address: "fd00::5")
        #expect(six.first?.endpoint == "tcp://[fd00::5]:15557")
        #expect(KVEventSubscription.discovered(Array("[1]".utf8), holder: 7, address: "::1") == [])
    }
}
