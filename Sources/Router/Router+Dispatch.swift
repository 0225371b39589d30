// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex

extension Router {
    /// Sends a request along a choice. `isRecorded` is false where the caller has recorded the choice itself.
    mutating func dispatch(
        _ request: InferenceRequest,
        _ choice: Choice,
        isRecorded: Bool = true,
        into actions: inout [RouterAction]
    ) {
        let chosen = choice.candidate
        let terms = chosen.terms
        let facts = choice.facts
        if isRecorded { record(choice, of: request) }
        let decision = Decision(
            placement: chosen.placement,
            pullFrom: chosen.pullFrom,
            fallbacks: fallbacks(choice),
            predictedTTFT: facts.waited + terms.ttft,
            predictedTPOT: terms.tpot,
            predictedDollars: terms.busy,
            predictedCachedTokens: chosen.cachedTokens,
            enginePriority: enginePriority(request, choice)
        )
        reuse.add(Double(chosen.cachedTokens), of: Double(max(request.promptTokens, 1)))
        meanWork = meanWork == 0 ? terms.prefill.rawValue : meanWork + 0.05 * (terms.prefill.rawValue - meanWork)
        counts.dispatched(chosen.placement, lacksPrefills: frame.prefills.isEmpty && fleetHasPrefills)
        enterLedger(request, choice)
        // Learned now, not when the answer comes: the siblings of a new prefix arrive before that.
        if !request.prefix.hashes.isEmpty {
            prefixes.learn(request.prefix, at: chosen.placement.prefiller)
            if chosen.placement.prefiller != chosen.placement.destination {
                prefixes.learn(request.prefix, at: chosen.placement.destination)
            }
        }
        actions.append(.dispatch(request.id, decision))
    }

    /// Arrival plus eight times the prompt's work, in milliseconds of Unix time: engines serve the lowest first, so short
    /// prompts overtake, and long ones age (in the simulator any factor from 4 to 64 does). A priority class is worth the
    /// longest hold. Both ends of a pair see the same body, so both pools must want the same.
    @inline(__always)
    private func enginePriority(_ request: InferenceRequest, _ choice: Choice) -> Int? {
        guard !options.enginePriority.isEmpty else { return nil }
        let placement = choice.candidate.placement
        guard let prefiller = index(of: placement.prefiller), let destination = index(of: placement.destination),
            let order = options.enginePriority[fleet.endpoints[prefiller].endpoint.pool],
            order == options.enginePriority[fleet.endpoints[destination].endpoint.pool]
        else { return nil }
        let arrival = options.epoch.rawValue + (now - choice.facts.waited).rawValue
        let ahead = Double(min(max(request.priority, -1000), 1000)) * options.queue.maximumHold.rawValue
        let key = (arrival + 8 * choice.candidate.terms.prefill.rawValue - ahead) * 1000
        // Engines take any integer; JSON readers keep 53 bits.
        let value = Int(min(max(key, -1e15), 1e15).rounded())
        return order == .lowestFirst ? value : -value
    }

    /// Next best destinations that work with the same prefiller, or without one.
    private mutating func fallbacks(_ choice: Choice) -> [EndpointID] {
        guard options.fallbacks > 0 else { return [] }
        let placement = choice.candidate.placement
        let ranked = search.ranked(
            for: choice.facts,
            in: frame,
            dials: choice.dials,
            settings: choice.settings,
            draw: choice.draw
        )
        var result: [EndpointID] = []
        for candidate in ranked where candidate.ineligible == nil && result.count < options.fallbacks {
            let destination = candidate.placement.destination
            guard destination != placement.destination, !result.contains(destination) else { continue }
            if case .pair(let prefill, _) = placement {
                guard case .pair(prefill, _) = candidate.placement else { continue }
            }
            result.append(destination)
        }
        return result
    }
}
