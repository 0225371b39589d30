// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Glibc
import Router
import Simulation
import TestSupport
import Testing

@testable import Autoscaling

/// The simulator's fleet under the picker's own policy, in a cluster that follows the desired replicas: pods are added, take
/// their time to start, and leave once they have ended what they had.
private final class FollowingCluster: FleetControl {
    /// Looks of an HPA are 15 s apart (kube-controller-manager, `--horizontal-pod-autoscaler-sync-period`).
    static let hpaInterval = 15.0
    /// Pods of each role that there may be.
    static let most = 16

    enum State: Equatable {
        case absent
        case present(readyAt: Double)
        case leaving
    }

    struct Pod {
        var endpoint: Endpoint
        var state = State.absent
    }

    private(set) var pods: [Pod] = []
    private var scaler: FleetScaler
    private let startTime: Double
    private let follows: Bool
    private var nextTick = 0.0
    private var nextLook = hpaInterval
    private var lastLook = 0.0
    private var desired: [Role: Int] = [:]
    private(set) var history: [(at: Double, desired: [Role: Int])] = []
    private(set) var podSeconds = 0.0

    init(startTime: Double, prefill: Int, decode: Int, follows: Bool) {
        self.startTime = startTime
        self.follows = follows
        scaler = FleetScaler(.init(podStartTime: Seconds(startTime), scaleDownWindow: Seconds(120))) { _ in Farm.rule }
        let farm = Farm(prefill: 0, decode: 0, seed: 0)
        for (role, count) in [(Role.prefill, prefill), (.decode, decode)] {
            for place in 0..<Self.most {
                let id = EndpointID(UInt32(pods.count + 1))
                var pod = Pod(endpoint: farm.endpoint(Farm.Server(id: id, role: role)))
                if place < count { pod.state = .present(readyAt: 0) }
                pods.append(pod)
            }
        }
    }

    func readiness(_ looks: [PodLook], at now: Double) -> [Bool] {
        for index in pods.indices where pods[index].state == .leaving && looks[index].jobs == 0 {
            pods[index].state = .absent
        }
        podSeconds += Double(pods.count { $0.state != .absent }) * (now - lastLook)
        lastLook = now
        if now >= nextTick {
            nextTick += 1
            tick(looks, at: now)
        }
        if now >= nextLook {
            nextLook += Self.hpaInterval
            scale(at: now)
        }
        return pods.map { isReady($0, at: now) }
    }

    private func isReady(_ pod: Pod, at now: Double) -> Bool {
        if case .present(let readyAt) = pod.state { readyAt <= now } else { false }
    }

    private func tick(_ looks: [PodLook], at now: Double) {
        var fleet: [EndpointStatus] = []
        for (pod, look) in zip(pods, looks) where isReady(pod, at: now) {
            fleet.append(
                EndpointStatus(
                    endpoint: pod.endpoint,
                    load: EndpointLoad(
                        observedAt: Instant(now),
                        waiting: look.load.waiting,
                        running: look.load.running,
                        kvUse: look.load.kvUse
                    )
                )
            )
            var counters = PodCounters()
            counters.requests = Double(look.counters.finished)
            counters.promptTokens = Double(look.counters.promptTokens)
            counters.cachedTokens = Double(look.counters.prefixHits)
            counters.generatedTokens = Double(look.counters.generationTokens)
            scaler.observed(pod.endpoint.id, PodReading(counters: counters, tellsTransfers: true))
        }
        let report = scaler.tick(fleet, own: OwnWork(), at: Instant(now))
        for group in report.groups { desired[group.group.role] = group.desiredReplicas }
    }

    /// As a Deployment does: new pods start at once, and what is too many leaves, the youngest first.
    private func scale(at now: Double) {
        history.append((now, desired))
        guard follows else { return }
        for role in [Role.prefill, .decode] {
            guard let wanted = desired[role] else { continue }
            let places = pods.indices.filter { pods[$0].endpoint.role == role }
            let present = places.filter { if case .present = pods[$0].state { true } else { false } }
            let missing = max(wanted - present.count, 0)
            for index in places.filter({ pods[$0].state == .absent }).prefix(missing) {
                pods[index].state = .present(readyAt: now + startTime)
            }
            for index in present.suffix(max(present.count - max(wanted, 1), 0)) { pods[index].state = .leaving }
        }
    }

    func desired(at time: Double) -> [Role: Int] { history.last { $0.at <= time }?.desired ?? [:] }
}

/// One run: what was offered, what became of it, and what the cluster did.
private struct Following {
    let cluster: FollowingCluster
    let record: RunRecord

