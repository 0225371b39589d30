// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router
import TestSupport
import Testing

@testable import Autoscaling

@Suite struct FleetScalerTests {
    /// Runs a farm under `rate(t)` for so long and lets watchers look at it; `each` is called after each tick.
    private func run(
        _ farm: inout Farm,
        _ watchers: inout [Watcher],
        seconds: Int,
        own: (Int) -> OwnWork = { _ in OwnWork() },
        rate: (Double) -> Double,
        each: (Double, [Watcher], inout Farm) -> Void
    ) {
        for step in 0..<(seconds * 5) {
            let now = Double(step) * 0.2
            farm.serve(rate: rate(now), span: 0.2)
            for index in watchers.indices {
                watchers[index].look(farm, at: now)
                if step % 5 == index % 5 { watchers[index].tick(own(index), at: now) }
            }
            each(now, watchers, &farm)
        }
    }

    @Test("Replicas that see different halves of the traffic differ by one at most", arguments: UInt64(1)...12)
    func replicasAgree(seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let base = Double.random(in: 2...60, using: &random)
        let swing = Double.random(in: 0...1.5, using: &random)
        let period = Double.random(in: 400...1200, using: &random)
        var farm = Farm(prefill: 6, decode: 4, seed: seed)
        var watchers = [Watcher(seed: seed &+ 100), Watcher(seed: seed &+ 200)]
        let ids = farm.servers.map(\.id)
        var worst = 0
        // One replica carries only prompts for the first half of the pods, and its queue; the other the rest.
        func own(_ index: Int) -> OwnWork {
            let mine = index == 0 ? ids.prefix(5) : ids.suffix(5)
            return OwnWork(
                pods: Dictionary(uniqueKeysWithValues: mine.map { ($0, OwnWork.Pod(inFlight: 1, backlog: .zero)) }),
                held: index == 0 ? 40 : 0,
                isWhole: false
            )
        }
        func rate(_ now: Double) -> Double {
            base * (1 + swing * max(0, (now / period).truncatingRemainder(dividingBy: 1)))
        }
        run(&farm, &watchers, seconds: 1200, own: own, rate: rate) { now, watchers, _ in
            // Both have their first rates, and both have ticked in this second.
            guard now >= 30, abs(now - now.rounded(.down) - 0.2) < 0.1 else { return }
            for role in [Role.prefill, .decode] {
                worst = max(worst, abs(watchers[0].desired(role) - watchers[1].desired(role)))
            }
        }
        #expect(worst <= 1, "seed \(seed): rate \(base), swing \(swing)")
    }

    @Test("A steady load does not make it flap", arguments: [3.0, 11, 27, 64])
    func steady(rate: Double) {
        var farm = Farm(prefill: 4, decode: 4, seed: UInt64(rate))
        var watchers = [Watcher(seed: 7)]
        var last: [Role: Int] = [:]
        var changes = 0
        var rises = 0
        run(&farm, &watchers, seconds: 3600, rate: { _ in rate }) { now, watchers, _ in
            // The start's own window is over.
            guard now > 700 else { return }
            for role in [Role.prefill, .decode] {
                let desired = watchers[0].desired(role)
                if let before = last[role], before != desired {
                    changes += 1
                    rises += desired > before ? 1 : 0
                }
                last[role] = desired
            }
        }
        #expect(rises <= 2 && changes <= 6, "\(changes) changes, \(rises) of them up, at \(rate) per second")
    }

    @Test("More load never asks for fewer replicas, and enough load for more")
    func monotonic() {
        var before: [Role: Int] = [.prefill: 0, .decode: 0]
        var first: [Role: Int]?
        for rate in [1.0, 4, 8, 16, 32, 64, 128] {
            var farm = Farm(prefill: 3, decode: 3, seed: 3)
            var watchers = [Watcher(seed: 5, settings: .init(scaleDownWindow: Seconds(60)))]
            run(&farm, &watchers, seconds: 300, rate: { _ in rate }) { _, _, _ in }
            for role in [Role.prefill, .decode] {
                #expect(watchers[0].desired(role) >= before[role] ?? 0, "\(role) at \(rate) per second")
                before[role] = watchers[0].desired(role)
            }
            first = first ?? before
        }
        #expect(before[.prefill] ?? 0 >= 10 * (first?[.prefill] ?? 0))
        #expect(before[.decode] ?? 0 > first?[.decode] ?? 0)
    }

    @Test("Longer prompts call for prefill pods only, longer answers for decode pods only")
    func rolesScaleApart() {
        func desired(prompt: Double, output: Double) -> (prefill: Int, decode: Int) {
            var farm = Farm(prefill: 3, decode: 3, seed: 9)
            farm.promptTokens = prompt
            farm.outputTokens = output
            var watchers = [Watcher(seed: 5, settings: .init(scaleDownWindow: Seconds(60)))]
            run(&farm, &watchers, seconds: 300, rate: { _ in 20 }) { _, _, _ in }
            return (watchers[0].desired(.prefill), watchers[0].desired(.decode))
        }
        let short = desired(prompt: 1000, output: 400)
        let longPrompts = desired(prompt: 4000, output: 400)
        let longAnswers = desired(prompt: 1000, output: 4000)
        #expect(longPrompts.prefill >= 2 * short.prefill)
        #expect(longPrompts.decode <= short.decode + 1)
        #expect(longAnswers.prefill == short.prefill)
        #expect(longAnswers.decode >= 2 * short.decode)
    }

