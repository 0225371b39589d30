// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What the cluster's API says of requests before they are decided on: their priority, and which model serves them.
package struct RequestRules: Sendable, Hashable {
    package struct Target: Sendable, Hashable {
        package var model: String
        /// nil: gets requests only where no target of the split has a weight.
        package var weight: Int?

        package init(model: String, weight: Int? = nil) {
            self.model = model
            self.weight = weight
        }
    }

    /// Requests for some models are served by others, by weight.
    package struct Split: Sendable, Hashable {
        /// Models that it is for. Empty: any.
        package var models: [String]
        package var targets: [Target]

        package init(models: [String], targets: [Target]) {
            self.models = models
            self.targets = targets
        }
    }

    /// By the name of the objective that a request's header carries.
    package var objectives: [String: Int]
    /// By the model that a request asks for, where it names no objective.
    package var modelPriorities: [String: Int]
    /// The first that names the model counts; where none does, the first that is for any.
    package var splits: [Split]

    package init(objectives: [String: Int] = [:], modelPriorities: [String: Int] = [:], splits: [Split] = []) {
        self.objectives = objectives
        self.modelPriorities = modelPriorities
        self.splits = splits
    }

    package func priority(objective: String?, model: String?) -> Int {
        objective.flatMap { objectives[$0] } ?? model.flatMap { modelPriorities[$0] } ?? 0
    }

    /// The model that serves a request for `model`. nil: the one that it asks for.
    ///
    /// `draw` decides between the targets: the same draw has the same target while the weights stay, and a changed weight moves
    /// only the draws at its edges.
    package func target(for model: String, draw: UInt64) -> String? {
        guard
            let split = splits.first(where: { $0.models.contains(model) }) ?? splits.first(where: { $0.models.isEmpty })
        else { return nil }
        // Weights of a million at most, ten targets at most by the schema; what is beyond is cut, not trapped on.
        let weights = split.targets.map { Double(max($0.weight ?? 0, 0)) }
        let total = weights.reduce(0, +)
        let shares = total > 0 ? weights : weights.map { _ in 1 }
        let point = Double(draw >> 11) * 0x1p-53 * (total > 0 ? total : Double(shares.count))
        var sum = 0.0
        var chosen: String?
        for (target, share) in zip(split.targets, shares) where share > 0 {
            chosen = target.model
            sum += share
            if point < sum { break }
        }
        return chosen == model ? nil : chosen
    }

    /// A draw that is the same for the same words: FNV-1a, mixed as SplitMix64 mixes its counter.
    package static func draw(of words: String) -> UInt64 {
        var hash: UInt64 = 0xCBF2_9CE4_8422_2325
        for byte in words.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
        return mixed(hash)
    }

    /// A draw of one request alone.
    package static func draw(of number: UInt64, seed: UInt64) -> UInt64 {
        mixed(number &* 0x9E37_79B9_7F4A_7C15 &+ seed)
    }

    private static func mixed(_ value: UInt64) -> UInt64 {
        var z = value
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
