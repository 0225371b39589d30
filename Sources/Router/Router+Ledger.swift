// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// A request that was dispatched and has not ended: what is asked of it until then. Its prefix keys are not kept.
struct InFlight: Sendable {
    /// What of a request counts once it has been dispatched.
    struct Facts: Sendable {
        var id: RequestID
        var model: String?
        var promptTokens: Int
        var outputTokens: Int
        var promptBytes: Int
        var isInference: Bool
        var reportsFirstToken: Bool
        var serviceLevel: ServiceLevel

        /// `serviceLevel`: the request's own, else what configuration says.
        init(_ request: InferenceRequest, serviceLevel: ServiceLevel) {
            id = request.id
            model = request.model
            promptTokens = request.promptTokens
            outputTokens = request.outputTokens
            promptBytes = request.promptBytes
            isInference = request.isInference
            reportsFirstToken = request.reportsFirstToken
            self.serviceLevel = serviceLevel
        }
    }

    var request: Facts
    var placement: Placement
    var arrivedAt: Instant
    var dispatchedAt: Instant
    var terms: CostTerms?
    var cachedTokens = 0
    var pulls = false
    /// Seconds by which its prefill takes longer than alone, uncorrected: chunks, and decodes beside them.
    var prefillExtra = 0.0
    /// Learned cost of its pair's transfer that its terms hold.
    var transferExtra = 0.0
    /// One of its pods had to load its adapter, or to wait for a slot.
    var loadsAdapter = false
    var firstTokenAt: Instant?
    /// Tick of the destination's token clock at which it began to decode.
    var joinedAt: Double?
    /// The destination's sums of sequences and KV tokens over steps, at that tick.
    var joinedBatchSum = 0.0
    var joinedTokenSum = 0.0
    /// Its prompt is still in the prefiller's ledger.
    var promptIsPending = false
    /// Its exchange is over, its answer is not: it ends when that is predicted.
    var isUnwatched = false
    /// How long its prompt was seen to take, and whether the pod had nothing else to do.
    var service: VirtualPod.Service?

    /// Predicted seconds of service, and from its end to the first token being seen.
    var work: Double { terms.map { ($0.prefill + $0.pull).rawValue } ?? 0 }
    var tail: Double { terms.map { ($0.transfer + $0.overhead + $0.admission + $0.firstStep).rawValue } ?? 0 }
}

extension Router {
    /// Writes a dispatched request into the ledgers of its pods.
    mutating func enterLedger(_ request: InferenceRequest, _ choice: Choice) {
        guard inFlight.count < Self.maximumInFlight else {
            counts.untracked += 1
            return
        }
        let placement = choice.candidate.placement
        var entry = InFlight(
            request: InFlight.Facts(request, serviceLevel: choice.facts.serviceLevel),
            placement: placement,
            arrivedAt: now - choice.facts.waited,
            dispatchedAt: now,
            terms: choice.candidate.terms
        )
        entry.cachedTokens = choice.candidate.cachedTokens
        entry.pulls = choice.candidate.pullFrom != nil
        let time = now.rawValue
        entry.loadsAdapter = useAdapter(of: request, placement)
        if let p = index(of: placement.prefiller) {
            let state = frame.states[p]
            let alone = state.profile.prefill.duration(
                newTokens: request.promptTokens - entry.cachedTokens,
                cachedTokens: entry.cachedTokens
            )
            let scale = max(state.calibration.prefillScale, 0.01)
            entry.prefillExtra = max(choice.candidate.terms.prefill.rawValue / scale - alone.rawValue, 0)
            if placement.prefiller != placement.destination, choice.candidate.terms.transfer > .zero {
                entry.transferExtra = frame.transferCosts[placement.prefiller, placement.destination]
            }
            entry.promptIsPending = true
            let job = VirtualPod.Job(
                request: request.id,
                work: entry.work,
                tail: entry.tail,
                reports: request.reportsFirstToken,
                readyAt: time + options.queue.controlDelay.rawValue
            )
            ledgers[p].begin()
            ledgers[p].sendPrompt(job, tokens: request.promptTokens, now: time)
            if placement.prefiller == placement.destination, frame.states[p].role == .decode {
                ledgers[p].computeLocally(entry.work, window: options.settings.guardWindow, now: time)
            }
        }
        if let d = index(of: placement.destination) {
            if placement.prefiller != placement.destination { ledgers[d].begin() }
            ledgers[d].assign(prompt: request.promptTokens, output: request.outputTokens)
            // Where no first token will be seen, as of an answer that does not stream, decoding begins as predicted.
            if !request.reportsFirstToken {
                let ttft = choice.candidate.terms.ttft.rawValue
                entry.joinedAt = ledgers[d].join(prompt: request.promptTokens, in: ttft)
            }
            refresh(d)
        }
        if placement.prefiller != placement.destination, let p = index(of: placement.prefiller) { refresh(p) }
        inFlight[request.id] = entry
        counts.tokensInFlight += request.promptTokens
        if options.sharesWork { share(entry) }
    }

