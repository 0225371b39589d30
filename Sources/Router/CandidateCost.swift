// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

extension CostFormula {
    /// What decoding on this pod costs, whoever computes the prompt.
    @inline(__always)
    func decodePart(pod: Int, _ state: PodState, _ pace: DecodePace, held: Int) -> DecodePart {
        var part = DecodePart()
        part.pod = pod
        part.missingTokens = prompt - Double(usable(held))
        part.stepBefore = pace.step
        part.plainStep = pace.nextStep + pace.perKVToken * (prompt + output / 2)
        part.step = part.plainStep * pace.stretch
        part.decode = part.step * (output - 1)
        part.others = max(part.step - part.stepBefore, 0) * pace.batch * min(output, pace.remaining)
        part.busy = output * part.step * pace.shareDollars
        setOverflow(&part, state, pace)
        if tpotLimit < .infinity {
            let margin = state.calibration.decodeMargin * part.step
            part.tpotMiss = Spread.probability(above: tpotLimit, mean: part.step, margin: margin)
        }
        part.share = share(of: draw, for: state.id, salt: 2)
        part.mayPair = state.role == .decode || state.canPair
        part.kvClass = state.kvClass
        part.network = state.profile.networkBytesPerSecond
        part.kvBytes = state.profile.kvBytesPerToken
        part.windowTokens = state.profile.kvWindow?.extra(of: part.missingTokens) ?? 0
        part.memory = state.profile.memoryBytesPerSecond
        part.layers = Double(max(state.profile.layers, 1))
        return part
    }

    /// Waiting for KV room, and the risk of being preempted and computed again.
    @inline(__always)
    private func setOverflow(_ part: inout DecodePart, _ state: PodState, _ pace: DecodePace) {
        let capacity = max(state.capacityTokens, 1)
        let margin = pace.spread * output
        let mean = pace.kvTokens + prompt + output
        guard mean + Spread.halfWidth * margin > capacity else { return }
        let excess = pace.kvTokens + prompt - capacity
        if excess > 0, pace.kvTokens > 0 {
            // A batch of B ending after `remaining` steps each releases its KV at that pace.
            part.admission = Queueing.admission(
                missing: excess,
                held: pace.kvTokens,
                remaining: pace.remaining,
                step: part.stepBefore
            )
        }
        part.overflowProbability = Spread.probability(above: capacity, mean: mean, margin: margin)
        let tokens = max(request.promptTokens, 1) &+ max(request.outputTokens, 0) / 2
        let again = state.profile.prefill.duration(newTokens: tokens, cachedTokens: 0)
        part.overflow =
            part.overflowProbability * state.calibration.prefillScale * again.rawValue
            * (dials.valueOfTime + state.profile.dollarsPerSecond)
    }

    /// Dollars that a local candidate costs at least, the draw included: all of it but the price of a miss. A prompt of
    /// one chunk is priced as it is; a longer one takes no less than its chunks' passes and its tokens alone. It stalls
    /// each sequence that decodes there for all of it but one step per chunk.
    @inline(__always)
    func localBound(_ column: DecodeColumn, _ state: PodState, _ pace: DecodePace) -> Double {
        let drawn = (1 + settings.tieBand * (share(of: draw, for: state.id, salt: 1) + column.share) / 2) * Self.slack
        // A pulled prefix spares tokens in a way that this bound does not follow.
        guard !state.canPull else { return (column.bound - dials.valueOfTime * column.step) * drawn }
        let (prefill, steps) = leastLocalPrefill(column.missingTokens, state, pace)
        let stalled = max(prefill - steps * pace.step, 0) * pace.batch
        let wait = queueing(state)
        let others = settings.externality * prefill * surroundings.arrivalRate * (wait + prefill / 2)
        let time = wait + overhead(state) + prefill - column.step + others + settings.decodeWeight * stalled
        let harm = prefill * state.profile.dollarsPerSecond + eviction(column.missingTokens, state)
        return (column.bound + dials.valueOfTime * time + harm) * drawn
    }

    /// Seconds of a prompt computed between a pod's decodes, at least, and the steps that it takes, at most.
    @inline(__always)
    private func leastLocalPrefill(
        _ tokens: Double,
        _ state: PodState,
        _ pace: DecodePace
    ) -> (seconds: Double, steps: Double) {
        let mixed = state.profile.mixed
        let scale = state.calibration.prefillScale
        let chunk = max(settings.prefillChunk - pace.batch, 16)
        let pass = mixed.base + mixed.perSequence * pace.batch + mixed.perKVToken * pace.kvTokens
        guard tokens > chunk else {
            let cached = prompt - tokens
            let all = tokens + pace.batch
            let above = max(all - mixed.knee, 0)
            let linear = mixed.perTokenBelowKnee * min(all, mixed.knee) + mixed.perTokenAboveKnee * above
            let pairs = mixed.perPair * (tokens * cached + tokens * tokens / 2)
            return (scale * (pass + linear + pairs + mixed.perKVToken * prompt), 1)
        }
        let chunks = tokens / chunk
        return (scale * chunks * max(pass, 0) + tokens * pace.leastPrefillPerToken, chunks + 1)
    }

