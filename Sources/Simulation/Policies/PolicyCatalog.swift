// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
package import Router

/// Makes policies by name, and says which settings a tuned baseline is chosen from.
package struct PolicyCatalog {
    package var mode: Mode
    package var options: SimulationOptions
    /// The fleet's, as engine priorities are set per pool.
    package var pools: Set<String> = []
    /// Changes what our policies are told, for experiments.
    package var adjust: (inout RouterOptions) -> Void

    package init(
        mode: Mode,
        options: SimulationOptions,
        pools: Set<String> = [],
        adjust: @escaping (inout RouterOptions) -> Void = { _ in }
    ) {
        self.mode = mode
        self.options = options
        self.pools = pools
        self.adjust = adjust
    }

    /// One way to run a policy.
    package struct Variant {
        package let make: PolicyMaker
        package let knowledge: PolicyKnowledge
    }

    /// The policy itself; for a tuned baseline every setting of its sweep.
    package func variants(of name: PolicyName) -> [Variant] {
        if name.base.isOurs {
            let knowledge: PolicyKnowledge = name.base == .jointClairvoyant ? .clairvoyant : PolicyKnowledge()
            return [Variant(make: router(name.base, knowledge), knowledge: knowledge)]
        }
        let rules = name.isTuned ? Self.sweep(of: name.base) : [Self.standard(name.base)]
        return rules.map { rule in
            Variant(
                make: { _, prefixes, seed in
                    BaselinePolicy(rule: rule, prefixes: prefixes, pulls: name.pulls, seed: seed)
                },
                knowledge: PolicyKnowledge()
            )
        }
    }

    private func router(_ base: PolicyName.Base, _ knowledge: PolicyKnowledge) -> PolicyMaker {
        var routerOptions = RouterOptions(binding: base == .jointEarly ? .early : .late, mode: mode)
        routerOptions.queue.controlDelay = Seconds(knowledge.exactState ? 0 : options.controlDelay)
        routerOptions.connectors = options.connectors
        routerOptions.serviceLevel = options.serviceLevel
        if options.enginePriority {
            routerOptions.enginePriority = Dictionary(uniqueKeysWithValues: pools.map { ($0, .lowestFirst) })
        }
        adjust(&routerOptions)
        let made = routerOptions
        return { _, prefixes, seed in
            RouterPolicy(
                router: Router(options: made, prefixes: prefixes, seed: seed),
                allowsPulls: base != .jointNoPull
            )
        }
    }

    /// The rule as published.
    static func standard(_ base: PolicyName.Base) -> any BaselineRule {
        switch base {
        case .random: RandomRule()
        case .roundRobin: RoundRobinRule()
        case .leastRequest: LeastRequestRule()
        case .hashBoundedLoad: HashBoundedLoadRule()
        case .sglangCacheAware: SGLangCacheAwareRule()
        case .llmD: LLMDRule()
        case .dynamo: DynamoRule()
        case .lmetric, .jointEarly, .joint, .jointClairvoyant, .jointNoPull: LMetricRule()
        }
    }

    /// The settings that `@tuned` tries. Those without a setting have themselves.
    static func sweep(of base: PolicyName.Base) -> [any BaselineRule] {
        switch base {
        case .hashBoundedLoad: [1.1, 1.25, 1.5, 2].map { HashBoundedLoadRule(bound: $0) }
        case .sglangCacheAware:
            [0.1, 0.3, 0.5].flatMap { threshold in
                [4, 16, 64].map { SGLangCacheAwareRule(threshold: threshold, absolute: $0) }
            }
        case .llmD:
            [0, 16, 512, 2048, 8192].flatMap { tokens in
                [1.0, 3, 10].map { LLMDRule(prefixWeight: $0, nonCachedTokens: tokens) }
            }
        case .dynamo:
            [0.5, 1, 2].flatMap { scale in [0.5, 1, 2].map { DynamoRule(prefillScale: scale, overlapCredit: $0) } }
        case .lmetric: [0, 0.5, 1].map { LMetricRule(batchExponent: $0) }
        default: [standard(base)]
        }
    }
}
