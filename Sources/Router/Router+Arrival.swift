// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex

extension Router {
    /// Longer than any context of today; keeps sums of what clients claim from overflowing.
    static let maximumTokens = 1 << 24

    mutating func arrived(_ arrival: InferenceRequest, into actions: inout [RouterAction]) {
        var request = arrival
        request.promptTokens = min(max(arrival.promptTokens, 1), Self.maximumTokens)
        request.outputTokens = min(max(arrival.outputTokens, 1), Self.maximumTokens)
        guard inFlight[request.id] == nil else { return }
        guard request.isInference else {
            placeByLoad(request, into: &actions)
            return
        }
        arrivals.add(at: now.rawValue)
        counts.arrived += 1
        if let refusal = place(request, arrivedAt: now, into: &actions) {
            counts.refused += 1
            actions.append(.refuse(request.id, refusal))
        }
    }

    /// Chooses pods for a request now, and dispatches it. - Returns: why it could not be.
    mutating func place(
        _ request: InferenceRequest,
        arrivedAt: Instant,
        into actions: inout [RouterAction]
    ) -> Refusal? {
        let pool = pool(for: request)
        if let model = request.model, pool.modelIsUnknown, options.refusesUnknownModels { return .unknownModel(model) }
        enter(pool, subset: request.subset)
        guard !frame.decodes.isEmpty else { return .noEndpoint(reason: emptyReason(pool, request)) }
        lookUp(request.prefix)
        refresh()
        let facts = facts(of: request, pool: pool, arrivedAt: arrivedAt)
        let draw = draws.draw()
        let dials = options.classes[options.classIndex(of: request.priority)].dials
        let settings = currentSettings
        let chosen = search.best(for: facts, in: frame, dials: dials, settings: settings, draw: draw)
        record(facts, pool: pool, dials: dials, settings: settings, draw: draw, chosen: chosen)
        guard let chosen else { return .noEndpoint(reason: "no candidate within the price limit") }
        dispatch(request, facts, chosen, dials: dials, settings: settings, draw: draw, into: &actions)
        return nil
    }

    /// Settings, with what was learned in place of defaults.
    var currentSettings: CostSettings {
        var settings = options.settings
        settings.reuse = reuse.share
        return settings
    }

    func facts(of request: InferenceRequest, pool: CandidatePool, arrivedAt: Instant) -> RequestFacts {
        RequestFacts(
            id: request.id,
            model: request.model,
            promptTokens: request.promptTokens,
            outputTokens: request.outputTokens,
            streams: request.streams,
            priority: request.priority,
            serviceLevel: options.serviceLevel(of: request),
            waited: now - arrivedAt,
            priceLimit: pool.priceLimit,
            externalID: request.externalID.isEmpty ? nil : request.externalID
        )
    }

    /// Sets the frame's candidates. The gateway's subset restricts destinations, not prefill pods.
    mutating func enter(_ pool: CandidatePool, subset: [String]?) {
        frame.prefills = pool.prefills.isEmpty ? pool.sparePrefills : pool.prefills
        guard let subset, !options.ignoresSubset else {
            frame.decodes = pool.decodes.isEmpty ? pool.spareDecodes : pool.decodes
            return
        }
        let filter = SubsetFilter(subset)
        frame.decodes = pool.decodes.filter { filter.allows(fleet.endpoints[$0].endpoint) }
        if frame.decodes.isEmpty {
            frame.decodes = pool.spareDecodes.filter { filter.allows(fleet.endpoints[$0].endpoint) }
        }
    }

    private func emptyReason(_ pool: CandidatePool, _ request: InferenceRequest) -> String {
        if fleet.endpoints.isEmpty { return "the fleet is empty" }
        if pool.decodes.isEmpty, pool.spareDecodes.isEmpty { return "no decode-capable endpoint is eligible" }
        return request.subset == nil ? "no endpoint is eligible" : "the subset matches no eligible endpoint"
    }

    /// Asks the index who holds the prompt's start.
    mutating func lookUp(_ keys: PrefixKeys) {
        for holding in holdings {
            if let index = index(of: holding.endpoint) { frame.held[index] = 0 }
        }
        holdings.removeAll(keepingCapacity: true)
        guard !keys.hashes.isEmpty else { return }
        prefixes.holders(of: keys, into: &holdings)
        for holding in holdings {
            if let index = index(of: holding.endpoint) { frame.held[index] = max(holding.tokens, 0) }
        }
    }

