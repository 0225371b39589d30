// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import PrefixIndex
import Router
import Testing

@testable import Simulation

/// Each baseline against numbers worked out by hand from its published formula.
struct BaselineRuleTests {
    /// Three pods with a request of 1,000 tokens in blocks of 100.
    private func view(_ change: (inout [BaselineView.Pod]) -> Void = { _ in }) -> BaselineView {
        var pods = (0..<3).map { BaselineView.Pod(endpoint: Scene.endpoint(UInt32($0), .prefill)) }
        change(&pods)
        let hashes = (1...10).map { UInt64($0) }
        return BaselineView(
            pods: pods,
            request: InferenceRequest(
                id: RequestID(1),
                model: nil,
                promptTokens: 1000,
                outputTokens: 100,
                streams: true,
                prefix: PrefixKeys(kind: .tokens, tokensPerBlock: 100, hashes: hashes)
            )
        )
    }

    private func choices(_ rule: some BaselineRule, _ phase: BaselinePhase, _ view: BaselineView, times: Int = 60)
        -> Set<Int>
    {
        var draw = RandomStream(seed: 1)
        var rule = rule
        return Set((0..<times).map { _ in rule.choose(phase, among: [0, 1, 2], view, &draw) })
    }

    @Test func randomTakesAllAlike() {
        var draw = RandomStream(seed: 2)
        var rule = RandomRule()
        var counts = [0, 0, 0]
        for _ in 0..<3000 { counts[rule.choose(.prefill, among: [0, 1, 2], view(), &draw)] += 1 }
        #expect(counts.allSatisfy { $0 > 900 && $0 < 1100 })
    }

    @Test func roundRobinTakesTurnsPerPhase() {
        var draw = RandomStream(seed: 2)
        var rule = RoundRobinRule()
        let prefill = (0..<4).map { _ in rule.choose(.prefill, among: [0, 1, 2], view(), &draw) }
        let decode = (0..<2).map { _ in rule.choose(.decode, among: [1, 2], view(), &draw) }
        #expect(prefill == [0, 1, 2, 0] && decode == [1, 2])
    }

    @Test func leastRequestDrawsAmongEquals() {
        let pods = view { pods in
            pods[0].inFlight = 3
            pods[1].inFlight = 2
            pods[2].inFlight = 2
        }
        #expect(choices(LeastRequestRule(), .prefill, pods) == [1, 2])
    }

    @Test func boundedLoadLeavesTheHashedPodWhenItIsFull() {
        let home = choices(HashBoundedLoadRule(), .prefill, view())
        #expect(home.count == 1)
        // Nine in flight on the home pod, none elsewhere: its bound is ceil(1.25 × 10 ÷ 3) = 5.
        let crowded = view { pods in for pod in home { pods[pod].inFlight = 9 } }
        #expect(choices(HashBoundedLoadRule(), .prefill, crowded).isDisjoint(with: home))
        // Two everywhere: ceil(1.25 × 7 ÷ 3) = 3, so the home pod has room.
        let even = view { pods in for pod in pods.indices { pods[pod].inFlight = 2 } }
        #expect(choices(HashBoundedLoadRule(), .prefill, even) == home)
    }

    @Test func sglangTakesTheMatchUnlessUnbalanced() {
        let matched = view { pods in
            pods[0].held = 310
            pods[0].inFlight = 60
            pods[1].inFlight = 5
            pods[2].inFlight = 4
        }
        // 60 − 4 = 56 is not above 64: balanced, and 31 % match.
        #expect(choices(SGLangCacheAwareRule(), .prefill, matched) == [0])
        let weak = view { pods in
            pods[0].held = 300
            pods[0].inFlight = 9
            pods[1].inFlight = 5
            pods[2].inFlight = 4
        }
        // 30 % is not above the threshold.
        #expect(choices(SGLangCacheAwareRule(), .prefill, weak) == [2])
        let unbalanced = view { pods in
            pods[0].held = 900
            pods[0].inFlight = 70
            pods[1].inFlight = 5
            pods[2].inFlight = 6
        }
        // 70 − 5 = 65 > 64 and 70 > 1.5 × 5.
        #expect(choices(SGLangCacheAwareRule(), .prefill, unbalanced) == [1])
        #expect(choices(SGLangCacheAwareRule(), .decode, matched) == [2])
    }

    @Test func llmdSumsItsWeightedScores() {
        // Pod 0: queue (4−4)/4 = 0, kv 1−0.5, prefix 8/10: 0 + 1.0 + 2.4 = 3.4.
        // Pod 1: queue (4−1)/4 = 0.75, kv 1−0.2, prefix 0: 1.5 + 1.6 + 0 = 3.1.
        // Pod 2: queue (4−0)/4 = 1, kv 1−0.4, prefix 1/10: 2.0 + 1.2 + 0.3 = 3.5.
        let pods = view { pods in
            pods[0].waiting = 4
            pods[0].kvUse = 0.5
            pods[0].held = 800
            pods[1].waiting = 1
            pods[1].kvUse = 0.2
            pods[2].waiting = 0
            pods[2].kvUse = 0.4
            pods[2].held = 100
        }
        #expect(choices(LLMDRule(), .prefill, pods) == [2])
        // At prefix weight 10 pod 0 has 0 + 1.0 + 8.0.
        #expect(choices(LLMDRule(prefixWeight: 10), .decode, pods) == [0])
    }

    @Test func llmdDisaggregatesAboveItsThreshold() {
        let pods = view { $0[0].held = 500 }
        #expect(LLMDRule().disaggregates(pods, decode: 0))
        #expect(LLMDRule(nonCachedTokens: 500).disaggregates(pods, decode: 0))
        #expect(!LLMDRule(nonCachedTokens: 512).disaggregates(pods, decode: 0))
    }

    @Test func dynamoAddsPrefillAndDecodeBlocks() {
        // Blocks of the prompt: 10. Pod 0: prefill 20 + 10 − 9 = 21, decode 0 + 10: 31.
        // Pod 1: prefill 5 + 10 = 15, decode 8 + 10 = 18: 33. Pod 2: prefill 0 + 10 = 10, decode 11 + 10 = 21: 31.
        let pods = view { pods in
            pods[0].pendingTokens = 1950
            pods[0].held = 900
            pods[1].pendingTokens = 500
            pods[1].decodingTokens = 800
            pods[2].decodingTokens = 1100
        }
        #expect(choices(DynamoRule(), .whole, pods) == [0, 2])
        #expect(choices(DynamoRule(), .prefill, pods) == [2])
        #expect(choices(DynamoRule(), .decode, pods) == [0])
        // Scale 2: 52, 48 and 41.
        #expect(choices(DynamoRule(prefillScale: 2), .whole, pods) == [2])
    }

    @Test func lmetricMultipliesTokensAndBatch() {
        // Pod 0: (0 + 100) × 12 = 1,200. Pod 1: (500 + 1000) × 1 = 1,500. Pod 2: (0 + 600) × 2 = 1,200.
        let pods = view { pods in
            pods[0].held = 900
            pods[0].inFlight = 11
            pods[1].pendingTokens = 500
            pods[2].held = 400
            pods[2].inFlight = 1
        }
        #expect(choices(LMetricRule(), .prefill, pods) == [0, 2])
        #expect(choices(LMetricRule(batchExponent: 0), .prefill, pods) == [0])
        #expect(choices(LMetricRule(), .decode, pods) == [1])
    }
}
