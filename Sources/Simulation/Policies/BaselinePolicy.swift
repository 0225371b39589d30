// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
import PrefixIndex
package import Router

/// Runs a baseline rule as a picker: keeps the counts that the rule's original keeps, places each request on arrival.
package final class BaselinePolicy: SimulatedPolicy {
    private var rule: any BaselineRule
    private let prefixes: any PrefixAnswers
    private let pulls: Bool
    private var draw: RandomStream
    private var pods: [BaselineView.Pod] = []
    private var indexOf: [EndpointID: Int] = [:]
    private var prefillers: [Int] = []
    private var decoders: [Int] = []
    private var sent: [RequestID: Sent] = [:]
    private var holdings: [PrefixHolding] = []

    private struct Sent {
        var prefiller: Int
        var decoder: Int
        var promptTokens: Int
        var uncached: Int
        var hasFirstToken = false
    }

    /// With `pulls` it fetches a missing prefix from the pod that holds most, where that is sooner than computing it.
    package init(rule: any BaselineRule, prefixes: any PrefixAnswers, pulls: Bool, seed: UInt64) {
        self.rule = rule
        self.prefixes = prefixes
        self.pulls = pulls
        draw = RandomStream(seed: seed)
    }

    package var parameters: [String: String] { rule.parameters.merging(pulls ? ["pull": "true"] : [:]) { a, _ in a } }

    package func handle(_ event: RouterEvent, at now: Instant, into actions: inout [RouterAction]) {
        switch event {
        case .arrived(let request): place(request, into: &actions)
        case .firstToken(let id): endPrefill(id)
        case .ended(let id, _):
            endPrefill(id)
            guard let request = sent.removeValue(forKey: id) else { return }
            pods[request.decoder].decoding -= 1
            pods[request.decoder].decodingTokens -= request.promptTokens
            pods[request.decoder].inFlight -= 1
        case .fleetChanged(let snapshot): refresh(snapshot)
        case .loadObserved(let id, let load):
            if let index = indexOf[id] { take(load, at: index) }
        default: return
        }
    }

    private func refresh(_ snapshot: FleetSnapshot) {
        if pods.isEmpty {
            pods = snapshot.endpoints.map { BaselineView.Pod(endpoint: $0.endpoint) }
            indexOf = Dictionary(uniqueKeysWithValues: pods.enumerated().map { ($1.endpoint.id, $0) })
            prefillers = pods.indices.filter { pods[$0].endpoint.role.canPrefill }
            decoders = pods.indices.filter { pods[$0].endpoint.role.canDecode }
        }
        for (index, status) in snapshot.endpoints.enumerated() where index < pods.count {
            pods[index].isAvailable = status.unavailable == nil
            if let load = status.load { take(load, at: index) }
        }
    }

    private func take(_ load: EndpointLoad, at index: Int) {
        pods[index].waiting = load.waiting
        pods[index].running = load.running
        pods[index].kvUse = load.kvUse
    }

    private func endPrefill(_ id: RequestID) {
        guard let request = sent[id], !request.hasFirstToken else { return }
        sent[id]?.hasFirstToken = true
        pods[request.prefiller].pendingTokens -= request.uncached
        pods[request.prefiller].pendingPromptTokens -= request.promptTokens
        if request.prefiller != request.decoder { pods[request.prefiller].inFlight -= 1 }
    }

    private func place(_ request: InferenceRequest, into actions: inout [RouterAction]) {
        prefixes.holders(of: request.prefix, into: &holdings)
        for index in pods.indices { pods[index].held = 0 }
        for holding in holdings {
            guard let index = indexOf[holding.endpoint] else { continue }
            pods[index].held = min(holding.tokens, max(request.promptTokens - 1, 0))
        }
        let view = BaselineView(pods: pods, request: request)
        guard let (prefiller, decoder) = choose(view) else {
            actions.append(.refuse(request.id, .noEndpoint(reason: "no pod is available")))
            return
        }
        let decision = decide(view, prefiller, decoder)
        note(view, prefiller, decoder)
        prefixes.learn(request.prefix, at: pods[prefiller].endpoint.id)
        if decoder != prefiller { prefixes.learn(request.prefix, at: pods[decoder].endpoint.id) }
        actions.append(.dispatch(request.id, decision))
    }

    private func choose(_ view: BaselineView) -> (prefiller: Int, decoder: Int)? {
        let prefill = prefillers.filter { pods[$0].isAvailable }
        let decode = decoders.filter { pods[$0].isAvailable }
        guard !prefill.isEmpty, !decode.isEmpty else { return nil }
        // A fleet of pods of both roles only is not disaggregated.
        if prefill == decode {
            let pod = rule.choose(.whole, among: decode, view, &draw)
            return (pod, pod)
        }
        guard rule.choosesDecodeFirst else {
            let prefiller = rule.choose(.prefill, among: prefill, view, &draw)
            if pods[prefiller].endpoint.role == .both { return (prefiller, prefiller) }
            return (prefiller, rule.choose(.decode, among: decode, view, &draw))
        }
        let decoder = rule.choose(.decode, among: decode, view, &draw)
        guard pods[decoder].endpoint.role == .decode, rule.disaggregates(view, decode: decoder) else {
            return (decoder, decoder)
        }
        return (rule.choose(.prefill, among: prefill, view, &draw), decoder)
    }

    private func note(_ view: BaselineView, _ prefiller: Int, _ decoder: Int) {
        let tokens = view.request.promptTokens
        let uncached = view.uncached(prefiller)
        sent[view.request.id] = Sent(prefiller: prefiller, decoder: decoder, promptTokens: tokens, uncached: uncached)
        pods[prefiller].pendingTokens += uncached
        pods[prefiller].pendingPromptTokens += tokens
        if prefiller != decoder { pods[prefiller].inFlight += 1 }
        pods[decoder].decoding += 1
        pods[decoder].decodingTokens += tokens
        pods[decoder].inFlight += 1
    }

    private func decide(_ view: BaselineView, _ prefiller: Int, _ decoder: Int) -> Decision {
        let (p, d) = (pods[prefiller].endpoint, pods[decoder].endpoint)
        let placement: Placement =
            prefiller != decoder ? .pair(prefill: p.id, decode: d.id) : d.role == .both ? .both(d.id) : .local(d.id)
        let prefill = p.profile.prefill.duration(
            newTokens: view.uncached(prefiller),
            cachedTokens: pods[prefiller].held
        )
        return Decision(
            placement: placement,
            pullFrom: pulls ? peer(view, prefiller) : nil,
            predictedTTFT: prefill,
            predictedTPOT: d.profile.decode.step(batch: 1, kvTokens: Double(view.request.promptTokens)),
            predictedDollars: .zero,
            predictedCachedTokens: pods[prefiller].held
        )
    }

    /// The pod that holds most of the prompt, where fetching that is predicted to be sooner than computing it.
    private func peer(_ view: BaselineView, _ prefiller: Int) -> EndpointID? {
        let target = pods[prefiller].endpoint
        guard target.canPullKV,
            let source = pods.indices.max(by: { (pods[$0].held, $1) < (pods[$1].held, $0) }),
            source != prefiller, pods[source].held > pods[prefiller].held, pods[source].isAvailable
        else { return nil }
        let (here, there) = (pods[prefiller].held, pods[source].held)
        let rate = min(target.profile.networkBytesPerSecond, pods[source].endpoint.profile.networkBytesPerSecond)
        let fetch = Double(there - here) * target.profile.kvBytesPerToken / max(rate, 1)
        let tokens = view.request.promptTokens
        let computed = target.profile.prefill.duration(newTokens: tokens - here, cachedTokens: here)
        let rest = target.profile.prefill.duration(newTokens: tokens - there, cachedTokens: there)
        return fetch + rest.rawValue < computed.rawValue ? pods[source].endpoint.id : nil
    }
}