    /// Brings the states of the pods in play to now.
    mutating func refresh() {
        let time = now.rawValue
        let window = options.settings.guardWindow
        // Every pod here may compute prompts; which ones will, later decisions say.
        let rate = arrivals.perSecond(at: time) / Double(max(frame.prefills.count + frame.decodes.count, 1))
        for index in frame.prefills {
            ledgers[index].refresh(&frame.states[index], window: window, now: time)
            frame.states[index].arrivalRate = rate
        }
        for index in frame.decodes {
            ledgers[index].refresh(&frame.states[index], window: window, now: time)
            frame.states[index].arrivalRate = rate
        }
    }

    private mutating func dispatch(
        _ request: InferenceRequest,
        _ facts: RequestFacts,
        _ chosen: Candidate,
        dials: Dials,
        settings: CostSettings,
        draw: UInt64,
        into actions: inout [RouterAction]
    ) {
        reuse.add(Double(chosen.cachedTokens), of: Double(max(request.promptTokens, 1)))
        let terms = chosen.terms
        let decision = Decision(
            placement: chosen.placement,
            pullFrom: chosen.pullFrom,
            fallbacks: fallbacks(facts, chosen, dials: dials, settings: settings, draw: draw),
            predictedTTFT: facts.waited + terms.ttft,
            predictedTPOT: terms.tpot,
            predictedDollars: terms.busy,
            predictedCachedTokens: chosen.cachedTokens
        )
        counts.dispatched(chosen.placement)
        enterLedger(request, chosen, waited: facts.waited)
        // Learned now, not when the answer comes: the siblings of a new prefix arrive before that.
        if !request.prefix.hashes.isEmpty {
            prefixes.learn(request.prefix, at: chosen.placement.prefiller)
            if chosen.placement.prefiller != chosen.placement.destination {
                prefixes.learn(request.prefix, at: chosen.placement.destination)
            }
        }
        actions.append(.dispatch(request.id, decision))
    }

    /// Next best destinations that work with the same prefiller, or without one.
    private mutating func fallbacks(
        _ facts: RequestFacts,
        _ chosen: Candidate,
        dials: Dials,
        settings: CostSettings,
        draw: UInt64
    ) -> [EndpointID] {
        guard options.fallbacks > 0 else { return [] }
        let ranked = search.ranked(for: facts, in: frame, dials: dials, settings: settings, draw: draw)
        var result: [EndpointID] = []
        for candidate in ranked where candidate.ineligible == nil && result.count < options.fallbacks {
            let destination = candidate.placement.destination
            guard destination != chosen.placement.destination, !result.contains(destination) else { continue }
            if case .pair(let prefill, _) = chosen.placement {
                guard case .pair(prefill, _) = candidate.placement else { continue }
            }
            result.append(destination)
        }
        return result
    }

    private mutating func record(
        _ facts: RequestFacts,
        pool: CandidatePool,
        dials: Dials,
        settings: CostSettings,
        draw: UInt64,
        chosen: Candidate?
    ) {
        guard options.recordedShare > 0, records.count < Self.maximumRecords,
            Double(mixed(facts.id.rawValue) >> 11) * 0x1p-53 < options.recordedShare
        else { return }
        let prefills = Set(frame.prefills)
        let decodes = Set(frame.decodes)
        let pods = fleet.endpoints.enumerated().map { index, status in
            let used = prefills.contains(index) || decodes.contains(index)
            return PodView(
                name: status.endpoint.name,
                accelerator: status.endpoint.accelerator,
                held: frame.held[index],
                mayPrefill: prefills.contains(index),
                mayDecode: decodes.contains(index),
                ineligible: used ? nil : pool.reasons[index] ?? .notInSubset,
                state: frame.states[index]
            )
        }
        let input = DecisionInput(
            now: now,
            draw: draw,
            request: facts,
            dials: dials,
            settings: settings,
            layouts: frame.links.layouts,
            connectors: options.connectors,
            pods: pods
        )
        records.append(DecisionRecord(input: input, chosen: chosen))
    }
}
