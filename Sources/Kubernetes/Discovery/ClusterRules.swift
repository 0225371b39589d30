// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Router

extension ClusterState {
    /// What the cluster's objectives, rewrites and models say of requests.
    ///
    /// A rewrite counts before an InferenceModel, which it supersedes; of several rewrites for a model the first by name.
    package var requestRules: RequestRules {
        var rules = RequestRules()
        for objective in objectives { rules.objectives[objective.metadata.name] = objective.priority }
        for rewrite in rewrites {
            for rule in rewrite.spec.rules where !rule.targets.isEmpty {
                rules.splits.append(
                    RequestRules.Split(
                        models: (rule.matches ?? []).map(\.model.value),
                        targets: rule.targets.map { RequestRules.Target(model: $0.modelRewrite, weight: $0.weight) }
                    )
                )
            }
        }
        for model in models {
            let name = model.spec.modelName
            if let criticality = model.spec.criticality { rules.modelPriorities[name] = criticality.priority }
            guard let targets = model.spec.targetModels, !targets.isEmpty else { continue }
            rules.splits.append(
                RequestRules.Split(
                    models: [name],
                    targets: targets.map { RequestRules.Target(model: $0.name, weight: $0.weight) }
                )
            )
        }
        return rules
    }
}
