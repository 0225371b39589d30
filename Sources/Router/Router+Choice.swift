// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex

/// The choice for one request: its frame, its numbers, the search.
extension Router {
    /// A candidate, and all that the search that found it was given.
    struct Choice {
        var candidate: Candidate
        var facts: RequestFacts
        var dials: Dials
        var settings: CostSettings
        var draw: UInt64
    }

    enum Verdict {
        case chosen(Choice)
        case refused(Refusal)
    }

    /// Makes the frame the request's own: its candidates, and what they hold of its prompt.
    /// - Returns: why there are no candidates.
    mutating func prepare(_ request: InferenceRequest, _ pool: CandidatePool) -> Refusal? {
        if let model = request.model, pool.modelIsUnknown, options.refusesUnknownModels { return .unknownModel(model) }
        enter(pool, subset: request.subset)
        guard !frame.decodes.isEmpty else { return .noEndpoint(reason: emptyReason(pool, request)) }
        lookUp(request)
        return nil
    }

    /// Where a request stands in the central queue.
    struct PlaceInLine {
        /// Seconds of prompts before this one in the order of service, which the pods that are not free yet will take first.
        var ahead = 0.0
        /// Others that wait for the same part of the fleet, those that are set aside not among them.
        var others = 0
    }

    /// The cheapest candidate now. `line`: nil for requests that do not wait.
    mutating func choose(_ request: InferenceRequest, arrivedAt: Instant, line: PlaceInLine?) -> Verdict {
        let pool = pool(for: request)
        if let refusal = prepare(request, pool) {
            recordRefusal(request, refusal)
            return .refused(refusal)
        }
        if line == nil { refreshAll() }
        findAdapter(request, pool)
        let facts = facts(of: request, priceLimit: pool.priceLimit, arrivedAt: arrivedAt)
        let settings = currentSettings
        // Every pod in play may compute prompts; which ones will, later decisions say.
        let pods = Double(max(frame.prefills.count + frame.decodes.count, 1))
        frame.surroundings = Surroundings(
            arrivalRate: Self.delayedShare(line, pods: pods) * arrivals.perSecond(at: now.rawValue) / pods,
            ahead: (line?.ahead ?? 0) / pods,
            openBelow: openBelow
        )
        let dials = dials(of: request)
        let draw = draws.draw()
        let chosen = search.best(for: facts, in: frame, dials: dials, settings: settings, draw: draw)
        guard let chosen else {
            let refusal = Refusal.noEndpoint(reason: "no candidate within the price limit")
            record(request, facts, dials: dials, settings: settings, draw: draw) { $0.refusal = refusal }
            return .refused(refusal)
        }
        return .chosen(Choice(candidate: chosen, facts: facts, dials: dials, settings: settings, draw: draw))
    }

    /// Of later arrivals, the share that counts as delayed by a request. One of the central queue: what comes while others wait
    /// is put in order with them, whichever pod this one takes. With one that waits for every fourth candidate it is half.
    ///
    /// Without it pods whose steps are long are given as much as others: ten 8B pods at saturation then had a mean TTFT of 560
    /// ms, with it 195 (docs/results/simulation.md, "Ten 8B pods").
    private static func delayedShare(_ line: PlaceInLine?, pods: Double) -> Double {
        line.map { 1 / (1 + 4 * Double($0.others) / pods) } ?? 1
    }

    @inline(__always)
    func dials(of request: InferenceRequest) -> Dials {
        control.applied(to: options.classes[options.classIndex(of: request.priority)].dials)
    }

    /// Settings, with what was learned in place of defaults.
    @inline(__always)
    var currentSettings: CostSettings {
        var settings = options.settings
        settings.reuse = reuse.share
        return settings
    }

    @inline(__always)
    func facts(of request: InferenceRequest, priceLimit: Dollars?, arrivedAt: Instant) -> RequestFacts {
        RequestFacts(
            id: request.id,
            model: request.model,
            promptTokens: request.promptTokens,
            outputTokens: request.outputTokens,
            streams: request.streams,
            priority: request.priority,
            serviceLevel: options.serviceLevel(of: request),
            waited: now - arrivedAt,
            priceLimit: priceLimit,
            externalID: options.recordedShare > 0 && !request.externalID.isEmpty ? request.externalID : nil
        )
    }

    /// Sets the frame's candidates. The gateway's subset restricts destinations, not prefill pods.
    mutating func enter(_ pool: CandidatePool, subset: [String]?) {
        // What another request needed.
        if !frame.adapters.isEmpty { frame.adapters.removeAll() }
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
    private mutating func lookUp(_ request: InferenceRequest) {
        guard lookedUp != request.id else { return }
        lookedUp = request.id
        for holding in holdings {
            if let index = index(of: holding.endpoint) { frame.held[index] = 0 }
        }
        holdings.removeAll(keepingCapacity: true)
        if !frame.stored.isEmpty { frame.stored.removeAll() }
        guard !request.prefix.hashes.isEmpty || request.tokenPrefix != nil else { return }
        prefixes.holders(of: request.prefix, tokens: request.tokenPrefix, into: &holdings)
        for holding in holdings {
            if let place = SharedStore.place(of: holding.endpoint) {
                take(place, tokens: holding.tokens, request)
                continue
            }
            guard let index = index(of: holding.endpoint) else { continue }
            frame.held[index] = UsableHit.tokens(
                held: holding.tokens,
                promptTokens: request.promptTokens,
                blockSize: fleet.endpoints[index].blockSize
            )
        }
    }

    mutating func refreshAll() {
        frame.refresh(
            &ledgers,
            window: options.settings.guardWindow,
            meanWork: meanWork,
            now: now.rawValue
        )
    }

    mutating func refresh(_ index: Int) {
        frame.refresh(
            &ledgers[index],
            at: index,
            window: options.settings.guardWindow,
            meanWork: meanWork,
            now: now.rawValue
        )
    }
}
