// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// Finds the cheapest candidate: every pair, every local prefill, every pod of both roles.
///
/// A pair's cost is the prefill pod's part + the decode pod's part + the exposed transfer and the risk of missing the
/// service level, which need both. The search is exact, and usually looks at few pairs: the last two are never
/// negative, and P(miss) of a pair is never below either pod's own, so
///
///     cost(p, d) ≥ bound(p) + bound(d) + price of a miss × max(miss(p), miss(d)),
///
/// and the draw, which is a mean of the two pods' shares, only raises it by a known factor. A row p whose bound with
/// the least decode part exceeds the best candidate known, or a pair whose bound does, cannot win. The property test
/// compares with `ranked`, which prices everything.
package struct DecisionSearch: Sendable {
    private var prefillParts: [PrefillPart] = []
    private var decodeParts: [DecodePart] = []

    package init() {}

    /// A candidate by indices, cheap to keep while searching.
    private struct Best {
        var total = Double.infinity
        var order = Int.max
        var prefill: PrefillPart?
        var decode = 0
        var isLocal = true
        var terms: CostTerms?

        @inline(__always)
        func loses(to other: Double, order otherOrder: Int) -> Bool {
            other < total || (other == total && otherOrder < order)
        }
    }

    /// - Returns: the cheapest eligible candidate, or nil when there is none. A decode pod that would leave its TPOT
    ///   bound by computing the prompt is taken only where nothing else is left.
    package mutating func best(
        for request: RequestFacts,
        in frame: DecisionFrame,
        dials: Dials,
        settings: CostSettings,
        draw: UInt64
    ) -> Candidate? {
        let formula = CostFormula(request: request, dials: dials, settings: settings, draw: draw)
        prepare(formula, frame)
        var best = Best()
        locals(formula, frame, guarded: true, into: &best)
        pairs(formula, frame, into: &best)
        if best.prefill == nil { locals(formula, frame, guarded: false, into: &best) }
        guard let part = best.prefill, let terms = best.terms else { return nil }
        return candidate(part, best.decode, isLocal: best.isLocal, terms, total: best.total, in: frame)
    }

    private mutating func prepare(_ formula: CostFormula, _ frame: DecisionFrame) {
        prefillParts.removeAll(keepingCapacity: true)
        decodeParts.removeAll(keepingCapacity: true)
        var leastMissing = Double.infinity
        for pod in frame.decodes {
            let part = formula.decodePart(pod: pod, frame.states[pod], held: frame.held[pod])
            leastMissing = min(leastMissing, part.missingTokens)
            decodeParts.append(part)
        }
        let transfer = leastMissing > 0 ? frame.links.leastFixedCost : 0
        let peer = frame.peer
        for pod in frame.prefills {
            prefillParts.append(
                formula.prefillPart(
                    pod: pod,
                    frame.states[pod],
                    held: frame.held[pod],
                    peer: frame.source(peer, for: pod),
                    leastTransfer: transfer
                )
            )
        }
    }

    private func locals(_ formula: CostFormula, _ frame: DecisionFrame, guarded: Bool, into best: inout Best) {
        let peer = frame.peer
        for j in decodeParts.indices {
            let pod = decodeParts[j].pod
            let part = formula.localPart(
                pod: pod,
                frame.states[pod],
                held: frame.held[pod],
                peer: frame.source(peer, for: pod)
            )
            if guarded, frame.states[pod].role == .decode,
                !formula.keepsGuard(part, decodeParts[j], frame.states[pod])
            {
                continue
            }
            let terms = formula.local(part, decodeParts[j], frame.states[pod])
            if let limit = formula.request.priceLimit, terms.busy > limit { continue }
            let total = formula.drawn(terms, part.share)
            guard best.loses(to: total, order: j) else { continue }
            best = Best(total: total, order: j, prefill: part, decode: j, isLocal: true, terms: terms)
        }
    }

    private func pairs(_ formula: CostFormula, _ frame: DecisionFrame, into best: inout Best) {
        guard !prefillParts.isEmpty, !decodeParts.isEmpty else { return }
        var leastDecode = Double.infinity
        var leastMiss = 1.0
        var leastShare = 1.0
        for part in decodeParts {
            leastDecode = min(leastDecode, part.bound)
            leastMiss = min(leastMiss, part.tpotMiss)
            leastShare = min(leastShare, part.share)
        }
        let floor = RowFloor(decode: leastDecode, miss: leastMiss, share: leastShare)
        // The most promising row first: its best pair is what the others are pruned against.
        var first = 0
        var least = Double.infinity
        for i in prefillParts.indices {
            let bound = formula.rowBound(prefillParts[i], floor)
            if bound < least {
                least = bound
                first = i
            }
        }
        row(first, formula, frame, into: &best)
        for i in prefillParts.indices where i != first {
            guard formula.rowBound(prefillParts[i], floor) <= best.total else { continue }
            row(i, formula, frame, into: &best)
        }
    }

    private func row(_ i: Int, _ formula: CostFormula, _ frame: DecisionFrame, into best: inout Best) {
        let p = prefillParts[i]
        for j in decodeParts.indices {
            let bound = formula.pairBound(p, decodeParts[j])
            guard bound <= best.total, frame.canPair(p.pod, decodeParts[j].pod) else { continue }
            let link = frame.links[frame.states[p.pod].kvClass, frame.states[decodeParts[j].pod].kvClass]
            guard link.isAllowed else { continue }
            let terms = formula.pair(
                p,
                frame.states[p.pod],
                decodeParts[j],
                frame.states[decodeParts[j].pod],
                link
            )
            if let limit = formula.request.priceLimit, terms.busy > limit { continue }
            let total = formula.drawn(terms, (p.share + decodeParts[j].share) / 2)
            let order = decodeParts.count &* (i &+ 1) &+ j
            guard best.loses(to: total, order: order) else { continue }
            best = Best(total: total, order: order, prefill: p, decode: j, isLocal: false, terms: terms)
        }
    }

    private func candidate(
        _ part: PrefillPart,
        _ decode: Int,
        isLocal: Bool,
        _ terms: CostTerms,
        total: Double,
        in frame: DecisionFrame,
        ineligible: Ineligibility? = nil
    ) -> Candidate {
        let destination = frame.states[decodeParts[decode].pod]
        let placement: Placement =
            if !isLocal {
                .pair(prefill: frame.states[part.pod].id, decode: destination.id)
            } else if destination.role == .both {
                .both(destination.id)
            } else {
                .local(destination.id)
            }
        return Candidate(
            placement: placement,
            pullFrom: part.pullFrom,
            cachedTokens: part.cachedTokens,
            terms: terms,
            drawnTotal: total,
            ineligible: ineligible
        )
    }

    /// Prices every candidate, the ineligible ones with their reason after the eligible, each group by drawn cost.
    /// For explanations and tests: pairs × 200 bytes.
    package mutating func ranked(
        for request: RequestFacts,
        in frame: DecisionFrame,
        dials: Dials,
        settings: CostSettings,
        draw: UInt64
    ) -> [Candidate] {
        let formula = CostFormula(request: request, dials: dials, settings: settings, draw: draw)
        prepare(formula, frame)
        var all: [Candidate] = []
        let peer = frame.peer
        for j in decodeParts.indices {
            let state = frame.states[decodeParts[j].pod]
            let part = formula.localPart(
                pod: decodeParts[j].pod,
                state,
                held: frame.held[decodeParts[j].pod],
                peer: frame.source(peer, for: decodeParts[j].pod)
            )
            let terms = formula.local(part, decodeParts[j], state)
            let fails = state.role == .decode && !formula.keepsGuard(part, decodeParts[j], state)
            let reason: Ineligibility? = formula.isTooDear(terms) ? .overPrice : fails ? .tpotGuard : nil
            let total = formula.drawn(terms, part.share)
            all.append(candidate(part, j, isLocal: true, terms, total: total, in: frame, ineligible: reason))
        }
        for p in prefillParts {
            for j in decodeParts.indices where frame.canPair(p.pod, decodeParts[j].pod) {
                let ps = frame.states[p.pod]
                let ds = frame.states[decodeParts[j].pod]
                let link = frame.links[ps.kvClass, ds.kvClass]
                let terms = formula.pair(p, ps, decodeParts[j], ds, link)
                let reason: Ineligibility? =
                    !link.isAllowed ? .kvIncompatible : formula.isTooDear(terms) ? .overPrice : nil
                let total = formula.drawn(terms, (p.share + decodeParts[j].share) / 2)
                all.append(candidate(p, j, isLocal: false, terms, total: total, in: frame, ineligible: reason))
            }
        }
        if !all.contains(where: { $0.ineligible == nil }) {
            for i in all.indices where all[i].ineligible == .tpotGuard { all[i].ineligible = nil }
        }
        return all.enumerated().sorted { a, b in
            let (x, y) = (a.element, b.element)
            if (x.ineligible == nil) != (y.ineligible == nil) { return x.ineligible == nil }
            return x.drawnTotal != y.drawnTotal ? x.drawnTotal < y.drawnTotal : a.offset < b.offset
        }.map(\.element)
    }
}