    /// - Returns: whether one of its pods does not have it in a slot.
    private mutating func useAdapter(of request: InferenceRequest, _ placement: Placement) -> Bool {
        guard !frame.adapters.isEmpty, let name = request.model else { return false }
        var isLoaded = true
        for id in [placement.prefiller, placement.destination] {
            guard let pod = index(of: id), let need = frame.adapters[pod] else { continue }
            isLoaded = isLoaded && need.state == .loaded
            ledgers[pod].adapters.use(name)
        }
        return !isLoaded
    }

    private mutating func share(_ entry: InFlight) {
        guard let p = index(of: entry.placement.prefiller), let d = index(of: entry.placement.destination) else {
            return
        }
        let work = PeerNotice.Work(
            prefiller: fleet.endpoints[p].endpoint.hostPort,
            destination: fleet.endpoints[d].endpoint.hostPort,
            promptTokens: entry.request.promptTokens,
            outputTokens: entry.request.outputTokens,
            streams: entry.request.reportsFirstToken,
            prefill: Seconds(entry.work),
            tail: Seconds(entry.tail)
        )
        notify(entry.request.id, .dispatched(work))
    }

    /// Follows a request without an inference: a count, no work.
    mutating func follow(_ request: InferenceRequest, at index: Int, _ placement: Placement) {
        guard inFlight.count < Self.maximumInFlight else { return }
        ledgers[index].begin()
        inFlight[request.id] = InFlight(
            request: InFlight.Facts(request, serviceLevel: request.serviceLevel),
            placement: placement,
            arrivedAt: now,
            dispatchedAt: now
        )
    }

    mutating func firstToken(_ id: RequestID, into actions: inout [RouterAction]) {
        // The first bytes of an answer that does not stream are its last ones too: they say nothing of its prefill.
        guard var entry = inFlight[id], entry.firstTokenAt == nil, let terms = entry.terms,
            entry.request.reportsFirstToken
        else { return }
        entry.firstTokenAt = now
        entry.promptIsPending = false
        let time = now.rawValue
        if let p = index(of: entry.placement.prefiller) {
            let end = time - entry.tail
            entry.service = ledgers[p].promptSeen(id, tokens: entry.request.promptTokens, end: end, now: time)
            countPairPrefill(entry, at: p)
        }
        if let d = index(of: entry.placement.destination) {
            ledgers[d].advance(to: time)
            entry.joinedAt = ledgers[d].join(prompt: entry.request.promptTokens, in: 0)
            entry.joinedBatchSum = ledgers[d].decodes.batchSum
            entry.joinedTokenSum = ledgers[d].decodes.tokenSum
        }
        inFlight[id] = entry
        notify(id, .firstToken)
        if let d = index(of: entry.placement.destination) {
            let observed = (now - entry.dispatchedAt).rawValue
            monitors.firstToken(at: d, predicted: terms.ttft.rawValue, observed: observed)
        }
        pump(into: &actions)
    }

