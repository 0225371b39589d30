// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

extension Router {
    /// Longer than any context of today; keeps sums of what clients claim from overflowing.
    static let maximumTokens = 1 << 24

    mutating func arrived(_ arrival: consuming InferenceRequest, into actions: inout [RouterAction]) {
        var request = consume arrival
        request.promptTokens = min(max(request.promptTokens, 1), Self.maximumTokens)
        request.outputTokens = min(max(request.outputTokens, 1), Self.maximumTokens)
        guard inFlight[request.id] == nil, !queue.contains(request.id) else { return }
        if options.hasPoolRules { request.ruledBy = rulingPool(of: request) }
        if let shadow = request.shadow { return watch(request, shadow, into: &actions) }
        guard request.isInference else {
            placeByLoad(request, into: &actions)
            return
        }
        arrivals.add(at: now.rawValue)
        counts.arrived += 1
        if bindsLate(request) {
            hold(request, into: &actions)
        } else {
            placeOrRefuse(request, arrivedAt: now, into: &actions)
        }
    }

    /// The gateway's subset may leave endpoints of one pool where the model alone leaves several: gateways with several
    /// pools tell them apart so.
    private mutating func rulingPool(of request: InferenceRequest) -> String? {
        let pool = pool(for: request)
        guard pool.onlyPool == nil, request.subset != nil, !options.ignoresSubset else { return pool.onlyPool }
        enter(pool, subset: request.subset)
        return Eligibility.common(frame.decodes.map { fleet.endpoints[$0].endpoint.pool })
    }

    /// Queues a request, if it can be served at all, and places what can be placed.
    private mutating func hold(_ request: InferenceRequest, into actions: inout [RouterAction]) {
        if let refusal = prepare(request, pool(for: request)) {
            recordRefusal(request, refusal)
            refuse(request.id, refusal, into: &actions)
        } else if enqueue(request) {
            pump(into: &actions)
        } else if request.isSheddable {
            shed(request, reason: "the queue is full", into: &actions)
        } else {
            counts.overflowed += 1
            placeOrRefuse(request, arrivedAt: now, into: &actions)
        }
    }

    mutating func refuse(_ id: RequestID, _ refusal: Refusal, into actions: inout [RouterAction]) {
        counts.refused += 1
        actions.append(.refuse(id, refusal))
    }

    /// Chooses pods for a request now, and dispatches it or refuses it. One that may be refused is refused where its best
    /// place is predicted to be too late: whoever does not wait in the queue has no later moment for that.
    mutating func placeOrRefuse(_ request: InferenceRequest, arrivedAt: Instant, into actions: inout [RouterAction]) {
        switch choose(request, arrivedAt: arrivedAt, line: nil) {
        case .refused(let refusal): refuse(request.id, refusal, into: &actions)
        case .chosen(let choice):
            let bound = choice.facts.serviceLevel.ttft ?? Seconds(.infinity)
            if request.isSheddable, choice.facts.waited + choice.candidate.terms.ttft > bound {
                shed(request, reason: "it cannot meet its service level", into: &actions)
            } else {
                dispatch(request, choice, into: &actions)
            }
        }
    }

    /// Requests without an inference: the pod with the fewest requests, a draw among equals.
    private mutating func placeByLoad(_ request: InferenceRequest, into actions: inout [RouterAction]) {
        enter(pool(for: request), subset: request.subset)
        var loads = [Double?](repeating: nil, count: fleet.endpoints.count)
        for index in frame.decodes {
            loads[index] = Double(ledgers[index].inFlight) + ledgers[index].foreignBatch.rounded()
        }
        let load = LoadChoice(loads: loads, draw: draws.draw())
        record(request, load)
        guard let chosen = load.choice else {
            actions.append(.refuse(request.id, .noEndpoint(reason: "no endpoint is eligible")))
            return
        }
        let endpoint = fleet.endpoints[chosen].endpoint
        let placement: Placement = endpoint.role == .both ? .both(endpoint.id) : .local(endpoint.id)
        follow(request, at: chosen, placement)
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
