// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Glibc
import Router
import Simulation
import TestSupport
import Testing

@testable import Autoscaling

/// Simulated model servers whose number follows the desired replicas: prefill pods compute prompts, decode pods take them
/// over, each request goes to the pod with the fewest.
private struct ScaledCluster {
    /// Looks of an HPA are 15 s apart (kube-controller-manager, `--horizontal-pod-autoscaler-sync-period`).
    static let hpaInterval = 15.0
    static let step = 0.02
    /// From the end of a prompt to its KV's being at the decode pod.
    static let transfer = 0.02

    struct Pod {
        var id: EndpointID
        var role: Role
        var server: ModelServer
        var readyAt: Double
        var isLeaving = false
    }

    struct Request {
        var arrivedAt: Double
        var output: Int
        var prompt: Int
        var firstAt: Double?
    }

    var pods: [Pod] = []
    var requests: [UInt64: Request] = [:]
    var moving: [(id: UInt64, at: Double)] = []
    var random: SplitMix64
    var scaler: FleetScaler
    let startTime: Double
    var nextID: UInt64 = 1
    var nextPod: UInt32 = 1
    var ttft: [Double] = []
    var tpot: [Double] = []
    var desired: [Role: Int] = [:]
    var history: [(at: Double, desired: [Role: Int])] = []
    var podSeconds = 0.0

    init(seed: UInt64, startTime: Double, prefill: Int, decode: Int) {
        random = SplitMix64(seed: seed)
        self.startTime = startTime
        scaler = FleetScaler(.init(podStartTime: Seconds(startTime), scaleDownWindow: Seconds(120))) { _ in Farm.rule }
        for _ in 0..<prefill { add(.prefill, readyAt: 0) }
        for _ in 0..<decode { add(.decode, readyAt: 0) }
    }

    mutating func add(_ role: Role, readyAt: Double) {
        let batching: ModelServerConfiguration.Batching = role == .prefill ? .wholePrompt : .chunked(tokenBudget: 2048)
        let configuration = ModelServerConfiguration(profile: Farm.profile, batching: batching)
        pods.append(
            Pod(
                id: EndpointID(nextPod),
                role: role,
                server: ModelServer(configuration: configuration, seed: UInt64(nextPod)),
                readyAt: readyAt
            )
        )
        nextPod += 1
    }

    private mutating func unit() -> Double { Double(random.next() >> 11) * 0x1p-53 }

    mutating func run(seconds: Double, rate: (Double) -> Double, prompt: (Double) -> Double, output: (Double) -> Double)
    {
        var now = 0.0
        var nextArrival = 0.0
        var nextTick = 0.0
        var nextLook = 0.0
        while now < seconds {
            now += Self.step
            advance(to: now)
            while nextArrival <= now {
                arrive(at: now, prompt: prompt(now) * (0.5 + unit()), output: output(now) * (0.5 + unit()))
                nextArrival += -log(1 - unit()) / rate(now)
            }
            if now >= nextTick {
                nextTick += 1
                tick(at: now)
            }
            if now >= nextLook {
                nextLook += Self.hpaInterval
                scale(at: now)
            }
            podSeconds += Double(pods.count) * Self.step
        }
    }

    private mutating func arrive(at now: Double, prompt: Double, output: Double) {
        let request = Request(arrivedAt: now, output: max(Int(output), 2), prompt: max(Int(prompt), 16))
        requests[nextID] = request
        submit(
            ServerJob(id: nextID, promptTokens: request.prompt, outputTokens: 1),
            to: .prefill,
            at: now
        )
        nextID += 1
    }

    private mutating func submit(_ job: ServerJob, to role: Role, at now: Double) {
        let usable = pods.indices.filter { pods[$0].role == role && pods[$0].readyAt <= now && !pods[$0].isLeaving }
        guard let index = usable.min(by: { pods[$0].server.jobCount < pods[$1].server.jobCount }) else { return }
        var events: [ServerEvent] = []
        pods[index].server.submit(job, at: Instant(now), into: &events)
        if job.source == .remote { pods[index].server.kvArrived(job.id, at: Instant(now), into: &events) }
        hear(events, from: role)
    }

    private mutating func advance(to now: Double) {
        for index in pods.indices {
            var events: [ServerEvent] = []
            pods[index].server.advance(to: Instant(now), into: &events)
            hear(events, from: pods[index].role)
        }
        let arrived = moving.filter { $0.at <= now }
        moving.removeAll { $0.at <= now }
        for (id, _) in arrived {
            guard let request = requests[id] else { continue }
            let job = ServerJob(
                id: id,
                promptTokens: request.prompt,
                outputTokens: request.output,
                source: .remote,
                awaitsKV: true
            )
            submit(job, to: .decode, at: now)
        }
        pods.removeAll { $0.isLeaving && $0.server.jobCount == 0 }
    }

    private mutating func hear(_ events: [ServerEvent], from role: Role) {
        for event in events {
            guard let request = requests[event.job] else { continue }
            switch (event.kind, role) {
            case (.finished, .prefill): moving.append((event.job, event.at.rawValue + Self.transfer))
            case (.firstToken, .decode):
                requests[event.job]?.firstAt = event.at.rawValue
                ttft.append(event.at.rawValue - request.arrivedAt)
            case (.finished, .decode):
                if let first = request.firstAt { tpot.append((event.at.rawValue - first) / Double(request.output - 1)) }
                requests[event.job] = nil
            default: break
            }
        }
    }