    @inline(__always)
    func column(_ part: DecodePart, links: KVLinks.Bound) -> DecodeColumn {
        let own =
            part.admission + part.step + decodeWeight * part.decode + settings.decodeWeight * part.others
        var transfer = part.missingTokens > 0 ? links.leastFixedCost : 0
        if links.areSerial {
            transfer += part.missingTokens * part.kvBytes / max(part.network, Self.leastBandwidth)
        }
        return DecodeColumn(
            bound: dials.valueOfTime * own + part.busy + part.overflow,
            transferBound: dials.valueOfTime * transfer,
            miss: part.tpotMiss,
            share: part.share,
            missingTokens: part.missingTokens,
            step: part.step
        )
    }

    /// The prompt on `p`, its KV to `d`, the rest on `d`.
    @inline(__always)
    func pair(_ p: PrefillPart, _ d: DecodePart, _ link: KVLinks.Link) -> CandidateCost {
        let bytes = (d.missingTokens + d.windowTokens) * max(p.kvBytes, d.kvBytes)
        var transfer = 0.0
        if bytes > 0 {
            transfer = KVTransfer.exposed(
                fixed: link.fixedCost.rawValue,
                sending: bytes / max(min(p.network, d.network, link.bytesPerSecond), Self.leastBandwidth),
                repack: link.repacks ? bytes / max(d.memory, Self.leastBandwidth) : 0,
                layers: link.isLayerwise ? d.layers : 1,
                prefill: p.prefill
            )
            transfer = max(transfer + link.learnedCost, 0)
        }
        return cost(p, d, transfer: transfer, firstStep: d.step, stalled: 0)
    }

    /// All on `d`: prompt in chunks between its decodes, no transfer. The prompt's last chunk gives the first token.
    @inline(__always)
    func local(_ p: PrefillPart, _ d: DecodePart, batch: Double) -> CandidateCost {
        // The decodes advance by a token with each chunk; all else of that time they stand still.
        let stalled = max(p.prefill - p.steps * d.stepBefore, 0) * max(batch, 0)
        return cost(p, d, transfer: 0, firstStep: 0, stalled: stalled)
    }

    /// The prefill half of a local candidate: formula (4), each chunk repeating the pass over the weights and carrying
    /// the running decodes along.
    @inline(__always)
    func localPart(pod: Int, _ state: PodState, held: Int, peer: Peer?, links: KVLinks) -> PrefillPart {
        // How long it takes alone matters only to what may be pulled instead.
        var part =
            state.canPull && peer != nil
            ? prefillPart(pod: pod, state, held: held, peer: peer, links: links)
            : barePart(pod: pod, state, held: held)
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
    @inline(__always)
    func keepsGuard(_ p: PrefillPart, _ d: DecodePart, localShare: Double) -> Bool {
        guard tpotLimit < .infinity else { return true }
        let share = max(localShare, 0) + p.prefill / max(settings.guardWindow, 1e-3)
        return share < 1 && d.plainStep / (1 - share) <= settings.tpotGuard * tpotLimit
    }

    @inline(__always)
    func cost(
        _ p: PrefillPart,
        _ d: DecodePart,
        transfer: Double,
        firstStep: Double,
        stalled: Double
    ) -> CandidateCost {
        let ttft = p.queueing + p.prefill + p.pull + transfer + p.overhead + d.admission + firstStep
        let missed = 1 - (1 - ttftMiss(ttft, margin: p.margin)) * (1 - d.tpotMiss)
        let time = dials.valueOfTime * (ttft + decodeWeight * d.decode)
        let others = dials.valueOfTime * (p.others + settings.decodeWeight * (d.others + stalled))
        let miss = missed * dials.sloMissPrice.rawValue
        return CandidateCost(
            transfer: transfer,
            firstStep: firstStep,
            stalled: stalled,
            missed: missed,
            time: time,
            others: others,
            miss: miss,
            total: time + others + p.busy + d.busy + miss + d.overflow + p.eviction
        )
    }

    /// Every term of a candidate, for people and records.
    func terms(_ p: PrefillPart, _ d: DecodePart, _ cost: CandidateCost) -> CostTerms {
        CostTerms(
            queueing: Seconds(p.queueing),
            prefill: Seconds(p.prefill),
            pull: Seconds(p.pull),
            transfer: Seconds(cost.transfer),
            overhead: Seconds(p.overhead),
            admission: Seconds(d.admission),
            firstStep: Seconds(cost.firstStep),
            tpot: Seconds(d.step),
            decode: Seconds(d.decode),
            othersPrefill: Seconds(p.others),
            othersDecode: Seconds(d.others + cost.stalled),
            missProbability: cost.missed,
            overflowProbability: d.overflowProbability,
            time: Dollars(cost.time),
            others: Dollars(cost.others),
            busyPrefill: Dollars(p.busy),
            busyDecode: Dollars(d.busy),
            miss: Dollars(cost.miss),
            overflow: Dollars(d.overflow),
            eviction: Dollars(p.eviction),
            total: Dollars(cost.total)
        )
    }
}
