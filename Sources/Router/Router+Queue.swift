// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// Late binding: requests wait here, not in the pods' queues, until a pod is about to be free.
extension Router {
    /// Sequences that an engine runs at once (vLLM's default): a longer batch would wait in the engine.
    static let maximumSequences = 256.0

    func bindsLate(_ request: InferenceRequest) -> Bool {
        options.binding == .late && monitor.isTrusted
            && !(request.pool.map { options.earlyPools.contains($0) } ?? false)
    }

    /// Puts a request into the queue. - Returns: false when there is no room.
    mutating func enqueue(_ request: InferenceRequest) -> Bool {
        guard queue.hasRoom(for: request) else { return false }
        let level = options.serviceLevel(of: request)
        let least = leastService(of: request)
        let entry = WaitingEntry(
            id: request.id,
            priority: request.priority,
            isSheddable: request.isSheddable,
            arrivedAt: now.rawValue,
            base: least.prefill,
            tail: least.tail,
            due: level.ttft.map { (now + $0).rawValue } ?? .infinity,
            holdUntil: (now + options.queue.maximumHold).rawValue
        )
        queue.add(entry, request)
        meanWork = meanWork == 0 ? least.prefill : meanWork + 0.05 * (least.prefill - meanWork)
        return true
    }

    /// Service on the pod that is fastest for it. The frame must hold the request's candidates.
    private mutating func leastService(of request: InferenceRequest) -> (prefill: Double, tail: Double) {
        let facts = facts(of: request, priceLimit: nil, arrivedAt: now)
        let formula = CostFormula(
            request: facts,
            dials: dials(of: request),
            settings: options.settings,
            surroundings: Surroundings(),
            draw: 0
        )
        var least = Double.infinity
        var tail = 0.0
        for index in frame.prefills.isEmpty ? frame.decodes : frame.prefills {
            let state = frame.states[index]
            let work = formula.prefill(state, cached: formula.usable(frame.held[index]))
            if work < least {
                least = work
                tail = formula.overhead(state)
            }
        }
        return least.isFinite ? (least, tail) : (0, 0)
    }

    /// Backlog below which a pod is given its next prompt: the mean prompt's work, at least two control delays so that it
    /// does not stand idle, at most half a second. In the simulator a third of that cost 3 % of mean TTFT at 1.6 × the
    /// load of Mooncake's trace and 7 % at 2.0 ×: what is known of a pod's end is stale, and it stood idle.
    var openBelow: Double {
        let delay = max(2 * options.queue.controlDelay.rawValue, 0.015)
        return min(max(options.queue.backlogShare * meanWork, delay), max(options.queue.maximumBacklog.rawValue, delay))
    }

    /// Places what can be placed now, in the order of service.
    mutating func pump(into actions: inout [RouterAction]) {
        guard !queue.isEmpty else { return }
        refreshAll()
        expire(into: &actions)
        renewHolds()
        let isComplete = placeSome(into: &actions)
        askForWake(isComplete: isComplete, into: &actions)
    }

    /// Who is held stays held until a pod opens that was not open then, or some time has passed: placing others only
    /// makes pods dearer.
    private mutating func renewHolds() {
        var hasGained = holds.open.count != frame.states.count
        if hasGained { holds.open = [Bool](repeating: false, count: frame.states.count) }
        for pod in holds.open.indices {
            let isOpen = isOpen(pod)
            if isOpen && !holds.open[pod] { hasGained = true }
            holds.open[pod] = isOpen
        }
        if hasGained || now.rawValue - holds.began >= options.queue.reviewAfter.rawValue {
            holds.began = now.rawValue
            holds.requests.removeAll(keepingCapacity: true)
        }
    }

    /// Refuses or places what may wait no longer, and refuses what waits in vain.
    private mutating func expire(into actions: inout [RouterAction]) {
        let nearest = leastBacklog
        let time = now.rawValue
        let lateIsOff = !monitor.isTrusted || options.binding == .early
        var index = 0
        while index < queue.count {
            let entry = queue.entries[index]
            if entry.isSheddable, time + nearest + entry.base + entry.tail > entry.due {
                let request = queue.remove(at: index)
                shed(request, reason: "it can no longer meet its service level", into: &actions)
            } else if entry.holdUntil <= time || lateIsOff {
                let request = queue.remove(at: index)
                if entry.isSheddable, entry.holdUntil <= time {
                    shed(request, reason: "it waited longer than a request may", into: &actions)
                } else {
                    placeOrRefuse(request, arrivedAt: Instant(entry.arrivedAt), into: &actions)
                }
            } else {
                index += 1
            }
        }
    }