    mutating func ended(_ id: RequestID, _ outcome: Outcome, into actions: inout [RouterAction]) {
        if settlesLater(id, outcome) {
            // Nothing has become free.
            return
        } else if let entry = inFlight.removeValue(forKey: id) {
            learn(entry, outcome)
            leaveLedger(id, entry)
            judge(entry, outcome)
            if entry.request.isInference {
                notify(id, .ended)
                steer(entry, outcome)
                counts.ended(outcome.kind)
                // A request that failed or was left early could not show one.
                if outcome.kind == .completed { countFirstToken(of: entry) }
            }
        } else if queue.remove(id) != nil {
            holds.forget(id)
            counts.ended(outcome.kind)
        } else {
            endedUnserved(id)
            return
        }
        pump(into: &actions)
    }

    /// Late binding is trusted by what answers show.
    mutating func countFirstToken(of entry: InFlight) {
        guard let d = index(of: entry.placement.destination) else { return }
        monitors.requestEnded(at: d, firstTokenSeen: entry.firstTokenAt != nil)
    }

    /// Tells the control whether the request met its bounds, as far as anybody saw.
    mutating func steer(_ entry: InFlight, _ outcome: Outcome) {
        guard options.control != nil, let terms = entry.terms else { return }
        var isMet: Bool?
        let level = entry.request.serviceLevel
        if outcome.kind == .completed, let firstToken = entry.firstTokenAt {
            let isInTime = level.ttft.map { firstToken - entry.arrivedAt <= $0 } ?? true
            let steps = Double(max((outcome.outputTokens ?? entry.request.outputTokens) - 1, 1))
            let isFast = level.tpot.map { (now - firstToken) / steps <= $0 } ?? true
            isMet = isInTime && isFast
        } else if outcome.kind != .cancelled, outcome.kind != .completed {
            isMet = false
        }
        control.ended(isMet: isMet, dollars: terms.busy, at: now)
    }

    mutating func leaveLedger(_ id: RequestID, _ entry: InFlight) {
        let time = now.rawValue
        let placement = entry.placement
        if entry.request.isInference { counts.tokensInFlight -= entry.request.promptTokens }
        if let p = index(of: placement.prefiller) {
            ledgers[p].finish()
            if entry.promptIsPending { ledgers[p].dropPrompt(id, tokens: entry.request.promptTokens, now: time) }
        }
        guard let d = index(of: placement.destination) else { return }
        if placement.destination != placement.prefiller { ledgers[d].finish() }
        guard entry.request.isInference else { return }
        ledgers[d].advance(to: time)
        ledgers[d].release(
            prompt: entry.request.promptTokens,
            output: entry.request.outputTokens,
            joinedAt: entry.joinedAt
        )
    }

    /// What the answer's end says of the pods' health.
    private mutating func judge(_ entry: InFlight, _ outcome: Outcome) {
        let destination = index(of: entry.placement.destination)
        var changed = false
        switch outcome.kind {
        case .unreachable:
            guard let destination else { return }
            changed = healths[destination].refused(options.health, at: now, unit: draws.unit())
        case .completed, .failed:
            if let destination { changed = healths[destination].answered() }
            changed = judgePrefill(entry, outcome) || changed
        case .cancelled, .timedOut:
            return
        }
        if changed { forgetPools() }
    }

    /// 5xx answers to a pair tell against its prefill pod, unless the decode pod's own answers fail as well.
    private mutating func judgePrefill(_ entry: InFlight, _ outcome: Outcome) -> Bool {
        let failed = outcome.kind == .failed && (outcome.status ?? 500) >= 500
        guard case .pair(let prefill, let decode) = entry.placement else {
            if let at = index(of: entry.placement.destination) { healths[at].answeredAlone(failed: failed) }
            return false
        }
        let d = index(of: decode)
        if !failed, let d { healths[d].answeredAlone(failed: false) }
        guard let p = index(of: prefill) else { return false }
        if !failed { return healths[p].prefilled() }
        if let d, healths[d].failsAlone { return false }
        return healths[p].failedPrefill(options.health, at: now, unit: draws.unit())
    }
}
