// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

extension CostFormula {
    /// What decoding on this pod costs, whoever computes the prompt.
    func decodePart(pod: Int, _ state: PodState, held: Int) -> DecodePart {
        var part = DecodePart()
        part.pod = pod
        part.missingTokens = prompt - Double(usable(held))
        let scale = state.calibration.decodeScale
        let batch = max(state.batch, 0)
        let kv = max(state.kvTokens, 0)
        // Prompts that the pod computes itself stall its decodes; at 0.8 the guard has long stopped them.
        let stretch = 1 / (1 - min(max(state.localShare, 0), 0.8))
        part.stepBefore = scale * state.profile.decode.step(batch: batch, kvTokens: kv).rawValue * stretch
        part.step =
            scale * stretch
            * state.profile.decode.step(batch: batch + 1, kvTokens: kv + prompt + output / 2).rawValue
        part.decode = part.step * (output - 1)
        let remaining = batch > 0 ? max(state.outstandingTokens / batch, 1) : 0
        part.others = max(part.step - part.stepBefore, 0) * batch * min(output, remaining)
        part.busy = output * part.step / (batch + 1) * state.profile.dollarsPerSecond
        overflow(&part, state, remaining: remaining)
        if let limit = request.serviceLevel.tpot {
            part.tpotMiss = Spread.probability(
                above: limit.rawValue,
                mean: part.step,
                margin: state.calibration.decodeMargin * part.step
            )
        }
        part.share = share(of: draw, for: state.id, salt: 2)
        part.bound =
            dials.valueOfTime
            * (part.admission + part.step + decodeWeight * part.decode + settings.decodeWeight * part.others)
            + part.busy + part.overflow
        return part
    }

    /// Waiting for KV room, and the risk of being preempted and computed again.
    @inline(__always)
    private func overflow(_ part: inout DecodePart, _ state: PodState, remaining: Double) {
        let capacity = max(state.capacityTokens, 1)
        let excess = state.kvTokens + prompt - capacity
        if excess > 0, state.kvTokens > 0 {
            // A batch of B ending after `remaining` steps each releases its KV at that pace (latency-model, 2.3).
            part.admission = min(excess / state.kvTokens, 1) * remaining * part.stepBefore
        }
        // Output lengths are about exponential: the sum of B + 1 of them strays by √(B + 1) means (1.28 σ at 90 %).
        let spread = 1.2816 * (max(state.batch, 0) + 1).squareRoot() * output
        part.overflowProbability = Spread.probability(
            above: capacity,
            mean: state.kvTokens + prompt + output,
            margin: spread
        )
        guard part.overflowProbability > 0 else { return }
        let again = state.profile.prefill.duration(
            newTokens: max(request.promptTokens, 1) &+ max(request.outputTokens, 0) / 2,
            cachedTokens: 0
        )
        part.overflow =
            part.overflowProbability * state.calibration.prefillScale * again.rawValue
            * (dials.valueOfTime + state.profile.dollarsPerSecond)
    }

    /// The prompt on `p`, its KV to `d`, the rest on `d`.
    func pair(_ p: PrefillPart, _ ps: PodState, _ d: DecodePart, _ ds: PodState, _ link: KVLinks.Link) -> CostTerms {
        let transfer = KVTransfer(from: ps.profile, to: ds.profile, over: link)
            .exposed(tokens: d.missingTokens, prefill: Seconds(p.prefill))
        return terms(
            p,
            d,
            transfer: transfer.rawValue,
            firstStep: d.step,
            stalled: 0
        )
    }

    /// All on `d`: prompt in chunks between its decodes, no transfer. The prompt's last chunk gives the first token.
    func local(_ p: PrefillPart, _ d: DecodePart, _ state: PodState) -> CostTerms {
        // The decodes advance by a token with each chunk; all else of that time they stand still.
        let stalled = max(p.prefill - p.steps * d.stepBefore, 0) * max(state.batch, 0)
        return terms(p, d, transfer: 0, firstStep: 0, stalled: stalled)
    }

    /// The prefill half of a local candidate: formula (4), each chunk repeating the pass over the weights and carrying
    /// the running decodes along.
    func localPart(pod: Int, _ state: PodState, held: Int, peer: Peer?) -> PrefillPart {
        var part = prefillPart(pod: pod, state, held: held, peer: peer)
        let chunked = state.profile.mixed.chunkedPrefill(
            newTokens: prompt - Double(part.cachedTokens),
            cachedTokens: Double(part.cachedTokens),
            budget: settings.prefillChunk,
            batch: state.batch,
            kvTokens: state.kvTokens
        )
        part.steps = chunked.steps
        part.prefill = state.calibration.prefillScale * chunked.duration.rawValue
        setHarm(&part, at: state)
        part.margin = state.calibration.prefillMargin * (part.queueing + part.prefill)
        part.share = (part.share + share(of: draw, for: state.id, salt: 2)) / 2
        return part
    }

    /// True when the pod's decodes stay within the TPOT bound although it computes this prompt itself.
    func keepsGuard(_ p: PrefillPart, _ d: DecodePart, _ state: PodState) -> Bool {
        guard let limit = request.serviceLevel.tpot else { return true }
        let plain = d.step * (1 - min(max(state.localShare, 0), 0.8))
        let share = max(state.localShare, 0) + p.prefill / max(settings.guardWindow, 1e-3)
        return share < 1 && plain / (1 - share) <= settings.tpotGuard * limit.rawValue
    }

    @inline(__always)
    private func terms(
        _ p: PrefillPart,
        _ d: DecodePart,
        transfer: Double,
        firstStep: Double,
        stalled: Double
    ) -> CostTerms {
        let ttft = p.queueing + p.prefill + p.pull + transfer + p.overhead + d.admission + firstStep
        let ttftMissed = ttftMiss(ttft, margin: p.margin)
        let missed = 1 - (1 - ttftMissed) * (1 - d.tpotMiss)
        let time = dials.valueOfTime * (ttft + decodeWeight * d.decode)
        let others = dials.valueOfTime * (p.others + settings.decodeWeight * (d.others + stalled))
        let miss = missed * dials.sloMissPrice.rawValue
        return CostTerms(
            queueing: Seconds(p.queueing),
            prefill: Seconds(p.prefill),
            pull: Seconds(p.pull),
            transfer: Seconds(transfer),
            overhead: Seconds(p.overhead),
            admission: Seconds(d.admission),
            firstStep: Seconds(firstStep),
            tpot: Seconds(d.step),
            decode: Seconds(d.decode),
            othersPrefill: Seconds(p.others),
            othersDecode: Seconds(d.others + stalled),
            missProbability: missed,
            overflowProbability: d.overflowProbability,
            time: Dollars(time),
            others: Dollars(others),
            busyPrefill: Dollars(p.busy),
            busyDecode: Dollars(d.busy),
            miss: Dollars(miss),
            overflow: Dollars(d.overflow),
            eviction: Dollars(p.eviction),
            total: Dollars(time + others + p.busy + d.busy + miss + d.overflow + p.eviction)
        )
    }
}
