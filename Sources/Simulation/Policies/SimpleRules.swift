// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import PrefixIndex
import Router

/// Each pod with equal chance.
package struct RandomRule: BaselineRule {
    package init() {}

    package mutating func choose(
        _ phase: BaselinePhase,
        among candidates: [Int],
        _ view: BaselineView,
        _ draw: inout RandomStream
    ) -> Int {
        candidates[Int(draw.next() % UInt64(candidates.count))]
    }
}

/// Each pod in turn, per phase.
package struct RoundRobinRule: BaselineRule {
    private var turns: [BaselinePhase: Int] = [:]

    package init() {}

    package mutating func choose(
        _ phase: BaselinePhase,
        among candidates: [Int],
        _ view: BaselineView,
        _ draw: inout RandomStream
    ) -> Int {
        let turn = turns[phase, default: 0]
        turns[phase] = turn + 1
        return candidates[turn % candidates.count]
    }
}

/// The pod with the fewest requests in flight from this picker, as Envoy's LEAST_REQUEST with a full scan.
package struct LeastRequestRule: BaselineRule {
    package init() {}

    package mutating func choose(
        _ phase: BaselinePhase,
        among candidates: [Int],
        _ view: BaselineView,
        _ draw: inout RandomStream
    ) -> Int {
        leastCost(candidates, &draw) { Double(view.pods[$0].inFlight) }
    }
}

/// Consistent hashing with bounded loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018) on the prompt's second block: the
/// first is often the same for all. Pods are walked in order of rendezvous hashing until one has less than `bound` times
/// its fair share of what is in flight. Decode pods by least requests.
package struct HashBoundedLoadRule: BaselineRule {
    /// The paper's c: how far above the mean a pod may go.
    package var bound: Double

    package init(bound: Double = 1.25) { self.bound = bound }

    package var parameters: [String: String] { ["bound": "\(bound)"] }

    package mutating func choose(
        _ phase: BaselinePhase,
        among candidates: [Int],
        _ view: BaselineView,
        _ draw: inout RandomStream
    ) -> Int {
        guard phase != .decode else { return leastCost(candidates, &draw) { Double(view.pods[$0].inFlight) } }
        let hashes = view.request.prefix.hashes
        let key = hashes.count > 1 ? hashes[1] : hashes.first ?? view.request.id.rawValue
        let total = candidates.reduce(0) { $0 + view.pods[$1].inFlight } + 1
        let capacity = (bound * Double(total) / Double(candidates.count)).rounded(.up)
        let walk = candidates.map { pod -> (UInt64, Int) in
            var mix = RandomStream(seed: key ^ UInt64(view.pods[pod].endpoint.id.rawValue) &* 0x9E37_79B9_7F4A_7C15)
            return (mix.next(), pod)
        }.sorted { $0 > $1 }
        return walk.first { Double(view.pods[$0.1].inFlight) < capacity }?.1 ?? walk[0].1
    }
}

/// SGLang's gateway, `cache_aware`: the least loaded worker while loads are unbalanced; else the best match where enough
/// of the prompt matches, else the least loaded one.
///
///     unbalanced = max − min > absolute and max > relative · min        (requests in flight from this gateway)
package struct SGLangCacheAwareRule: BaselineRule {
    package var absolute = 64
    package var relative = 1.5
    package var threshold = 0.3

    package init(threshold: Double = 0.3, absolute: Int = 64) {
        self.threshold = threshold
        self.absolute = absolute
    }

    package var parameters: [String: String] {
        ["balance_abs": "\(absolute)", "balance_rel": "\(relative)", "cache_threshold": "\(threshold)"]
    }

    package mutating func choose(
        _ phase: BaselinePhase,
        among candidates: [Int],
        _ view: BaselineView,
        _ draw: inout RandomStream
    ) -> Int {
        let loads = candidates.map { view.pods[$0].inFlight }
        let (least, most) = (loads.min() ?? 0, loads.max() ?? 0)
        let unbalanced = most - least > absolute && Double(most) > relative * Double(least)
        let best = candidates.max { (view.pods[$0].held, $1) < (view.pods[$1].held, $0) } ?? candidates[0]
        let match = Double(view.pods[best].held) / Double(max(view.request.promptTokens, 1))
        if !unbalanced, phase != .decode, match > threshold { return best }
        return leastCost(candidates, &draw) { Double(view.pods[$0].inFlight) }
    }
}
