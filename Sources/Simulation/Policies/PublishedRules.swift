// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import PrefixIndex
import Router

#if canImport(Glibc)
    import Glibc
#else
    import Darwin
#endif

/// llm-d's scheduler with its documented P/D profiles: Σ weight · score, the highest score wins, equals by draw.
///
///     queue  = (max − waiting) / (max − min), 1 where all are equal
///     kv     = 1 − KV use
///     prefix = matched blocks / blocks of the prompt
///
/// The decode profile runs first. The prefill profile follows unless the prompt's tokens that the decode pod lacks are
/// fewer than `nonCachedTokens`; 0 = always disaggregate.
package struct LLMDRule: BaselineRule {
    package var queueWeight = 2.0
    package var kvWeight = 2.0
    package var prefixWeight = 3.0
    package var nonCachedTokens = 0

    package init(prefixWeight: Double = 3, nonCachedTokens: Int = 0) {
        self.prefixWeight = prefixWeight
        self.nonCachedTokens = nonCachedTokens
    }

    package var choosesDecodeFirst: Bool { true }

    package var parameters: [String: String] {
        [
            "queue_weight": "\(queueWeight)", "kv_weight": "\(kvWeight)", "prefix_weight": "\(prefixWeight)",
            "non_cached_tokens": nonCachedTokens == 0 ? "always" : "\(nonCachedTokens)",
        ]
    }

    package func disaggregates(_ view: BaselineView, decode: Int) -> Bool {
        nonCachedTokens == 0 || view.uncached(decode) >= nonCachedTokens
    }

    package mutating func choose(
        _ phase: BaselinePhase,
        among candidates: [Int],
        _ view: BaselineView,
        _ draw: inout RandomStream
    ) -> Int {
        let waiting = candidates.map { view.pods[$0].waiting }
        let (least, most) = (waiting.min() ?? 0, waiting.max() ?? 0)
        let size = max(view.request.prefix.tokensPerBlock, 1)
        let blocks = max((Double(view.request.promptTokens) / size).rounded(.down), 1)
        return leastCost(candidates, &draw) { pod in
            let queue = most == least ? 1 : Double(most - view.pods[pod].waiting) / Double(most - least)
            let matched = (Double(view.pods[pod].held) / size).rounded(.down)
            let score = queueWeight * queue + kvWeight * (1 - view.pods[pod].kvUse) + prefixWeight * matched / blocks
            return -score
        }
    }
}

/// NVIDIA Dynamo's KV router, its linear cost at temperature 0.
///
///     prefill blocks = active prefill blocks + blocks of the prompt − credit · matched blocks, at least 0
///     cost           = scale · prefill blocks + active decode blocks + blocks of the request
///
/// Prefill workers count prefill blocks only; decode workers count no prefill and no overlap.
package struct DynamoRule: BaselineRule {
    package var prefillScale: Double
    package var overlapCredit: Double

    package init(prefillScale: Double = 1, overlapCredit: Double = 1) {
        self.prefillScale = prefillScale
        self.overlapCredit = overlapCredit
    }

    package var parameters: [String: String] {
        ["prefill_load_scale": "\(prefillScale)", "overlap_score_credit": "\(overlapCredit)"]
    }

    package mutating func choose(
        _ phase: BaselinePhase,
        among candidates: [Int],
        _ view: BaselineView,
        _ draw: inout RandomStream
    ) -> Int {
        leastCost(candidates, &draw) { pod in
            let own = view.blocks(view.request.promptTokens)
            let raw = view.blocks(view.pods[pod].pendingTokens) + own
            let prefill = max(raw - overlapCredit * view.blocks(view.pods[pod].held), 0)
            let decode = view.blocks(view.pods[pod].decodingTokens) + own
            return switch phase {
            case .prefill: prefillScale * prefill
            case .decode: decode
            case .whole: prefillScale * prefill + decode
            }
        }
    }
}

/// LMetric (arXiv 2603.15202): the least product of the prompt tokens to compute, queued ones included, and the batch
/// with the request in it. Where pods only prefill, the batch is the prompts there; where they only decode, no prompt
/// tokens are to be computed and the least batch wins.
package struct LMetricRule: BaselineRule {
    /// Exponent of the batch; 1 is the paper's product.
    package var batchExponent: Double

    package init(batchExponent: Double = 1) { self.batchExponent = batchExponent }

    package var parameters: [String: String] { ["batch_exponent": "\(batchExponent)"] }

    package mutating func choose(
        _ phase: BaselinePhase,
        among candidates: [Int],
        _ view: BaselineView,
        _ draw: inout RandomStream
    ) -> Int {
        leastCost(candidates, &draw) { pod in
            let batch = Double(view.pods[pod].inFlight + 1)
            guard phase != .decode else { return batch }
            let tokens = Double(view.pods[pod].pendingTokens + view.uncached(pod))
            return tokens * pow(batch, batchExponent)
        }
    }
}