    private mutating func tick(at now: Double) {
        let ready = pods.filter { $0.readyAt <= now && !$0.isLeaving }
        let farm = Farm(prefill: 0, decode: 0, seed: 0)
        let fleet = ready.map { pod in
            let load = pod.server.load(at: Instant(now))
            return EndpointStatus(
                endpoint: farm.endpoint(Farm.Server(id: pod.id, role: pod.role)),
                load: EndpointLoad(
                    observedAt: Instant(now),
                    waiting: load.waiting,
                    running: load.running,
                    kvUse: load.kvUse
                )
            )
        }
        for pod in ready {
            var counters = PodCounters()
            counters.requests = Double(pod.server.counters.finished)
            counters.promptTokens = Double(pod.server.counters.promptTokens)
            counters.generatedTokens = Double(pod.server.counters.generationTokens)
            counters.transferredTokens = pod.role == .decode ? counters.promptTokens : 0
            scaler.observed(pod.id, PodReading(counters: counters, tellsTransfers: true))
        }
        let report = scaler.tick(fleet, own: OwnWork(), at: Instant(now))
        for group in report.groups { desired[group.group.role] = group.desiredReplicas }
    }

    private mutating func scale(at now: Double) {
        history.append((now, desired))
        for role in [Role.prefill, .decode] {
            guard let wanted = desired[role] else { continue }
            let present = pods.indices.filter { pods[$0].role == role && !pods[$0].isLeaving }
            for _ in present.count..<max(wanted, present.count) { add(role, readyAt: now + startTime) }
            let surplus = max(present.count - max(wanted, 1), 0)
            for index in present.reversed().prefix(surplus) { pods[index].isLeaving = true }
        }
    }

    func share(_ values: [Double], within bound: Double) -> Double {
        values.isEmpty ? 0 : Double(values.count { $0 <= bound }) / Double(values.count)
    }
}

@Suite struct RampTests {
    @Test("A fleet that follows the desired replicas keeps its service levels over a ramp to six times the load")
    func ramp() {
        var cluster = ScaledCluster(seed: 5, startTime: 60, prefill: 2, decode: 2)
        cluster.run(
            seconds: 900,
            rate: { 3 + 15 * min(max(($0 - 100) / 600, 0), 1) },
            prompt: { _ in 4000 },
            output: { _ in 200 }
        )
        let first = cluster.share(cluster.ttft, within: 2)
        let further = cluster.share(cluster.tpot, within: 0.03)
        let last = cluster.history.last?.desired ?? [:]
        print("ramp: TTFT \(first), TPOT \(further), of \(cluster.ttft.count); pods \(last), \(cluster.podSeconds) s")
        #expect(cluster.ttft.count > 5000)
        #expect(first >= 0.95)
        #expect(further >= 0.95)
        #expect(last[.prefill] ?? 0 >= 5)
        // A fleet sized for the end all the time would have cost more.
        let largest = Double(last.values.reduce(0, +))
        #expect(cluster.podSeconds < 0.85 * largest * 900)
    }

    @Test("Prompts that grow call for prefill pods only, and the levels hold")
    func longerPrompts() {
        var cluster = ScaledCluster(seed: 6, startTime: 60, prefill: 2, decode: 2)
        cluster.run(
            seconds: 700,
            rate: { _ in 6 },
            prompt: { 1500 + 6000 * min(max(($0 - 100) / 400, 0), 1) },
            output: { _ in 200 }
        )
        let before = cluster.history.first { $0.at > 80 }?.desired ?? [:]
        let after = cluster.history.last?.desired ?? [:]
        #expect(after[.prefill] ?? 0 >= (before[.prefill] ?? 0) + 2, "\(before) to \(after)")
        #expect(abs((after[.decode] ?? 0) - (before[.decode] ?? 0)) <= 1, "\(before) to \(after)")
        #expect(cluster.share(cluster.ttft, within: 2) >= 0.95)
    }

    @Test("Answers that grow call for decode pods only, and the levels hold")
    func longerAnswers() {
        var cluster = ScaledCluster(seed: 7, startTime: 60, prefill: 2, decode: 2)
        cluster.run(
            seconds: 600,
            rate: { _ in 12 },
            prompt: { _ in 1000 },
            output: { 200 + 1300 * min(max(($0 - 100) / 300, 0), 1) }
        )
        let before = cluster.history.first { $0.at > 80 }?.desired ?? [:]
        let after = cluster.history.last?.desired ?? [:]
        #expect(after[.decode] ?? 0 >= (before[.decode] ?? 0) + 2, "\(before) to \(after)")
        #expect(abs((after[.prefill] ?? 0) - (before[.prefill] ?? 0)) <= 1, "\(before) to \(after)")
        #expect(cluster.share(cluster.tpot, within: 0.03) >= 0.95)
        #expect(cluster.share(cluster.ttft, within: 2) >= 0.95)
    }
}
