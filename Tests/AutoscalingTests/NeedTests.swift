// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Glibc
import Router
import Testing

@testable import Autoscaling

@Suite struct NeedTests {
    private let group = GroupProfile(profile: Farm.profile, rule: Farm.rule)

    private func load(rate: Double, prompt: Double = 4000, output: Double = 300, replicas: Int = 4) -> GroupLoad {
        var load = GroupLoad()
        load.perSecond.requests = rate
        load.perSecond.promptTokens = rate * prompt
        load.perSecond.generatedTokens = rate * output
        load.replicas = replicas
        return load
    }

    @Test("Busy pods are the seconds of work that arrive per second")
    func busy() {
        let need = PrefillNeed(load(rate: 10), group, role: .prefill)
        let one = Farm.profile.prefill.duration(newTokens: 4000, cachedTokens: 0).rawValue
        #expect(abs(need.busy - 10 * one) < 1e-9)
        #expect(need.extra == 0)
        #expect(PrefillNeed.targets.contains(need.target))
    }

    @Test("A tighter bound leaves less of each pod's time for work")
    func tighter() {
        var before = 1.0
        for bound in [20.0, 4, 2, 1, 0.5, 0.1] {
            let target = PrefillNeed.target(service: 0.2, wait: bound)
            #expect(target <= before)
            before = target
        }
        #expect(before == PrefillNeed.targets.lowerBound)
        #expect(PrefillNeed.target(service: 0.2, wait: 100) > 0.84)
    }

    @Test("What the target allows misses its bound as rarely as it says")
    func missShare() {
        let service = 0.3
        let wait = 2.5
        let target = PrefillNeed.target(service: service, wait: wait)
        let missed = target * exp(-(1 - target) * wait / service)
        #expect(target > PrefillNeed.targets.lowerBound && target < PrefillNeed.targets.upperBound)
        #expect(abs(missed - PrefillNeed.missShare) < 1e-3)
    }

    @Test("A decode pod is full when its step reaches the bound's share")
    func fullPod() {
        var tight = group
        tight.rule.tpot = Seconds(0.025)
        let need = DecodeNeed(load(rate: 20), tight)
        let kv = need.batch * (4000 + 150)
        let step = Farm.profile.decode.step(batch: need.batch, kvTokens: kv).rawValue
        let isKVBound = abs(need.batch * 4300 - DecodeNeed.kvShare * 480_000) < 1
        #expect(isKVBound || abs(step - 0.025 * DecodeNeed.tpotShare) < 1e-6)
        #expect(abs(need.pods - 20 * 300 / need.tokensPerSecond) < 1e-9)
    }

    @Test("Cached prompts cost less, local prompts of decode pods cost, transferred ones do not")
    func tokensByPlace() {
        var cached = load(rate: 10)
        cached.perSecond.cachedTokens = 30_000
        let uncached = PrefillNeed(load(rate: 10), group, role: .prefill).busy
        #expect(PrefillNeed(cached, group, role: .prefill).busy < uncached / 2)
        var moved = load(rate: 10)
        moved.perSecond.transferredTokens = 40_000
        #expect(PrefillNeed(moved, group, role: .decode).busy == 0)
        #expect(PrefillNeed(load(rate: 10), group, role: .decode).busy > 1)
    }

    @Test("Queues within the bound are no reason for pods; those beyond it are")
    func queues() {
        var queued = load(rate: 10)
        queued.waiting = 8
        #expect(PrefillNeed(queued, group, role: .prefill).extra == 0)
        queued.waiting = 200
        let need = PrefillNeed(queued, group, role: .prefill)
        #expect(need.extra > 1)
        #expect(need.backlog.rawValue > 30)
    }

    @Test("Every number of the load, raised, raises the need or leaves it")
    func monotonic() {
        let fields: [WritableKeyPath<GroupLoad, Double>] = [
            \.waiting, \.running, \.held, \.ownSequences, \.ownBacklog.rawValue,
        ]
        for role in Role.allCases {
            for field in fields {
                var before = 0.0
                for value in [0.0, 1, 5, 20, 100, 1000, 1e9] {
                    var load = load(rate: 5)
                    load[keyPath: field] = value
                    let need = GroupNeed(load, group, role).pods
                    #expect(need >= before - 1e-9, "\(role) \(field) \(value)")
                    before = need
                }
            }
            var before = 0.0
            for rate in [0.0, 0.01, 1, 10, 100, 1e6, 1e12] {
                let need = GroupNeed(load(rate: rate), group, role).pods
                #expect(need >= before && need.isFinite)
                before = need
            }
        }
    }
}