    init(
        seed: UInt64,
        seconds: Double,
        prefill: Int = 2,
        decode: Int = 2,
        follows: Bool = true,
        rate: (Double) -> Double,
        prompt: (Double) -> Double,
        output: (Double) -> Double
    ) throws {
        var random = SplitMix64(seed: seed)
        func unit() -> Double { Double(random.next() >> 11) * 0x1p-53 }
        var offered: [OfferedRequest] = []
        var now = 0.0
        while true {
            now += -log(1 - unit()) / rate(now)
            guard now < seconds else { break }
            let (long, answer) = (prompt(now) * (0.5 + unit()), output(now) * (0.5 + unit()))
            offered.append(
                OfferedRequest(arrival: now, promptTokens: max(Int(long), 16), outputTokens: max(Int(answer), 2))
            )
        }
        cluster = FollowingCluster(startTime: 60, prefill: prefill, decode: decode, follows: follows)
        var options = SimulationOptions()
        options.seed = seed
        options.scrapeInterval = 0.25
        options.serviceLevel = Farm.rule
        let catalog = PolicyCatalog(mode: .latency, options: options)
        let policy = try #require(catalog.variants(of: PolicyName(.joint)).first)
        let simulation = try Simulation(
            workload: Workload(name: "ramp", blockSize: 16, requests: offered),
            endpoints: cluster.pods.map(\.endpoint),
            options: options,
            knowledge: policy.knowledge,
            control: cluster,
            makePolicy: policy.make
        )
        record = try simulation.run()
    }

    static func share(_ values: [Double], within bound: Double) -> Double {
        values.isEmpty ? 0 : Double(values.count { $0 <= bound }) / Double(values.count)
    }

    var firstTokens: Double { Self.share(record.ttfts, within: Farm.rule.level(promptTokens: 0).ttft?.rawValue ?? 0) }
    var furtherTokens: Double { Self.share(record.tpots, within: Farm.rule.tpot?.rawValue ?? 0) }
}

@Suite struct RampTests {
    @Test("A fleet that follows the desired replicas keeps its service levels over a ramp to six times the load")
    func ramp() throws {
        let run = try Following(
            seed: 5,
            seconds: 900,
            prefill: 1,
            decode: 1,
            rate: { 3 + 15 * min(max(($0 - 100) / 600, 0), 1) },
            prompt: { _ in 4000 },
            output: { _ in 200 }
        )
        let last = run.cluster.desired(at: 900)
        print(
            "ramp: TTFT \(run.firstTokens), TPOT \(run.furtherTokens), of \(run.record.ttfts.count);",
            "pods \(last), \(run.cluster.podSeconds) s"
        )
        #expect(run.record.ttfts.count > 5000)
        #expect(run.firstTokens >= 0.95)
        #expect(run.furtherTokens >= 0.95)
        #expect(last[.prefill] ?? 0 >= 5)
        // A fleet sized for the end all the time would have cost more.
        let largest = Double(last.values.reduce(0, +))
        #expect(run.cluster.podSeconds < 0.85 * largest * 900)
    }

    @Test("A fleet that does not follow misses its service levels when the same ramp has come to half")
    func withoutFollowing() throws {
        let run = try Following(
            seed: 5,
            seconds: 430,
            prefill: 1,
            decode: 1,
            follows: false,
            rate: { 3 + 15 * min(max(($0 - 100) / 600, 0), 1) },
            prompt: { _ in 4000 },
            output: { _ in 200 }
        )
        print("not following: TTFT \(run.firstTokens), TPOT \(run.furtherTokens)")
        #expect(min(run.firstTokens, run.furtherTokens) < 0.95)
    }

    @Test("Prompts that grow call for prefill pods only, and the levels hold")
    func longerPrompts() throws {
        let run = try Following(
            seed: 6,
            seconds: 700,
            rate: { _ in 6 },
            prompt: { 1500 + 6000 * min(max(($0 - 100) / 400, 0), 1) },
            output: { _ in 200 }
        )
        let (before, after) = (run.cluster.desired(at: 100), run.cluster.desired(at: 700))
        print("longer prompts: \(before) to \(after), TTFT \(run.firstTokens), TPOT \(run.furtherTokens)")
        #expect(after[.prefill] ?? 0 >= (before[.prefill] ?? 0) + 2, "\(before) to \(after)")
        #expect(abs((after[.decode] ?? 0) - (before[.decode] ?? 0)) <= 1, "\(before) to \(after)")
        #expect(run.firstTokens >= 0.95)
        #expect(run.furtherTokens >= 0.95)
    }

    @Test("Answers that grow call for decode pods only, and the levels hold")
    func longerAnswers() throws {
        let run = try Following(
            seed: 7,
            seconds: 600,
            rate: { _ in 12 },
            prompt: { _ in 1000 },
            output: { 200 + 1300 * min(max(($0 - 100) / 300, 0), 1) }
        )
        let (before, after) = (run.cluster.desired(at: 100), run.cluster.desired(at: 600))
        print("longer answers: \(before) to \(after), TTFT \(run.firstTokens), TPOT \(run.furtherTokens)")
        #expect(after[.decode] ?? 0 >= (before[.decode] ?? 0) + 2, "\(before) to \(after)")
        #expect(abs((after[.prefill] ?? 0) - (before[.prefill] ?? 0)) <= 1, "\(before) to \(after)")
        #expect(run.furtherTokens >= 0.95)
        #expect(run.firstTokens >= 0.95)
    }
}
