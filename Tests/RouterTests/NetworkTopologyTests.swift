// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Foundation
import Testing

@testable import Router

@Suite("Network topology")
struct NetworkTopologyTests {
    private static let rack = NetworkLink(bytesPerSecond: 10e9)
    private static let zone = NetworkLink(bytesPerSecond: 1e9, latency: Seconds(0.005))

    @Test("Labels of fleet files, Kubernetes and clouds say where a pod stands")
    func labels() {
        let plain = Location(labels: ["zone": "a", "rack": "r", "host": "h", "topology.kubernetes.io/zone": "b"])
        #expect(plain.zone == "a" && plain.rack == "r" && plain.host == "h")
        let cluster = Location(labels: [
            "topology.kubernetes.io/zone": "eu-1a", "topology.k8s.aws/network-node-layer-3": "nn-1",
            "kubernetes.io/hostname": "gpu-1", "rack": "",
        ])
        #expect(cluster.zone == "eu-1a" && cluster.rack == "nn-1" && cluster.host == "gpu-1")
        #expect(!Location(labels: ["app": "vllm"]).isKnown)
    }

    @Test("The widest known boundary counts; what nobody says is none")
    func spans() {
        let here = PodPlace(zone: 0, rack: 0, host: 0)
        func span(_ other: PodPlace?) -> NetworkSpan? { NetworkSpan(between: here, and: other) }
        #expect(span(here) == nil)
        #expect(span(nil) == nil)
        #expect(span(PodPlace(zone: 0, rack: 0, host: 1)) == .hosts)
        #expect(span(PodPlace(zone: 0, rack: 1, host: 1)) == .racks)
        #expect(span(PodPlace(zone: 1, rack: 0, host: 0)) == .zones)
        #expect(span(PodPlace(rack: 1)) == .racks)
        #expect(span(PodPlace(zone: 0)) == nil)
    }

    @Test("A boundary without a link of its own has the next narrower one's")
    func inheritance() {
        let topology = NetworkTopology(betweenRacks: Self.rack)
        #expect(topology.link(.hosts) == NetworkLink())
        #expect(topology.link(.racks) == Self.rack)
        #expect(topology.link(.zones) == Self.rack)
        #expect(NetworkTopology.standard.link(.racks) == NetworkLink())
        #expect(NetworkTopology.standard.link(.zones).bytesPerSecond == 25e9 / 8)
    }

    /// One prefill pod, and decode pods beside it, in another rack and in another zone, all idle.
    private static func fleet() -> FleetSnapshot {
        func at(_ zone: String, _ rack: String) -> [String: String] { ["zone": zone, "rack": rack] }
        return Pods.snapshot([
            Pods.endpoint(1, .prefill, labels: at("a", "1")),
            Pods.endpoint(2, .decode, labels: at("b", "1")),
            Pods.endpoint(3, .decode, labels: at("a", "2")),
            Pods.endpoint(4, .decode, labels: at("a", "1")),
        ])
    }

    private static func story(_ network: NetworkTopology) -> Story {
        Story(fleet(), options: RouterOptions(network: network, recordedShare: 1))
    }

    @Test("KV goes over the pair's own link, and the record replays")
    func transfers() throws {
        var story = Self.story(NetworkTopology(betweenRacks: Self.rack, betweenZones: Self.zone))
        _ = story.decide(Pods.request(1, prompt: 8000))
        let taken = story.router.takeRecords()
        let record = try #require(taken.first)
        let bytes = 8000 * 327_680.0
        // The unknown connector's 10 ms, and the narrowest of pods' networks (140 GB/s) and link.
        let expected: [EndpointID: Double] = [
            EndpointID(4): 0.010 + bytes / 140e9, EndpointID(3): 0.010 + bytes / 10e9,
            EndpointID(2): 0.010 + 0.005 + bytes / 1e9,
        ]
        let pairs = record.input.ranked().filter(\.placement.isPair)
        #expect(pairs.map(\.placement.destination.rawValue) == [4, 3, 2])
        for candidate in pairs {
            let wanted = try #require(expected[candidate.placement.destination])
            #expect(abs(candidate.terms.transfer.rawValue - wanted) < 1e-9, "\(candidate.placement)")
        }
        let line = try JSONEncoder().encode(record)
        let read = try JSONDecoder().decode(DecisionRecord.self, from: line)
        #expect(read.input.network == record.input.network)
        #expect(read.replays)
    }

    @Test("A pair that stands together is worth some queue, not any")
    func queues() {
        var story = Self.story(NetworkTopology(betweenRacks: Self.rack, betweenZones: Self.zone))
        var seen: Set<EndpointID> = []
        for id in 1...400 {
            if let decision = story.decide(Pods.request(UInt64(id), prompt: 4000, output: 800)) {
                if decision.placement.isPair { seen.insert(decision.placement.destination) }
            }
        }
        #expect(seen.contains(EndpointID(4)) && seen.contains(EndpointID(3)))
    }

    @Test("A flat network knows no places")
    func flat() throws {
        var story = Self.story(.flat)
        _ = story.decide(Pods.request(1, prompt: 8000))
        let taken = story.router.takeRecords()
        let record = try #require(taken.first)
        #expect(record.input.network == nil)
        let pairs = record.input.ranked().filter(\.placement.isPair).map(\.terms.transfer)
        #expect(pairs.count == 3 && Set(pairs).count == 1)
    }

    @Test("A prefix is pulled over the link too")
    func pulls() throws {
        func pull(_ zone: String) throws -> Seconds? {
            var story = Story(
                Pods.snapshot([
                    Pods.endpoint(1, .prefill, canPull: true, labels: ["zone": "a"]),
                    Pods.endpoint(2, .decode, labels: ["zone": zone]),
                ]),
                options: RouterOptions(network: NetworkTopology(betweenZones: Self.zone), recordedShare: 1)
            )
            story.prefixes.learn(
                Pods.request(0, prompt: 16_000, hashes: Array(0..<500)).prefix,
                at: EndpointID(2)
            )
            _ = story.decide(Pods.request(1, prompt: 16_000, hashes: Array(0..<500)))
            let taken = story.router.takeRecords()
            return try #require(taken.first).input.ranked().first { $0.placement.isPair }?.terms.pull
        }
        let near = try #require(try pull("a"))
        let far = try #require(try pull("b"))
        #expect(near > .zero)
        // Over the slow link computing it again is sooner.
        #expect(far == .zero)
    }
}
