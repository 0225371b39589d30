// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

extension Router {
    /// Writes a dispatched request into the ledgers of its pods.
    mutating func enterLedger(_ request: InferenceRequest, _ chosen: Candidate, waited: Seconds) {
        guard inFlight.count < Self.maximumInFlight else {
            counts.untracked += 1
            return
        }
        let terms = chosen.terms
        let work = (terms.prefill + terms.pull).rawValue
        let tail = (terms.transfer + terms.overhead + terms.admission + terms.firstStep).rawValue
        let placement = chosen.placement
        var entry = InFlight(
            request: request,
            placement: placement,
            arrivedAt: now - waited,
            dispatchedAt: now,
            work: work,
            tail: tail,
            predictedTTFT: terms.ttft.rawValue,
            predictedTPOT: terms.tpot.rawValue,
            cachedTokens: chosen.cachedTokens
        )
        let time = now.rawValue
        if let p = index(of: placement.prefiller) {
            let job = VirtualPod.Job(
                request: request.id,
                work: work,
                tail: tail,
                reports: request.streams,
                readyAt: time + options.queue.controlDelay.rawValue
            )
            ledgers[p].begin()
            ledgers[p].sendPrompt(job, tokens: request.promptTokens, now: time)
            if placement.prefiller == placement.destination, frame.states[p].role == .decode {
                ledgers[p].computeLocally(work, window: options.settings.guardWindow, now: time)
            }
        }
        if let d = index(of: placement.destination) {
            if placement.prefiller != placement.destination { ledgers[d].begin() }
            ledgers[d].assign(prompt: request.promptTokens, output: request.outputTokens)
            // No first token will be seen of an answer that does not stream: its decoding begins as predicted.
            if !request.streams {
                entry.joinedAt = ledgers[d].join(prompt: request.promptTokens, in: terms.ttft.rawValue)
            }
        }
        inFlight[request.id] = entry
        counts.tokensInFlight += request.promptTokens
    }

    mutating func firstToken(_ id: RequestID, into actions: inout [RouterAction]) {
        // The first bytes of an answer that does not stream are its last ones too: they say nothing of its prefill.
        guard var entry = inFlight[id], entry.firstTokenAt == nil, entry.request.isInference, entry.request.streams
        else { return }
        entry.firstTokenAt = now
        entry.promptIsPending = false
        let time = now.rawValue
        if let p = index(of: entry.placement.prefiller) {
            _ = ledgers[p].promptSeen(id, tokens: entry.request.promptTokens, end: time - entry.tail, now: time)
        }
        if let d = index(of: entry.placement.destination) {
            ledgers[d].advance(to: time)
            entry.joinedAt = ledgers[d].join(prompt: entry.request.promptTokens, in: 0)
        }
        inFlight[id] = entry
    }

    mutating func ended(_ id: RequestID, _ outcome: Outcome, into actions: inout [RouterAction]) {
        guard let entry = inFlight.removeValue(forKey: id) else { return }
        leaveLedger(id, entry)
        judge(entry, outcome)
        guard entry.request.isInference else { return }
        counts.ended(outcome.kind)
        if outcome.kind == .completed { learnLengths(entry, outcome) }
    }

    private mutating func leaveLedger(_ id: RequestID, _ entry: InFlight) {
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
        guard let p = index(of: prefill) else { return false }
        if !failed { return healths[p].prefilled() }
        if let d = index(of: decode), healths[d].failsAlone { return false }
        return healths[p].failedPrefill(options.health, at: now, unit: draws.unit())
    }

    private mutating func learnLengths(_ entry: InFlight, _ outcome: Outcome) {
        let request = entry.request
        let prompt = outcome.promptTokens ?? request.promptTokens
        if let output = outcome.outputTokens {
            outputLengths.learn(model: request.model, promptTokens: prompt, outputTokens: output)
        }
        if let prompt = outcome.promptTokens {
            promptLengths.learn(model: request.model, promptBytes: request.promptBytes, promptTokens: prompt)
        }
    }

    /// Requests without an inference: the pod with the fewest requests, a draw among equals.
    mutating func placeByLoad(_ request: InferenceRequest, into actions: inout [RouterAction]) {
        enter(pool(for: request), subset: request.subset)
        var least = Double.infinity
        var chosen: Int?
        var equals = 0.0
        for index in frame.decodes {
            let load = Double(ledgers[index].inFlight) + ledgers[index].foreignBatch.rounded()
            if load < least {
                least = load
                chosen = index
                equals = 1
            } else if load == least {
                equals += 1
                if draws.unit() * equals < 1 { chosen = index }
            }
        }
        guard let chosen else {
            actions.append(.refuse(request.id, .noEndpoint(reason: "no endpoint is eligible")))
            return
        }
        let endpoint = fleet.endpoints[chosen].endpoint
        let placement: Placement = endpoint.role == .both ? .both(endpoint.id) : .local(endpoint.id)
        if inFlight.count < Self.maximumInFlight {
            ledgers[chosen].begin()
            inFlight[request.id] = InFlight(
                request: request,
                placement: placement,
                arrivedAt: now,
                dispatchedAt: now,
                work: 0,
                tail: 0,
                predictedTTFT: 0,
                predictedTPOT: 0,
                cachedTokens: 0,
                promptIsPending: false
            )
        }
        let decision = Decision(
            placement: placement,
            predictedTTFT: .zero,
            predictedTPOT: .zero,
            predictedDollars: .zero,
            predictedCachedTokens: 0
        )
        actions.append(.dispatch(request.id, decision))
    }
}
