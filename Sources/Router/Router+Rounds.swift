// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// Rounds of the central queue: after each event, who may go now.
extension Router {
    /// Until the next round, when this one left some.
    static let roundGap = Seconds(0.001)

    /// Places what can be placed now, in the order of service.
    mutating func pump(into actions: inout [RouterAction]) {
        guard !queue.isEmpty else {
            if !holds.requests.isEmpty { holds.clear() }
            return
        }
        refreshAll()
        expire(into: &actions)
        findDue()
        let isComplete = placeSome(into: &actions)
        askForWake(isComplete: isComplete, into: &actions)
    }

    /// Marks those among the held that something changed for.
    private mutating func findDue() {
        if holds.open.count != frame.states.count {
            holds.open = [Bool](repeating: false, count: frame.states.count)
            holds.requests.removeAll(keepingCapacity: true)
        }
        let fleetShare = max(Double(frame.states.count) / Double(max(options.queue.pricedPerRound, 1)), 1)
        let review = options.queue.reviewAfter.rawValue * fleetShare
        for index in holds.requests.indices where now.rawValue - holds.requests[index].lookedAt >= review {
            holds.requests[index].isDue = true
        }
        for pod in holds.open.indices {
            let isOpen = isOpen(pod)
            if isOpen, !holds.open[pod] { opened(pod) }
            holds.open[pod] = isOpen
        }
        for index in holds.requests.indices where !holds.requests[index].isDue && canGo(holds.requests[index]) {
            holds.requests[index].isDue = true
        }
    }

    private func canGo(_ hold: Hold) -> Bool {
        holds.open[hold.prefiller]
            && hasRoom(hold.destination, promptTokens: hold.formula.prompt, tpot: hold.tpotLimit)
    }

    private mutating func opened(_ pod: Int) {
        for index in holds.requests.indices where !holds.requests[index].isDue {
            if frame.mayBeCheaper(pod, than: holds.requests[index]) { holds.requests[index].isDue = true }
        }
    }

    /// Looks in the order of service at each request that is not held, and dispatches those whose cheapest candidate is
    /// free. The others are held: a pod that is not free yet will finish them sooner. Ends after as many held ones as the
    /// lookahead says.
    /// - Returns: false when some are left for the next round, so that no round takes long.
    private mutating func placeSome(into actions: inout [RouterAction]) -> Bool {
        guard holds.open.contains(true), hasDecoders else { return true }
        let lookahead = max(options.queue.lookahead, 1)
        var looks = max(options.queue.pricedPerRound / max(frame.states.count, 1), 1)
        var order = order
        queue.first(2 * lookahead, at: now.rawValue, triages: &triages, into: &order)
        defer { self.order = order }
        let isCut = order.count < queue.count
        var ahead = 0.0
        var held = 0
        var placed = 0
        for place in order.indices where held < lookahead {
            let entry = queue.entries[order[place]]
            // It waits for nothing that others could have.
            if triages.setAside(entry), !isSpare(for: queue.requests[order[place]]) { continue }
            if !holds.isHeld(entry.id) {
                guard looks > 0 else { return false }
                looks -= 1
                if placeOrHold(order[place], ahead: ahead, into: &actions) {
                    placed += 1
                    // The last of the queue has taken the place of the one that left.
                    for later in order.indices where order[later] == queue.count { order[later] = order[place] }
                    continue
                }
            }
            held += 1
            ahead += entry.base
        }
        // Others come into view where some left.
        return placed == 0 || held >= lookahead || !isCut
    }

    /// Whether so much of what could serve a request could take a prompt now that one which is set aside delays nobody.
    private mutating func isSpare(for request: InferenceRequest) -> Bool {
        let pool = pool(for: request)
        let open = pool.prefills.count { holds.open[$0] } + pool.decodes.count { holds.open[$0] }
        return Double(open) >= Triage.spareShare * Double(pool.prefills.count + pool.decodes.count)
    }

    /// - Returns: true when it left the queue.
    private mutating func placeOrHold(_ place: Int, ahead: Double, into actions: inout [RouterAction]) -> Bool {
        let entry = queue.entries[place]
        let request = queue.requests[place]
        let line = PlaceInLine(ahead: ahead, others: max((queue.inOrder[entry.scope] ?? 0) - 1, 0))
        switch choose(request, arrivedAt: Instant(entry.arrivedAt), line: line) {
        case .refused(let refusal):
            leave(place)
            refuse(request.id, refusal, into: &actions)
            return true
        case .chosen(let choice):
            if entry.isSheddable, (now + choice.candidate.terms.ttft).rawValue > entry.due {
                leave(place)
                shed(request, reason: "it can no longer meet its service level", into: &actions)
                return true
            }
            let placement = choice.candidate.placement
            guard let pod = index(of: placement.prefiller), let destination = index(of: placement.destination) else {
                return false
            }
            let tpot = choice.facts.serviceLevel.tpot?.rawValue ?? .infinity
            guard isOpen(pod),
                hasRoom(destination, promptTokens: Double(request.promptTokens), tpot: tpot)
            else {
                // The bound of what a pod would cost does not follow what it loads from a shared store.
                if frame.stored.isEmpty { holds.add(hold(choice, at: pod, destination)) }
                return false
            }
            leave(place)
            dispatch(request, choice, into: &actions)
            // That it opens again is news.
            holds.open[pod] = isOpen(pod)
            return true
        }
    }

    private mutating func leave(_ place: Int) { holds.forget(queue.remove(at: place).id) }

    private func hold(_ choice: Choice, at prefiller: Int, _ destination: Int) -> Hold {
        let formula = CostFormula(
            request: choice.facts,
            dials: choice.dials,
            settings: choice.settings,
            surroundings: frame.surroundings,
            draw: choice.draw
        )
        return Hold(
            request: choice.facts.id,
            prefiller: prefiller,
            destination: destination,
            cost: choice.candidate.drawnTotal,
            tpotLimit: formula.tpotLimit,
            lookedAt: now.rawValue,
            formula: formula,
            floor: search.floor,
            peer: frame.peer,
            holdings: holdings
        )
    }
}

extension DecisionFrame {
    /// False when no candidate that computes the prompt on this pod can cost less than the one that the request is held
    /// for: a lower bound of each of its pairs, and its cost as a local prefill, are above.
    func mayBeCheaper(_ pod: Int, than hold: Hold) -> Bool {
        let state = states[pod]
        let formula = hold.formula
        let held = hold.held(by: state.id)
        if state.role != .decode {
            let part = formula.prefillPart(pod: pod, state, held: held, peer: hold.peer, links: links)
            let row = formula.row(part, floor: hold.floor, links: linkBound)
            if part.mayPair, row.least <= hold.cost { return true }
        }
        guard state.role != .prefill else { return false }
        let part = formula.localPart(pod: pod, state, held: held, peer: hold.peer, links: links)
        let decode = formula.decodePart(pod: pod, state, paces[pod], held: held)
        return formula.local(part, decode, batch: state.batch).total <= hold.cost
    }
}
