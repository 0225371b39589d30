// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// The half of a pair's cost that depends on the prefill pod alone, and lower bounds for the search.
struct PrefillPart {
    /// Index of the pod in the frame.
    var pod = 0
    var queueing = 0.0
    var prefill = 0.0
    /// Engine steps that it takes, where it shares them with decodes.
    var steps = 1.0
    var pull = 0.0
    var overhead = 0.0
    /// Seconds that later prompts are pushed back.
    var others = 0.0
    var busy = 0.0
    var eviction = 0.0
    var cachedTokens = 0
    var pullFrom: EndpointID?
    /// 90 % margin of the time to the first token, in seconds.
    var margin = 0.0
    /// Dollars that every pair with this pod costs at least.
    var bound = 0.0
    /// P(TTFT missed) with the best imaginable decode pod.
    var missBound = 0.0
    /// This pod's part of the decision's draw.
    var share = 0.0
}

/// The half of a candidate's cost that depends on the decode pod alone.
struct DecodePart {
    var pod = 0
    var admission = 0.0
    /// Step time with this request in the batch, stretched by prompts that the pod computes itself.
    var step = 0.0
    var stepBefore = 0.0
    var decode = 0.0
    /// Seconds that the sequences already there lose.
    var others = 0.0
    var busy = 0.0
    var overflowProbability = 0.0
    var overflow = 0.0
    var tpotMiss = 0.0
    /// Prompt tokens whose KV the pod does not hold yet.
    var missingTokens = 0.0
    var bound = 0.0
    var share = 0.0
}

/// A third pod that holds more of the prompt, as one that may pull from it sees it.
struct Peer {
    var id: EndpointID
    var profile: PodProfile
    var held: Int
    var link: KVLinks.Link
}

/// The cost of one request, in the pieces that candidates share. Pure: pods' states, settings and the request in,
/// numbers out; no allocation.
struct CostFormula {
    let request: RequestFacts
    let dials: Dials
    let settings: CostSettings
    let draw: UInt64
    let prompt: Double
    let output: Double
    let decodeWeight: Double

    init(request: RequestFacts, dials: Dials, settings: CostSettings, draw: UInt64) {
        self.request = request
        self.dials = dials
        self.settings = settings
        self.draw = draw
        prompt = Double(max(request.promptTokens, 1))
        output = Double(max(request.outputTokens, 1))
        decodeWeight = request.streams ? settings.decodeWeight : 1
    }

    /// Tokens of the prompt that a pod need not compute: what it holds, but never the whole prompt, of which engines
    /// compute the last token again.
    @inline(__always)
    func usable(_ held: Int) -> Int { min(max(held, 0), max(request.promptTokens - 1, 0)) }

    /// Seconds of one prefill without queue, calibrated.
    @inline(__always)
    func prefill(_ state: PodState, cached: Int) -> Double {
        let n = max(request.promptTokens, 1) - cached
        return state.calibration.prefillScale
            * state.profile.prefill.duration(newTokens: n, cachedTokens: cached).rawValue
    }

    /// What prompts and cached prefixes lose at the pod that computes this one.
    @inline(__always)
    func setHarm(_ part: inout PrefillPart, at state: PodState) {
        part.others = settings.externality * part.prefill * state.arrivalRate * (part.queueing + part.prefill / 2)
        part.busy = part.prefill * state.profile.dollarsPerSecond
        // New KV displaces old: tokens × P(they would have been hit) × what computing them again costs.
        let displaced = max(prompt - Double(part.cachedTokens), 0)
        part.eviction =
            displaced * settings.reuse * state.profile.prefill.perTokenAboveKnee * state.calibration.prefillScale
            * (dials.valueOfTime + state.profile.dollarsPerSecond)
    }

    /// What computing the prompt here costs, whoever decodes. `held` counts tokens of the prompt's start that the pod
    /// holds; `peer` is the pod that holds most, where this one can pull from it; no transfer takes less than
    /// `leastTransfer` seconds.
    func prefillPart(
        pod: Int,
        _ state: PodState,
        held: Int,
        peer: Peer?,
        leastTransfer: Double = 0
    ) -> PrefillPart {
        var part = PrefillPart()
        part.pod = pod
        part.cachedTokens = usable(held)
        part.queueing = max(state.backlog, 0) + max(state.ahead, 0)
        part.prefill = prefill(state, cached: part.cachedTokens)
        part.overhead = overhead(state)
        takePull(&part, state, peer)
        setHarm(&part, at: state)
        part.margin = state.calibration.prefillMargin * (part.queueing + part.prefill)
        part.share = share(of: draw, for: state.id, salt: 1)
        let least = part.queueing + part.prefill + part.pull + part.overhead + leastTransfer
        part.bound = dials.valueOfTime * (least + part.others) + part.busy + part.eviction
        part.missBound = ttftMiss(least, margin: part.margin)
        return part
    }

    /// Replaces recomputing by fetching where that is sooner.
    @inline(__always)
    private func takePull(_ part: inout PrefillPart, _ state: PodState, _ peer: Peer?) {
        guard let peer, peer.id != state.id else { return }
        let tokens = usable(peer.held)
        guard tokens > part.cachedTokens else { return }
        let fetch = KVTransfer(from: peer.profile, to: state.profile, over: peer.link)
            .serial(tokens: Double(tokens - part.cachedTokens)).rawValue
        let compute = prefill(state, cached: tokens)
        guard fetch + compute < part.prefill else { return }
        part.pull = fetch
        part.prefill = compute
        part.cachedTokens = tokens
        part.pullFrom = peer.id
    }

    @inline(__always)
    func overhead(_ state: PodState) -> Double {
        max(state.profile.ttftOverhead.rawValue + state.calibration.ttftOffset.rawValue, 0)
    }

    @inline(__always)
    func ttftMiss(_ ttft: Double, margin: Double) -> Double {
        guard let limit = request.serviceLevel.ttft else { return 0 }
        return Spread.probability(above: limit.rawValue, mean: request.waited.rawValue + ttft, margin: margin)
    }
}
