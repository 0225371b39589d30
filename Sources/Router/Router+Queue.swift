// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// Late binding: requests wait here, not in the pods' queues, until a pod is about to be free.
extension Router {
    /// Sequences that an engine runs at once (vLLM's default): a longer batch would wait in the engine.
    static let maximumSequences = 256.0

    @inline(__always)
    mutating func bindsLate(_ request: InferenceRequest) -> Bool {
        (request.ruledBy.flatMap { options.bindingByPool[$0] } ?? options.binding) == .late && trusts(request)
    }

    /// Whether each pool that may answer shows enough for its pods' ends to be known.
    @inline(__always)
    private mutating func trusts(_ request: InferenceRequest) -> Bool {
        monitors.allAreTrusted || monitors.trusts(pool(for: request).monitors)
    }

    /// Puts a request into the queue. - Returns: false when there is no room.
    mutating func enqueue(_ request: InferenceRequest) -> Bool {
        guard queue.hasRoom(for: request) else { return false }
        let level = options.serviceLevel(of: request)
        let least = leastService(of: request)
        let pool = pool(for: request)
        let entry = WaitingEntry(
            id: request.id,
            priority: request.priority,
            isSheddable: request.isSheddable,
            arrivedAt: now.rawValue,
            base: least.prefill,
            tail: least.tail,
            due: level.ttft.map { (now + $0).rawValue } ?? .infinity,
            holdUntil: (now + options.queue.maximumHold).rawValue,
            scope: [pool.decodes.first, pool.spareDecodes.first].compactMap { $0 }.min()
                .map { frame.states[$0].id } ?? EndpointID(0)
        )
        triages.saw(entry, at: now.rawValue)
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
    @inline(__always)
    var openBelow: Double {
        let delay = max(2 * options.queue.controlDelay.rawValue, 0.015)
        return min(max(options.queue.backlogShare * meanWork, delay), max(options.queue.maximumBacklog.rawValue, delay))
    }

    /// Refuses or places what may wait no longer, and refuses what waits in vain.
    mutating func expire(into actions: inout [RouterAction]) {
        let time = now.rawValue
        let lateIsOff = monitors.hasNewDoubt
        let nearest = queue.nextDoom < .infinity ? leastBacklog : 0
        guard lateIsOff || queue.nextHoldEnd <= time || time + nearest > queue.nextDoom else { return }
        var left: [WaitingEntry] = []
        for (place, entry) in queue.entries.enumerated() {
            let isDoomed = entry.isSheddable && time + nearest + entry.base + entry.tail > entry.due
            let isOver = isDoomed || entry.holdUntil <= time
            if isOver || (lateIsOff && !trusts(queue.requests[place])) { left.append(entry) }
        }
        monitors.doubtWasHeeded()
        left.sort { ($0.arrivedAt, $0.id) < ($1.arrivedAt, $1.id) }
        for entry in left {
            guard let request = queue.remove(entry.id) else { continue }
            if entry.isSheddable, time + nearest + entry.base + entry.tail > entry.due {
                shed(request, reason: "it can no longer meet its service level", into: &actions)
            } else if entry.isSheddable, entry.holdUntil <= time {
                shed(request, reason: "it waited longer than a request may", into: &actions)
            } else {
                placeOrRefuse(request, arrivedAt: Instant(entry.arrivedAt), into: &actions)
            }
        }
        queue.renewBounds()
    }

    /// Those that wait for pods which have left are told what they would be told on arrival. Where no pod for output is left
    /// at all, for any request, they may wait a little for the first that comes.
    mutating func refuseUnservable(into actions: inout [RouterAction]) {
        var gone: [RequestID] = []
        for (place, request) in queue.requests.enumerated() {
            enter(pool(for: request), subset: request.subset)
            let entry = queue.entries[place]
            guard frame.decodes.isEmpty else {
                // Pods have come back.
                queue.hold(place, until: entry.arrivedAt + options.queue.maximumHold.rawValue)
                continue
            }
            if !hasDecoders, options.queue.podlessHold > .zero {
                queue.hold(place, until: min(entry.holdUntil, (now + options.queue.podlessHold).rawValue))
            } else {
                gone.append(request.id)
            }
        }
        for id in gone.sorted() {
            guard let request = queue.remove(id) else { continue }
            holds.forget(id)
            placeOrRefuse(request, arrivedAt: now, into: &actions)
        }
    }

    /// Whether a pod may be given another prompt now.
    func isOpen(_ pod: Int) -> Bool {
        let state = frame.states[pod]
        return state.backlog <= openBelow
            && (state.role == .prefill || hasRoom(pod, promptTokens: 0, tpot: configuredTPOT))
    }

    /// Whether a pod could begin to decode a request now, and all there still keep their bound: else it would wait in
    /// the engine's queue, out of our order, or make others late.
    func hasRoom(_ pod: Int, promptTokens: Double, tpot: Double) -> Bool {
        let state = frame.states[pod]
        guard state.batch >= 1 else { return true }
        guard state.batch < Self.maximumSequences, state.kvTokens + promptTokens <= state.capacityTokens else {
            return false
        }
        let pace = frame.paces[pod]
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
    mutating func askForWake(isComplete: Bool, into actions: inout [RouterAction]) {
        guard !queue.isEmpty else {
            wakeAt = nil
            return
        }
        let limit = openBelow
        var next = Double.infinity
        for (pod, state) in frame.states.enumerated() {
            // A pod without room opens by an event: something ends there.
            let isBusy = state.backlog > limit
            guard isBusy || holds.open[pod] else { continue }
            next = min(next, isBusy ? state.backlog - limit : options.queue.controlDelay.rawValue)
        }
        if !next.isFinite { next = 1 }
        var at = now + (isComplete ? Seconds(min(max(next, 1e-3), 1)) : Self.roundGap)
        at = min(at, Instant(queue.nextHoldEnd))
        at = max(at, now + Seconds(1e-3))
        if let asked = wakeAt, asked > now, asked <= at { return }
        wakeAt = at
        actions.append(.wake(at: at))
    }
}
