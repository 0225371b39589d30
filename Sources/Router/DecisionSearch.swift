// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// Finds the cheapest candidate: every pair, every local prefill, every pod of both roles.
///
/// A pair's cost is the prefill pod's part + the decode pod's part + the exposed transfer and the risk of missing the
/// service level, which need both. The search is exact, and usually prices few pairs. A transfer takes no less than
/// either pod's own network allows, and P(miss) of a pair is never below either pod's own, so
///
///     cost(p, d) ≥ bound(p) + bound(d) + max(transfer(p), transfer(d)) + price of a miss × max(miss(p), miss(d)),
///
/// and the draw, which is a mean of the two pods' shares, only raises it by a known factor. A row p whose bound with
/// the least of everything that decode pods add exceeds the best candidate known, or a pair whose bound does, cannot
/// win. The property test compares with `ranked`, which prices everything.
package struct DecisionSearch: Sendable {
    private var prefillParts: [PrefillPart] = []
    private var decodeParts: [DecodePart] = []
    private var columns: [DecodeColumn] = []
    private var rowBounds: [Double] = []
    private var floor = DecodeFloor()

    package init() {}

    /// A candidate by indices, cheap to keep while searching.
    private struct Best {
        var total = Double.infinity
        var order = Int.max
        var prefill = PrefillPart()
        var decode = 0
        var isLocal = true
        var cost: CandidateCost?

        /// The cheaper one wins; of equals, the first in the order of `ranked`.
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
        let peer = frame.peer
        prepare(formula, frame, peer)
        var best = Best()
        pairs(formula, frame, into: &best)
        locals(formula, frame, peer, guarded: true, into: &best)
        if best.cost == nil { locals(formula, frame, peer, guarded: false, into: &best) }
        guard let cost = best.cost else { return nil }
        return candidate(
            best.prefill,
            best.decode,
            isLocal: best.isLocal,
            formula.terms(best.prefill, decodeParts[best.decode], cost),
            total: best.total,
            in: frame
        )
    }

    private mutating func prepare(_ formula: CostFormula, _ frame: DecisionFrame, _ peer: Peer?) {
        prefillParts.removeAll(keepingCapacity: true)
        decodeParts.removeAll(keepingCapacity: true)
        columns.removeAll(keepingCapacity: true)
        var floor = DecodeFloor()
        for pod in frame.decodes {
            let part = formula.decodePart(pod: pod, frame.states[pod], frame.paces[pod], held: frame.held[pod])
            let column = formula.column(part, links: frame.links)
            floor.bound = min(floor.bound, column.bound)
            floor.miss = min(floor.miss, column.miss)
            floor.share = min(floor.share, column.share)
            floor.delay = min(floor.delay, part.admission + part.step)
            floor.missingTokens = min(floor.missingTokens, part.missingTokens)
            floor.network = max(floor.network, part.network)
            decodeParts.append(part)
            columns.append(column)
        }
        self.floor = floor
        for pod in frame.prefills {
            var part = formula.prefillPart(
                pod: pod,
                frame.states[pod],
                held: frame.held[pod],
                peer: peer,
                links: frame.links
            )
            formula.setBounds(&part, floor: floor, links: frame.links)
            prefillParts.append(part)
        }
    }

    private func locals(
        _ formula: CostFormula,
        _ frame: DecisionFrame,
        _ peer: Peer?,
        guarded: Bool,
        into best: inout Best
    ) {
        for j in decodeParts.indices {
            let pod = decodeParts[j].pod
            let state = frame.states[pod]
            let bound = formula.localBound(columns[j], decodeParts[j], state, frame.paces[pod])
            guard bound * CostFormula.slack <= best.total else { continue }
            let part = formula.localPart(pod: pod, state, held: frame.held[pod], peer: peer, links: frame.links)
            if guarded, state.role == .decode,
                !formula.keepsGuard(part, decodeParts[j], localShare: state.localShare)
            {
                continue
            }
            let cost = formula.local(part, decodeParts[j], batch: state.batch)
            let total = formula.drawn(cost.total, part.share)
            guard best.loses(to: total, order: j), !formula.isTooDear(part, decodeParts[j]) else { continue }
            best = Best(total: total, order: j, prefill: part, decode: j, isLocal: true, cost: cost)
        }
    }

    private mutating func pairs(_ formula: CostFormula, _ frame: DecisionFrame, into best: inout Best) {
        guard !prefillParts.isEmpty, !columns.isEmpty else { return }
        // The most promising row first: its best pair is what the others are pruned against.
        var first = 0
        var least = Double.infinity
        rowBounds.removeAll(keepingCapacity: true)
        for i in prefillParts.indices {
            let bound = formula.rowBound(prefillParts[i], floor)
            rowBounds.append(bound)
            if bound < least {
                least = bound
                first = i
            }
        }
        firstRow(first, formula, frame, into: &best)
        for i in rowBounds.indices where rowBounds[i] <= best.total && i != first {
            row(i, formula, frame, into: &best)
        }
    }

    /// Within the first row, too, the most promising pair first.
    private func firstRow(_ i: Int, _ formula: CostFormula, _ frame: DecisionFrame, into best: inout Best) {
        var first = 0
        var least = Double.infinity
        for j in columns.indices {
            let bound = formula.pairBound(prefillParts[i], columns[j])
            if bound < least {
                least = bound
                first = j
            }
        }
        price(i, first, formula, frame, into: &best)
        row(i, formula, frame, into: &best)
    }

    private func row(_ i: Int, _ formula: CostFormula, _ frame: DecisionFrame, into best: inout Best) {
        guard prefillParts[i].mayPair else { return }
        let bounds = formula.rowBounds(prefillParts[i])
        for j in columns.indices where bounds.pair(columns[j]) <= best.total {
            price(i, j, formula, frame, into: &best)
        }
    }

    @inline(never)
    private func price(
        _ i: Int,
        _ j: Int,
        _ formula: CostFormula,
        _ frame: DecisionFrame,
        into best: inout Best
    ) {
        let p = prefillParts[i]
        guard p.mayPair, decodeParts[j].mayPair, decodeParts[j].pod != p.pod else { return }
        let link = frame.links[p.kvClass, decodeParts[j].kvClass]
        guard link.isAllowed else { return }
        let cost = formula.pair(p, decodeParts[j], link)
        let total = formula.drawn(cost.total, (p.share + decodeParts[j].share) / 2)
        let order = columns.count &* (i &+ 1) &+ j
        guard best.loses(to: total, order: order), !formula.isTooDear(p, decodeParts[j]) else { return }
        best = Best(total: total, order: order, prefill: p, decode: j, isLocal: false, cost: cost)
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
        let peer = frame.peer
        prepare(formula, frame, peer)
        var all = rankedLocals(formula, frame, peer)
        for p in prefillParts where p.mayPair {
            for j in decodeParts.indices where decodeParts[j].mayPair && decodeParts[j].pod != p.pod {
                let link = frame.links[p.kvClass, decodeParts[j].kvClass]
                let cost = formula.pair(p, decodeParts[j], link)
                let terms = formula.terms(p, decodeParts[j], cost)
                let isDear = formula.isTooDear(p, decodeParts[j])
                let reason: Ineligibility? = !link.isAllowed ? .kvIncompatible : isDear ? .overPrice : nil
                let total = formula.drawn(cost.total, (p.share + decodeParts[j].share) / 2)
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

    private func rankedLocals(_ formula: CostFormula, _ frame: DecisionFrame, _ peer: Peer?) -> [Candidate] {
        decodeParts.indices.map { j in
            let pod = decodeParts[j].pod
            let state = frame.states[pod]
            let part = formula.localPart(pod: pod, state, held: frame.held[pod], peer: peer, links: frame.links)
            let cost = formula.local(part, decodeParts[j], batch: state.batch)
            let fails =
                state.role == .decode && !formula.keepsGuard(part, decodeParts[j], localShare: state.localShare)
            let isDear = formula.isTooDear(part, decodeParts[j])
            return candidate(
                part,
                j,
                isLocal: true,
                formula.terms(part, decodeParts[j], cost),
                total: formula.drawn(cost.total, part.share),
                in: frame,
                ineligible: isDear ? .overPrice : fails ? .tpotGuard : nil
            )
        }
    }
}

extension CostFormula {
    /// Rounding may put a sum of parts an ulp above the same sum taken in another order.
    static var slack: Double { 1 - 1e-12 }

    @inline(__always)
    func rowBound(_ p: PrefillPart, _ floor: DecodeFloor) -> Double {
        (p.bound + p.transferBound + floor.bound + dials.sloMissPrice.rawValue * max(p.missBound, floor.miss))
            * (1 + settings.tieBand * (p.share + floor.share) / 2) * Self.slack
    }

    @inline(__always)
    func pairBound(_ p: PrefillPart, _ d: DecodeColumn) -> Double { rowBounds(p).pair(d) }

    /// What the pairs of one row share of their bounds.
    @inline(__always)
    func rowBounds(_ p: PrefillPart) -> RowBounds {
        RowBounds(
            bound: p.bound,
            transfer: p.transferBound,
            miss: p.missBound,
            missPrice: dials.sloMissPrice.rawValue,
            factor: (1 + settings.tieBand * p.share / 2) * Self.slack,
            perShare: settings.tieBand / 2 * Self.slack
        )
    }

    @inline(__always)
    func drawn(_ total: Double, _ share: Double) -> Double { total * (1 + settings.tieBand * share) }

    @inline(__always)
    func isTooDear(_ p: PrefillPart, _ d: DecodePart) -> Bool {
        request.priceLimit.map { p.busy + d.busy > $0.rawValue } ?? false
    }
}

struct RowBounds {
    var bound: Double
    var transfer: Double
    var miss: Double
    var missPrice: Double
    var factor: Double
    var perShare: Double

    @inline(__always)
    func pair(_ d: DecodeColumn) -> Double {
        (bound + d.bound + max(transfer, d.transferBound) + missPrice * max(miss, d.miss))
            * (factor + perShare * d.share)
    }
}

extension DecisionFrame {
    /// The pod that holds most of the prompt among those in play, where any pod can pull.
    var peer: Peer? {
        let p = bestHolder(among: prefills)
        let d = bestHolder(among: decodes)
        guard let best = p.map({ p in d.map { held[$0] > held[p] ? $0 : p } ?? p }) ?? d else { return nil }
        return Peer(
            id: states[best].id,
            held: held[best],
            kvClass: states[best].kvClass,
            network: states[best].profile.networkBytesPerSecond,
            kvBytes: states[best].profile.kvBytesPerToken
        )
    }
}