/// What every decode pod costs at least.
struct RowFloor {
    var decode: Double
    var miss: Double
    var share: Double
}

extension CostFormula {
    /// Rounding may put a sum of parts an ulp above the same sum taken in another order.
    private static var slack: Double { 1 - 1e-12 }

    @inline(__always)
    func rowBound(_ p: PrefillPart, _ floor: RowFloor) -> Double {
        (p.bound + floor.decode + dials.sloMissPrice.rawValue * max(p.missBound, floor.miss))
            * (1 + settings.tieBand * (p.share + floor.share) / 2) * Self.slack
    }

    @inline(__always)
    func pairBound(_ p: PrefillPart, _ d: DecodePart) -> Double {
        (p.bound + d.bound + dials.sloMissPrice.rawValue * max(p.missBound, d.tpotMiss))
            * (1 + settings.tieBand * (p.share + d.share) / 2) * Self.slack
    }

    @inline(__always)
    func drawn(_ terms: CostTerms, _ share: Double) -> Double {
        terms.total.rawValue * (1 + settings.tieBand * share)
    }

    func isTooDear(_ terms: CostTerms) -> Bool { request.priceLimit.map { terms.busy > $0 } ?? false }
}

extension DecisionFrame {
    /// The pod that holds most of the prompt among those in play.
    var peer: Int? {
        let p = bestHolder(among: prefills)
        guard let d = bestHolder(among: decodes) else { return p }
        guard let p else { return d }
        return held[d] > held[p] ? d : p
    }

    /// `peer` as `pod` sees it, where it can fetch KV from there.
    @inline(__always)
    func source(_ peer: Int?, for pod: Int) -> Peer? {
        guard let peer, states[pod].canPull else { return nil }
        let link = links[states[peer].kvClass, states[pod].kvClass]
        guard link.isAllowed else { return nil }
        return Peer(id: states[peer].id, profile: states[peer].profile, held: held[peer], link: link)
    }
}
