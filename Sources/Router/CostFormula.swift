// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// The third pod that a missing prefix can be pulled from.
struct Peer {
    var id: EndpointID
    var held: Int
    var kvClass: Int
    var network: Double
    var kvBytes: Double
    var place: PodPlace?
}

/// The cost of one request, in the pieces that candidates share. Pure: pods' states, settings and the request in,
/// numbers out; no allocation.
struct CostFormula {
    let request: RequestFacts
    let dials: Dials
    let settings: CostSettings
    let surroundings: Surroundings
    let draw: UInt64
    let prompt: Double
    let output: Double
    let decodeWeight: Double
    let ttftLimit: Double
    let tpotLimit: Double
    let waited: Double

    init(request: RequestFacts, dials: Dials, settings: CostSettings, surroundings: Surroundings, draw: UInt64) {
        self.request = request
        self.dials = dials
        self.settings = settings
        self.surroundings = surroundings
        self.draw = draw
        prompt = Double(max(request.promptTokens, 1))
        output = Double(max(request.outputTokens, 1))
        decodeWeight = request.streams ? settings.decodeWeight : 1
        ttftLimit = request.serviceLevel.ttft?.rawValue ?? .infinity
        tpotLimit = request.serviceLevel.tpot?.rawValue ?? .infinity
        waited = request.waited.rawValue
    }

    /// Tokens of the prompt that a pod need not compute: what it holds, but never the whole prompt, of which engines
    /// compute the last token again.
    @inline(__always)
    func usable(_ held: Int) -> Int { min(max(held, 0), max(request.promptTokens &- 1, 0)) }

    /// Seconds of one prefill without queue, calibrated.
    @inline(__always)
    func prefill(_ state: PodState, cached: Int) -> Double {
        let n = max(request.promptTokens, 1) &- cached
        return state.calibration.prefillScale
            * state.profile.prefill.duration(newTokens: n, cachedTokens: cached).rawValue
    }

    @inline(__always)
    func overhead(_ state: PodState) -> Double {
        max(state.profile.ttftOverhead.rawValue + state.calibration.ttftOffset.rawValue, 0)
    }

    @inline(__always)
    func ttftMiss(_ ttft: Double, margin: Double) -> Double {
        ttftLimit < .infinity ? Spread.probability(above: ttftLimit, mean: waited + ttft, margin: margin) : 0
    }

    /// Seconds of prompts that the pod computes first.
    @inline(__always)
    func queueing(_ state: PodState) -> Double {
        let backlog = max(state.backlog, 0)
        return backlog <= surroundings.openBelow ? backlog : backlog + max(surroundings.ahead, 0)
    }

    /// What computing the prompt here costs, whoever decodes. `held` counts tokens of the prompt's start that the pod
    /// holds; `peer` is the pod that holds most of it.
    @inline(__always)
    func prefillPart(pod: Int, _ state: PodState, held: Int, peer: Peer?, links: KVLinks) -> PrefillPart {
        var part = barePart(pod: pod, state, held: held)
        part.prefill = prefill(state, cached: part.cachedTokens)
        if state.canPull, let peer { takePull(&part, state, peer, links) }
        setHarm(&part, at: state)
        part.margin = state.calibration.prefillMargin * (part.queueing + part.prefill)
        return part
    }

    /// All of it that does not hang on how long the prompt takes.
    @inline(__always)
    func barePart(pod: Int, _ state: PodState, held: Int) -> PrefillPart {
        var part = PrefillPart()
        part.pod = pod
        part.cachedTokens = usable(held)
        part.queueing = queueing(state)
        part.overhead = overhead(state)
        part.share = share(of: draw, for: state.id, salt: 1)
        part.mayPair = state.role == .prefill || state.canPair
        part.kvClass = state.kvClass
        part.network = state.profile.networkBytesPerSecond
        part.kvBytes = state.profile.kvBytesPerToken
        return part
    }

    /// What pairs with this pod cost at least.
    @inline(__always)
    func row(_ part: PrefillPart, floor: DecodeFloor, links: KVLinks.Bound) -> PrefillRow {
        let own = part.queueing + part.prefill + part.pull + part.overhead
        var transfer = floor.missingTokens > 0 ? links.leastFixedCost : 0
        if links.areSerial {
            transfer += floor.missingTokens * part.kvBytes / max(min(part.network, floor.network), Self.leastBandwidth)
        }
        var row = PrefillRow(
            bound: dials.valueOfTime * (own + part.others) + part.busy + part.eviction,
            transferBound: dials.valueOfTime * transfer,
            miss: ttftMiss(own + transfer + floor.delay, margin: part.margin),
            share: part.share,
            least: 0
        )
        row.least = rowBound(row, floor)
        return row
    }

    /// Replaces recomputing by fetching where that is sooner.
    @inline(__always)
    private func takePull(_ part: inout PrefillPart, _ state: PodState, _ peer: Peer, _ links: KVLinks) {
        let tokens = usable(peer.held)
        guard tokens > part.cachedTokens, peer.id != state.id else { return }
        let link = links.link(peer.kvClass, at: peer.place, state.kvClass, at: state.place)
        guard link.isAllowed else { return }
        let missing = Double(tokens - part.cachedTokens)
        let moved = missing + (state.profile.kvWindow?.extra(of: missing) ?? 0)
        let bytes = moved * max(peer.kvBytes, state.profile.kvBytesPerToken)
        let network = max(
            min(peer.network, state.profile.networkBytesPerSecond, link.bytesPerSecond),
            Self.leastBandwidth
        )
        let repack = link.repacks ? bytes / max(state.profile.memoryBytesPerSecond, Self.leastBandwidth) : 0
        let fetch = link.fixedCost.rawValue + bytes / network + repack
        let compute = prefill(state, cached: tokens)
        guard fetch + compute < part.prefill else { return }
        part.pull = fetch
        part.prefill = compute
        part.cachedTokens = tokens
        part.pullFrom = peer.id
    }

    /// What prompts and cached prefixes lose at the pod that computes this one.
    @inline(__always)
    func setHarm(_ part: inout PrefillPart, at state: PodState) {
        part.others =
            settings.externality * part.prefill * surroundings.arrivalRate * (part.queueing + part.prefill / 2)
        part.busy = part.prefill * state.profile.dollarsPerSecond
        part.eviction = eviction(prompt - Double(part.cachedTokens), state)
    }

    /// New KV displaces old: tokens × P(they would have been hit) × what computing them again costs.
    @inline(__always)
    func eviction(_ newTokens: Double, _ state: PodState) -> Double {
        max(newTokens, 0) * settings.reuse * state.profile.prefill.perTokenAboveKnee * state.calibration.prefillScale
            * (dials.valueOfTime + state.profile.dollarsPerSecond)
    }

    /// Slower than any network that carries KV: keeps a missing figure from dividing by zero.
    static let leastBandwidth = 1e6
}