    /// Goes through the order of service and dispatches each request whose best pod is open. The others are held: a pod
    /// that is not free yet will finish them sooner. Ends after as many held ones as the lookahead says.
    /// - Returns: false when some are left for the next round, so that no round takes long.
    private mutating func placeSome(into actions: inout [RouterAction]) -> Bool {
        guard holds.open.contains(true) else { return true }
        let lookahead = max(options.queue.lookahead, 1)
        var ids = order
        queue.first(2 * lookahead, at: now.rawValue, into: &ids)
        defer { order = ids }
        var ahead = 0.0
        var held = 0
        var looked = 0
        var placed = 0
        for id in ids where held < lookahead {
            guard let index = queue.index(of: id) else { continue }
            let entry = queue.entries[index]
            if !holds.requests.contains(id) {
                guard looked < max(options.queue.looksPerRound, 1) else { return false }
                if placeOrHold(entry, queue.requests[index], ahead: ahead, into: &actions) {
                    placed += 1
                    continue
                }
                looked += 1
                holds.requests.append(id)
            }
            held += 1
            ahead += entry.base
        }
        return placed == 0 || queue.isEmpty
    }

    /// Until the next round, when this one left some.
    static let roundGap = Seconds(0.001)

    /// - Returns: true when it left the queue.
    private mutating func placeOrHold(
        _ entry: WaitingEntry,
        _ request: InferenceRequest,
        ahead: Double,
        into actions: inout [RouterAction]
    ) -> Bool {
        switch choose(request, arrivedAt: Instant(entry.arrivedAt), ahead: ahead) {
        case .refused(let refusal):
            _ = queue.remove(request.id)
            refuse(request.id, refusal, into: &actions)
            return true
        case .chosen(let choice):
            if entry.isSheddable, (now + choice.candidate.terms.ttft).rawValue > entry.due {
                _ = queue.remove(request.id)
                shed(request, reason: "it can no longer meet its service level", into: &actions)
                return true
            }
            let placement = choice.candidate.placement
            guard let pod = index(of: placement.prefiller), isOpen(pod), hasRoom(placement.destination, for: request)
            else { return false }
            _ = queue.remove(request.id)
            dispatch(request, choice, into: &actions)
            // That it opens again is news.
            holds.open[pod] = isOpen(pod)
            return true
        }
    }

    /// Whether a pod may be given another prompt now.
    func isOpen(_ pod: Int) -> Bool {
        let state = frame.states[pod]
        return state.backlog <= openBelow
            && (state.role == .prefill || hasRoom(state, promptTokens: 0, tpot: configuredTPOT))
    }

    /// Whether a pod could begin to decode a request now, and all there still keep their bound: else it would wait in
    /// the engine's queue, out of our order, or make others late.
    private func hasRoom(_ destination: EndpointID, for request: InferenceRequest) -> Bool {
        guard let pod = index(of: destination) else { return true }
        let tpot = options.serviceLevel(of: request).tpot?.rawValue ?? .infinity
        return hasRoom(frame.states[pod], promptTokens: Double(request.promptTokens), tpot: tpot)
    }

    private func hasRoom(_ state: PodState, promptTokens: Double, tpot: Double) -> Bool {
        guard state.batch >= 1 else { return true }
        guard state.batch < Self.maximumSequences, state.kvTokens + promptTokens <= state.capacityTokens else {
            return false
        }
        let pace = DecodePace(state)
        let step = (pace.nextStep + pace.perKVToken * promptTokens) * pace.stretch
        return step <= options.queue.roomShare * tpot
    }

    /// The TPOT bound of the configuration: what pods are judged by before a request is at hand.
    private var configuredTPOT: Double { options.serviceLevel.tpot?.rawValue ?? .infinity }

    private var leastBacklog: Double { frame.states.reduce(.infinity) { min($0, $1.backlog) } }

    func shedRetry() -> Seconds {
        // When the queue has drained, if nothing else comes; whole seconds, as the header is.
        Seconds(min(max((queue.work / Double(max(frame.states.count, 1))).rounded(.up), 1), 60))
    }

    mutating func shed(_ request: InferenceRequest, reason: String, into actions: inout [RouterAction]) {
        let refusal = Refusal.shed(reason: reason, retryAfter: shedRetry())
        recordRefusal(request, refusal)
        refuse(request.id, refusal, into: &actions)
    }

    /// The next moment at which a pod opens or a hold ends; soon, if some pod is open and requests are held all the same.
    private mutating func askForWake(isComplete: Bool, into actions: inout [RouterAction]) {
        guard !queue.isEmpty else {
            wakeAt = nil
            return
        }
        let limit = openBelow
        var next = Double.infinity
        for (pod, state) in frame.states.enumerated() {
            // A pod without room opens by an event: something ends there.
            let isBusy = state.backlog > limit
            guard isBusy || isOpen(pod) else { continue }
            next = min(next, isBusy ? state.backlog - limit : options.queue.controlDelay.rawValue)
        }
        if !next.isFinite { next = 1 }
        var at = now + (isComplete ? Seconds(min(max(next, 1e-3), 1)) : Self.roundGap)
        for entry in queue.entries { at = min(at, Instant(entry.holdUntil)) }
        at = max(at, now + Seconds(1e-3))
        if let asked = wakeAt, asked > now, asked <= at { return }
        wakeAt = at
        actions.append(.wake(at: at))
    }
}

/// Whom the queue holds, and which pods were open when it was decided.
struct Holds: Sendable {
    var began = -Double.infinity
    var open: [Bool] = []
    var requests: [RequestID] = []
}