    @Test("A pod that comes or goes changes nothing while the load is the same")
    func churn() {
        var farm = Farm(prefill: 6, decode: 4, seed: 21)
        var watchers = [Watcher(seed: 5, settings: .init(scaleDownWindow: Seconds(60)))]
        var seen: Set<Int> = []
        run(&farm, &watchers, seconds: 900, rate: { _ in 20 }) { now, watchers, farm in
            let step = Int((now * 5).rounded())
            if step % 500 == 250 { farm.add(.prefill) }
            if step % 500 == 490 { farm.removeOne(.prefill) }
            if now > 200 { seen.insert(watchers[0].desired(.prefill)) }
        }
        #expect((seen.max() ?? 0) - (seen.min() ?? 0) <= 1, "\(seen.sorted())")
    }

    @Test("A ramp is seen coming: the answer is ahead of the load by about the time a pod needs")
    func trend() {
        var farm = Farm(prefill: 4, decode: 4, seed: 2)
        var watchers = [Watcher(seed: 5, settings: .init(podStartTime: Seconds(120)))]
        var needAt: [(Double, Double)] = []
        run(&farm, &watchers, seconds: 900, rate: { 5 + $0 / 15 }) { now, watchers, _ in
            if let group = watchers[0].group(.prefill) { needAt.append((now, group.need)) }
        }
        var steady = Farm(prefill: 4, decode: 4, seed: 2)
        var other = [Watcher(seed: 5)]
        // What the ramp reaches 120 s after 600 s, held.
        run(&steady, &other, seconds: 400, rate: { _ in 5 + 720.0 / 15 }) { _, _, _ in }
        let said = needAt.last { $0.0 <= 600 }?.1 ?? 0
        let truth = other[0].group(.prefill)?.need ?? 0
        #expect(said > 0.85 * truth && said < 1.3 * truth, "said \(said), \(truth) it became")
    }

    @Test("From zero: one replica while requests wait, none after a window without any")
    func fromZero() {
        var scaler = FleetScaler(.init(scaleDownWindow: Seconds(30))) { _ in Farm.rule }
        var farm = Farm(prefill: 0, decode: 0, seed: 1)
        farm.add(.both)
        let status = EndpointStatus(
            endpoint: farm.endpoint(farm.servers[0]),
            load: EndpointLoad(observedAt: Instant(0), waiting: 0, running: 0, kvUse: 0)
        )
        func desired(_ fleet: [EndpointStatus], held: Int, _ now: Double) -> Int {
            scaler.tick(fleet, own: OwnWork(held: held), at: Instant(now)).groups.first?.desiredReplicas ?? -1
        }
        #expect(desired([status], held: 0, 0) == 1)
        #expect(desired([status], held: 0, 29) == 1)
        #expect(desired([status], held: 0, 31) == 0)
        #expect(desired([], held: 0, 40) == 0)
        #expect(desired([], held: 3, 41) == 1)
        #expect(desired([], held: 0, 72) == 0)
    }

    @Test("A new picker takes nothing away before it has watched for a window")
    func settles() {
        var farm = Farm(prefill: 8, decode: 2, seed: 4)
        var watchers = [Watcher(seed: 5)]
        var least = Int.max
        run(&farm, &watchers, seconds: 299, rate: { _ in 2 }) { now, watchers, _ in
            if now >= 1 { least = min(least, watchers[0].desired(.prefill)) }
        }
        #expect(least == 8)
        run(&farm, &watchers, seconds: 1, rate: { _ in 2 }) { _, _, _ in }
    }

    @Test("A server that starts anew, or counts nonsense, is not work")
    func restarts() {
        var farm = Farm(prefill: 1, decode: 0, seed: 4)
        var scaler = FleetScaler { _ in Farm.rule }
        let status = EndpointStatus(endpoint: farm.endpoint(farm.servers[0]))
        let id = farm.servers[0].id
        _ = scaler.tick([status], own: OwnWork(), at: Instant(0))
        func read(_ tokens: Double) {
            var counters = PodCounters()
            counters.requests = tokens / 100
            counters.promptTokens = tokens
            scaler.observed(id, PodReading(counters: counters, tellsTransfers: true))
        }
        for tokens in [1e6, 1e6 + 600, 40, 100, .nan, 130, .infinity, 160, 1e300, 190] { read(tokens) }
        let report = scaler.tick([status], own: OwnWork(), at: Instant(30))
        // 600 before the restart and 60 after it; what lies beside a number that is none is lost.
        #expect(report.groups.first.map { ($0.promptTokensPerSecond * 30).rounded() } == 660)
        farm.removeOne(.prefill)
    }
}
