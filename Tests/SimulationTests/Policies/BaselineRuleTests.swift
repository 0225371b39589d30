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
        // Two on each of the others. Three on the home pod: ceil(1.25 × 8 ÷ 3) = ceil(3.33) = 4 leaves room for one; four:
        // ceil(1.25 × 9 ÷ 3) = ceil(3.75) = 4 leaves none. With c = 1.5 it is ceil(4.5) = 5, and there is room.
        func with(_ atHome: Int) -> BaselineView {
            view { pods in for pod in pods.indices { pods[pod].inFlight = home.contains(pod) ? atHome : 2 } }
        }
        #expect(choices(HashBoundedLoadRule(), .prefill, with(3)) == home)
        #expect(choices(HashBoundedLoadRule(), .prefill, with(4)).isDisjoint(with: home))
        #expect(choices(HashBoundedLoadRule(bound: 1.5), .prefill, with(4)) == home)
        // Decode pods: the fewest in flight.
        #expect(choices(HashBoundedLoadRule(), .decode, with(3)).isDisjoint(with: home))
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
        // 185 − 120 = 65 > 64 and 185 > 1.5 × 120 = 180: unbalanced. 185 − 125 = 60 is not above 64, and 195 not above
        // 1.5 × 130 = 195: balanced.
        let loads = { (most: Int, least: Int) in
            self.view { pods in
                pods[0].held = 900
                pods[0].inFlight = most
                pods[1].inFlight = least
                pods[2].inFlight = least + 1
            }
        }
        #expect(choices(SGLangCacheAwareRule(), .prefill, loads(185, 120)) == [1])
        #expect(choices(SGLangCacheAwareRule(), .prefill, loads(185, 125)) == [0])
        #expect(choices(SGLangCacheAwareRule(), .prefill, loads(195, 130)) == [0])
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
        // At 1 it has 0 + 1.0 + 0.8 = 1.8, pod 1 has 3.1 and pod 2 has 2.0 + 1.2 + 0.1 = 3.3.
        #expect(choices(LLMDRule(prefixWeight: 1), .decode, pods) == [2])
        // Equal queues score 1 each: pod 0 has 2.0 + 1.0 + 2.4 = 5.4, pod 1 3.6, pod 2 3.5.
        let equal = view { pods in
            for pod in pods.indices { pods[pod].waiting = 7 }
            pods[0].kvUse = 0.5
            pods[0].held = 800
            pods[1].kvUse = 0.2
            pods[2].kvUse = 0.4
            pods[2].held = 100
        }
        #expect(choices(LLMDRule(), .prefill, equal) == [0])
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
        // Credit 0.5: pod 0 has 30 − 4.5 = 25.5 and 10: 35.5; the others as before, so pod 2 with 31 has least.
        #expect(choices(DynamoRule(overlapCredit: 0.5), .whole, pods) == [2])
        // Credit 2 leaves pod 0 max(30 − 18, 0) = 12 prefill blocks: 22 in all, but pod 2 has 10 to prefill.
        #expect(choices(DynamoRule(overlapCredit: 2), .whole, pods) == [0])
        #expect(choices(DynamoRule(overlapCredit: 2), .prefill, pods) == [2])
        // Nothing waits: credit 2 for 9 of 10 blocks is cut at 0, not −8, so the pod with all free decode blocks ties at 10.
        let idle = view { pods in
            pods[0].held = 900
            pods[1].held = 500
            pods[2].decodingTokens = 1
        }
        #expect(choices(DynamoRule(overlapCredit: 2), .whole, idle) == [0, 1])
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
        // √12 = 3.46: 346 on pod 0, 1,500 on pod 1, 600 · √2 = 849 on pod 2.
        #expect(choices(LMetricRule(batchExponent: 0.5), .prefill, pods) == [0])
        // 100 waiting tokens and 8 in flight on pod 0: 200 · 9 = 1,800, but 200 · 3 = 600 < 849 under the root.
        let queued = view { pods in
            pods[0].held = 900
            pods[0].pendingTokens = 100
            pods[0].inFlight = 8
            pods[1].pendingTokens = 500
            pods[2].held = 400
            pods[2].inFlight = 1
        }
        #expect(choices(LMetricRule(), .prefill, queued) == [2])
        #expect(choices(LMetricRule(batchExponent: 0.5), .prefill, queued) == [0])
        #expect(choices(LMetricRule(), .decode, pods) == [1])
    }

    @Test func sweepsAreAsStated() {
        func sets(_ base: PolicyName.Base) -> [[String: String]] { PolicyCatalog.sweep(of: base).map(\.parameters) }
        let llmd = ["always", "16", "512", "2048", "8192"].flatMap { tokens in
            ["1.0", "3.0", "10.0"].map { weight in
                ["queue_weight": "2.0", "kv_weight": "2.0", "prefix_weight": weight, "non_cached_tokens": tokens]
            }
        }
        #expect(sets(.llmD) == llmd)
        #expect(sets(.lmetric) == ["0.0", "0.5", "1.0"].map { ["batch_exponent": $0] })
        let scales = ["0.5", "1.0", "2.0"]
        let dynamo = scales.flatMap { a in scales.map { ["prefill_load_scale": a, "overlap_score_credit": $0] } }
        #expect(sets(.dynamo) == dynamo)
        let sglang = ["0.1", "0.3", "0.5"].flatMap { threshold in
            ["4", "16", "64"].map { ["cache_threshold": threshold, "balance_abs": $0, "balance_rel": "1.5"] }
        }
        #expect(sets(.sglangCacheAware) == sglang)
        #expect(sets(.hashBoundedLoad) == ["1.1", "1.25", "1.5", "2.0"].map { ["bound": $0] })
        // The rule as published is among the settings.
        for base in PolicyName.Base.allCases where !base.isOurs {
            #expect(sets(base).contains(PolicyCatalog.standard(base).parameters))
        }
    }
}
