// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Router

/// What one request on its way was expected to find cached, to be compared with what its answer reports.
struct CacheForecast {
    private let prefiller: EndpointID
    /// Tokens that the index held for the prefiller, before trust was taken off.
    private let held: Int
    /// The prefiller and the pod that answers are two, and the answer's count of cached tokens is not the prefiller's.
    private let hidesPrefill: Bool
    /// A pulled prefix is no hit of the prefiller's own cache.
    private let pulls: Bool

    init(_ decision: Decision, trust: Double, pairsReportPrefill: Bool) {
        prefiller = decision.placement.prefiller
        held = Int(min(Double(max(decision.predictedCachedTokens, 0)) / max(trust, 0.01), 1e9))
        hidesPrefill = !pairsReportPrefill && decision.placement.prefiller != decision.placement.destination
        // What is loaded from a shared store, engines count as cached.
        pulls = decision.pullFrom.map { SharedStore.place(of: $0) == nil } ?? false
    }

    /// The outcome as far as it says anything of the prefiller: a decode pod counts what it was sent, or has itself.
    func known(_ outcome: Outcome) -> Outcome {
        guard hidesPrefill else { return outcome }
        var known = outcome
        known.cachedTokens = nil
        return known
    }

    func compare(_ outcome: Outcome, _ prefixes: PrefixKnowledge) {
        guard outcome.kind == .completed, !outcome.isEarly, !pulls, let prompt = outcome.promptTokens else { return }
        prefixes.ended(
            at: prefiller,
            promptTokens: prompt,
            predicted: min(held, max(prompt - 1, 0)),
            reported: known(outcome).cachedTokens
        )
    }
}
