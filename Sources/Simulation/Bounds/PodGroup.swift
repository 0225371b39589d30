// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Router

/// Pods of one role and one profile, which differ by their constant speeds alone.
struct PodGroup {
    var role: Role
    /// Of a pod whose speed is its profile's.
    var profile: PodProfile
    /// Times as long as the profile says that its fastest pod takes.
    var leastSlowness: Double
    /// Seconds of the profile's work that the group does in a second.
    var capacity: Double

    /// Fleets up to this size are taken pod by pod, which bounds them closer.
    private static let mostApart = 24

    /// The pods by role and profile; one by one where `apart` says so, or where it says nothing and they are few.
    static func groups(_ endpoints: [Endpoint], slowness: [Double], apart: Bool? = nil) -> [PodGroup] {
        let isApart = apart ?? (endpoints.count <= mostApart)
        var places: [PodKind: Int] = [:]
        var groups: [PodGroup] = []
        for (index, endpoint) in endpoints.enumerated() {
            let kind = PodKind(
                role: endpoint.role,
                profile: endpoint.profile,
                pod: isApart ? index : -1
            )
            let slow = max(slowness[index], 1e-9)
            if let place = places[kind] {
                groups[place].leastSlowness = min(groups[place].leastSlowness, slow)
                groups[place].capacity += 1 / slow
            } else {
                places[kind] = groups.count
                groups.append(
                    PodGroup(role: endpoint.role, profile: endpoint.profile, leastSlowness: slow, capacity: 1 / slow)
                )
            }
        }
        return groups
    }

    private struct PodKind: Hashable {
        var role: Role
        var profile: PodProfile
        var pod: Int
    }

    /// Seconds that the profile says for a prompt with nothing beside it. Pods that decode cut it into chunks.
    func prompt(newTokens: Int, cachedTokens: Int) -> Double {
        guard role != .prefill else {
            return profile.prefill.duration(newTokens: newTokens, cachedTokens: cachedTokens).rawValue
        }
        return profile.mixed.chunkedPrefill(
            newTokens: Double(newTokens),
            cachedTokens: Double(cachedTokens),
            budget: Double(ModelServerConfiguration.defaultTokenBudget),
            batch: 0,
            kvTokens: 0
        ).duration.rawValue
    }

    /// Seconds of the profile that the prompt adds at least to what the pods do. Pods that cut prompts into chunks may fill
    /// a step with several, so that the step's fixed part is shared, and take the faster of two formulas: with decodes
    /// beside, or without.
    func leastPrompt(newTokens: Int, cachedTokens: Int) -> Double {
        guard role != .prefill else { return prompt(newTokens: newTokens, cachedTokens: cachedTokens) }
        let c = profile.prefill
        let alone = StepCoefficients(
            knee: c.knee,
            base: c.base,
            perTokenBelowKnee: c.perTokenBelowKnee,
            perTokenAboveKnee: c.perTokenAboveKnee,
            perPair: c.perPair,
            perSequence: 0,
            perKVToken: c.perContextToken
        )
        let (n, p) = (Double(max(newTokens, 0)), Double(max(cachedTokens, 0)))
        let budget = Double(ModelServerConfiguration.defaultTokenBudget)
        return [alone, profile.mixed].map { c in
            // A step's time over its tokens is least at the knee or in a full step.
            func share(_ tokens: Double) -> Double {
                (c.base + c.perTokenBelowKnee * min(tokens, c.knee) + c.perTokenAboveKnee * max(tokens - c.knee, 0))
                    / tokens
            }
            let each = min(share(budget), share(min(max(c.knee, 1), budget)))
            // Chunk m ends at context p + m·budget: Σ over n ÷ budget of them, which need not be whole here.
            let context = n / budget * p + n * (n / budget + 1) / 2
            return each * n + c.perPair * (n * p + n * n / 2) + c.perKVToken * context
        }.min() ?? 0
    }
}
