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
    private var rows: [PrefillRow] = []
    private var columns: [DecodeColumn] = []
    /// What each costs at least as a local candidate.
    private var bounds: [Double] = []
    /// What every decode pod cost at least in the last search.
    private(set) var floor = DecodeFloor()

    package init() {}

    /// A candidate by indices, cheap to keep while searching.
    private struct Best {
        var total = Double.infinity
        var order = Int.max
        /// Index of the row; nil for a local candidate.
        var row: Int?
        var column = 0
        var isFound: Bool { order != .max }

        /// The cheaper one wins; of equals, the first in the order of `ranked`.
        @inline(__always)
        mutating func take(_ other: Double, order otherOrder: Int, row: Int?, column: Int) {
            guard other < total || (other == total && otherOrder < order) else { return }
            self = Best(total: other, order: otherOrder, row: row, column: column)
        }
    }

    /// What the search is told. The frame is passed beside it: a copy would cost as much as pricing a pod.
    private struct Problem {
        let formula: CostFormula
        let peer: Peer?

        init(_ formula: CostFormula, _ frame: DecisionFrame) {
            self.formula = formula
            peer = frame.peer
        }

        @inline(__always)
        func prefillPart(_ pod: Int, _ frame: DecisionFrame) -> PrefillPart {
            var part =
                if let stored = Self.stored(pod, frame) {
                    loaded(pod, stored, isLocal: false, frame)
                } else {
                    formula.prefillPart(
                        pod: pod,
                        frame.states[pod],
                        held: frame.held[pod],
                        peer: peer,
                        links: frame.links
                    )
                }
            // A pair's prefill pod needs the adapter too; of a local prefill the decode part tells.
            part.overhead += frame.adapterDelay(pod)
            return part
        }

        @inline(__always)
        func localPart(_ pod: Int, _ frame: DecisionFrame) -> PrefillPart {
            if let stored = Self.stored(pod, frame) { return loaded(pod, stored, isLocal: true, frame) }
            return formula.localPart(
                pod: pod,
                frame.states[pod],
                held: frame.held[pod],
                peer: peer,
                links: frame.links
            )
        }

        @inline(__always)
        private static func stored(_ pod: Int, _ frame: DecisionFrame) -> StoredPrefix? {
            frame.stored.isEmpty ? nil : frame.stored[pod]
        }

        /// A prompt whose start comes from a shared store: held, for the price of the transfer.
        @inline(never)
        private func loaded(_ pod: Int, _ stored: StoredPrefix, isLocal: Bool, _ frame: DecisionFrame) -> PrefillPart {
            let (state, links) = (frame.states[pod], frame.links)
            var part =
                isLocal
                ? formula.localPart(pod: pod, state, held: stored.tokens, peer: nil, links: links)
                : formula.prefillPart(pod: pod, state, held: stored.tokens, peer: nil, links: links)
            part.pull = stored.load(missing: part.cachedTokens - formula.usable(frame.held[pod]), at: state)
            part.pullFrom = stored.store
            return part
        }

        /// What a local candidate costs at least, the draw included.
        @inline(__always)
        func localBound(_ column: DecodeColumn, _ pod: Int, _ frame: DecisionFrame) -> Double {
            // A loaded prefix spares tokens in a way that the usual bound does not follow.
            guard Self.stored(pod, frame) == nil else {
                return (column.bound - formula.dials.valueOfTime * column.step) * CostFormula.slack
            }
            return formula.localBound(column, frame.states[pod], frame.paces[pod])
        }

        @inline(__always)
        func decodePart(_ pod: Int, _ frame: DecisionFrame) -> DecodePart {
            var part = formula.decodePart(pod: pod, frame.states[pod], frame.paces[pod], held: frame.held[pod])
            part.admission += frame.adapterDelay(pod)
            return part
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
        let formula = CostFormula(
            request: request,
            dials: dials,
            settings: settings,
            surroundings: frame.surroundings,
            draw: draw
        )
        let problem = Problem(formula, frame)
        prepare(problem, frame)
        var best = Best()
        pairs(problem, frame, into: &best)
        locals(problem, frame, guarded: true, into: &best)
        if !best.isFound { locals(problem, frame, guarded: false, into: &best) }
        guard best.isFound else { return nil }
        return candidate(best, problem, frame)
    }

    private mutating func prepare(_ problem: Problem, _ frame: DecisionFrame) {
        rows.removeAll(keepingCapacity: true)
        columns.removeAll(keepingCapacity: true)
        let links = frame.linkBound
        var floor = DecodeFloor()
        for pod in frame.decodes {
            let part = problem.decodePart(pod, frame)
            let column = problem.formula.column(part, links: links)
            floor.bound = min(floor.bound, column.bound)
            floor.withTransfer = min(floor.withTransfer, column.bound + column.transferBound)
            floor.miss = min(floor.miss, column.miss)
            floor.share = min(floor.share, column.share)
            floor.delay = min(floor.delay, part.admission + part.step)
            floor.missingTokens = min(floor.missingTokens, part.missingTokens)
            floor.network = max(floor.network, part.network)
            columns.append(column)
        }
        for pod in frame.prefills {
            rows.append(problem.formula.row(problem.prefillPart(pod, frame), floor: floor, links: links))
        }
        self.floor = floor
    }

    private mutating func locals(_ problem: Problem, _ frame: DecisionFrame, guarded: Bool, into best: inout Best) {
        // The most promising one first: the others are pruned against it.
        bounds.removeAll(keepingCapacity: true)
        var first = 0
        for j in columns.indices {
            bounds.append(problem.localBound(columns[j], frame.decodes[j], frame))
            if bounds[j] < bounds[first] { first = j }
        }
        if !columns.isEmpty { priceLocal(first, problem, frame, guarded: guarded, into: &best) }
        for j in columns.indices where j != first && bounds[j] <= best.total {
            priceLocal(j, problem, frame, guarded: guarded, into: &best)
        }
    }

    private func priceLocal(
        _ j: Int,
        _ problem: Problem,
        _ frame: DecisionFrame,
        guarded: Bool,
        into best: inout Best
    ) {
        let formula = problem.formula
        let pod = frame.decodes[j]
        let part = problem.localPart(pod, frame)
        let decode = problem.decodePart(pod, frame)
        if guarded, frame.states[pod].role == .decode,
            !formula.keepsGuard(part, decode, localShare: frame.states[pod].localShare)
        {
            return
        }
        guard !formula.isTooDear(part, decode) else { return }
        let cost = formula.local(part, decode, batch: frame.states[pod].batch)
        best.take(formula.drawn(cost.total, part.share), order: j, row: nil, column: j)
    }

    private func pairs(_ problem: Problem, _ frame: DecisionFrame, into best: inout Best) {
        guard !rows.isEmpty, !columns.isEmpty else { return }
        // The most promising pair of the most promising row first: all others are pruned against it.
        var first = 0
        for i in rows.indices where rows[i].least < rows[first].least { first = i }
        let bounds = problem.formula.bounds(rows[first])
        var column = 0
        var least = Double.infinity
        for j in columns.indices {
            let bound = bounds.pair(columns[j])
            if bound < least {
                least = bound
                column = j
            }
        }
        price(first, column, problem, frame, into: &best)
        for i in rows.indices where rows[i].least <= best.total {
            let bounds = problem.formula.bounds(rows[i])
            for j in columns.indices where bounds.pair(columns[j]) <= best.total {
                price(i, j, problem, frame, into: &best)
            }
        }
    }

    @inline(never)
    private func price(_ i: Int, _ j: Int, _ problem: Problem, _ frame: DecisionFrame, into best: inout Best) {
        let p = problem.prefillPart(frame.prefills[i], frame)
        let d = problem.decodePart(frame.decodes[j], frame)
        guard p.mayPair, d.mayPair, d.pod != p.pod else { return }
        let link = frame.link(p, d)
        guard link.isAllowed, !problem.formula.isTooDear(p, d) else { return }
        let cost = problem.formula.pair(p, d, link)
        let total = problem.formula.drawn(cost.total, (p.share + d.share) / 2)
        best.take(total, order: columns.count &* (i &+ 1) &+ j, row: i, column: j)
    }

    /// Works the winner out again, with all its terms.
    private func candidate(_ best: Best, _ problem: Problem, _ frame: DecisionFrame) -> Candidate {
        let formula = problem.formula
        let pod = frame.decodes[best.column]
        let decode = problem.decodePart(pod, frame)
        guard let row = best.row else {
            let part = problem.localPart(pod, frame)
            let cost = formula.local(part, decode, batch: frame.states[pod].batch)
            let terms = formula.terms(part, decode, cost)
            return candidate(part, decode, isLocal: true, terms, total: best.total, in: frame)
        }
        let part = problem.prefillPart(frame.prefills[row], frame)
        let cost = formula.pair(part, decode, frame.link(part, decode))
        let terms = formula.terms(part, decode, cost)
        return candidate(part, decode, isLocal: false, terms, total: best.total, in: frame)
    }

    private func candidate(
        _ part: PrefillPart,
        _ decode: DecodePart,
        isLocal: Bool,
        _ terms: CostTerms,
        total: Double,
        in frame: DecisionFrame,
        ineligible: Ineligibility? = nil
    ) -> Candidate {
        let destination = frame.states[decode.pod]
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
        let formula = CostFormula(
            request: request,
            dials: dials,
            settings: settings,
            surroundings: frame.surroundings,
            draw: draw
        )
        let problem = Problem(formula, frame)
        let decodes = frame.decodes.map { problem.decodePart($0, frame) }
        var all = rankedLocals(problem, frame, decodes)
        for p in frame.prefills.map({ problem.prefillPart($0, frame) }) where p.mayPair {
            for d in decodes where d.mayPair && d.pod != p.pod {
                let link = frame.link(p, d)
                let cost = formula.pair(p, d, link)
                let isDear = formula.isTooDear(p, d)
                let reason: Ineligibility? = !link.isAllowed ? .kvIncompatible : isDear ? .overPrice : nil
                let total = formula.drawn(cost.total, (p.share + d.share) / 2)
                let terms = formula.terms(p, d, cost)
                all.append(candidate(p, d, isLocal: false, terms, total: total, in: frame, ineligible: reason))
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

    private func rankedLocals(_ problem: Problem, _ frame: DecisionFrame, _ decodes: [DecodePart]) -> [Candidate] {
        let formula = problem.formula
        return decodes.map { decode in
            let state = frame.states[decode.pod]
            let part = problem.localPart(decode.pod, frame)
            let cost = formula.local(part, decode, batch: state.batch)
            let fails = state.role == .decode && !formula.keepsGuard(part, decode, localShare: state.localShare)
            return candidate(
                part,
                decode,
                isLocal: true,
                formula.terms(part, decode, cost),
                total: formula.drawn(cost.total, part.share),
                in: frame,
                ineligible: formula.isTooDear(part, decode) ? .overPrice : fails ? .tpotGuard : nil
            )
        }
    }
}

extension CostFormula {
    /// Rounding may put a sum of parts an ulp above the same sum taken in another order.
    static var slack: Double { 1 - 1e-12 }

    @inline(__always)
    func rowBound(_ row: PrefillRow, _ floor: DecodeFloor) -> Double {
        (row.bound + max(row.transferBound + floor.bound, floor.withTransfer)
            + dials.sloMissPrice.rawValue * max(row.miss, floor.miss))
            * (1 + settings.tieBand * (row.share + floor.share) / 2) * Self.slack
    }

    /// What the bounds of a row's pairs share.
    @inline(__always)
    func bounds(_ row: PrefillRow) -> PairBounds {
        PairBounds(
            bound: row.bound,
            transfer: row.transferBound,
            miss: row.miss,
            missPrice: dials.sloMissPrice.rawValue,
            factor: (1 + settings.tieBand * row.share / 2) * Self.slack,
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

/// The lower bound of each pair of one row.
struct PairBounds {
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
        guard anyPulls else { return nil }
        let p = bestHolder(among: prefills)
        let d = bestHolder(among: decodes)
        guard let best = p.map({ p in d.map { held[$0] > held[p] ? $0 : p } ?? p }) ?? d else { return nil }
        return Peer(
            id: states[best].id,
            held: held[best],
            kvClass: states[best].kvClass,
            network: states[best].profile.networkBytesPerSecond,
            kvBytes: states[best].profile.kvBytesPerToken,
            place: states[best].place
        )
    }
}
