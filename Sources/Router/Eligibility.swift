// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

/// The pods that requests of one kind may use. Worked out once per kind and fleet, not per request.
struct CandidatePool: Sendable {
    /// Indices, ascending.
    var prefills: [Int] = []
    var decodes: [Int] = []
    /// Unavailable ones, taken when none of the above is left.
    var sparePrefills: [Int] = []
    var spareDecodes: [Int] = []
    /// Per endpoint; nil = takes its part.
    var reasons: [Ineligibility?] = []
    /// Lowest price limit of the rules that match.
    var priceLimit: Dollars?
    /// The pool of all endpoints that serve the model, where it is one.
    var onlyPool: String?
    /// The pools of those that answer, as the monitors of late binding count them.
    var monitors: [Int] = []
    /// The model is a LoRA adapter at some endpoint.
    var isForAdapter = false
    /// Every list is fresh, and none names the model.
    var modelIsUnknown = false
}

/// What makes requests alike in where they may go.
struct PoolKey: Hashable, Sendable {
    var model: String?
    var pool: String?
    var priority: Int
}

enum Eligibility {
    /// Where requests of one kind may go. `causes` tells what answers have shown of each endpoint, in the fleet's order.
    static func pool(
        for key: PoolKey,
        statuses: [EndpointStatus],
        causes: [Unavailability?],
        listsAreFresh: Bool,
        constraints: [Constraint]
    ) -> CandidatePool {
        let rules = constraints.filter { $0.matches(model: key.model, priority: key.priority) }
        var pool = CandidatePool()
        pool.priceLimit = rules.compactMap(\.priceLimit).min()
        let served = servers(of: key, statuses)
        pool.modelIsUnknown = listsAreFresh && !statuses.isEmpty && !served.isKnown
        pool.isForAdapter =
            key.model.map { model in
                statuses.contains { $0.endpoint.adapters?.contains(model) ?? false }
            } ?? false
        pool.onlyPool = key.pool ?? common(statuses.indices.filter(served.contains).map { statuses[$0].endpoint.pool })
        for (index, status) in statuses.enumerated() {
            let endpoint = status.endpoint
            var reason: Ineligibility?
            // The pool of the route bounds destinations; a prompt may be computed anywhere.
            let isDestination = key.pool.map { $0 == endpoint.pool } ?? true
            if !isDestination, !endpoint.mayPrefillForOthers {
                reason = .otherPool
            } else if !served.contains(index) {
                reason = .modelNotServed
            } else if rules.contains(where: { $0.excludedPods.contains(endpoint.name) }) {
                reason = .excluded
            } else if rules.contains(where: { !($0.accelerators?.contains(endpoint.accelerator) ?? true) }) {
                reason = .acceleratorNotAllowed
            } else if let cause = Self.cause(status, causes[index]) {
                reason = Ineligibility(cause)
                if !cause.isFinal { spare(index, endpoint, cause, isDestination, into: &pool) }
            }
            pool.reasons.append(reason)
            guard reason == nil else { continue }
            if endpoint.mayPrefillForOthers { pool.prefills.append(index) }
            if endpoint.role.canDecode, isDestination { pool.decodes.append(index) }
        }
        return pool
    }

    /// The name that all are, nil where they differ or there is none.
    static func common(_ names: [String]) -> String? {
        guard let first = names.first, names.allSatisfy({ $0 == first }) else { return nil }
        return first
    }

    /// Discovery's own word is the last. Else what answers have shown weighs more than failing scrapes: such a pod is not kept
    /// as a spare prefill pod.
    private static func cause(_ status: EndpointStatus, _ shown: Unavailability?) -> Unavailability? {
        if let cause = status.unavailable, cause.isFinal { return cause }
        return shown ?? status.unavailable
    }

    /// An unavailable pod is still better than none. But what failed prompts or refused connections is no better than
    /// a decode pod that computes the prompt itself, so of prefill pods only those whose scrapes fail are kept.
    private static func spare(
        _ index: Int,
        _ endpoint: Endpoint,
        _ cause: Unavailability,
        _ isDestination: Bool,
        into pool: inout CandidatePool
    ) {
        if endpoint.role.canDecode, isDestination { pool.spareDecodes.append(index) }
        if endpoint.mayPrefillForOthers, cause == .unreachable { pool.sparePrefills.append(index) }
    }

    private struct Servers {
        var flags: [Bool]
        var isKnown: Bool
        func contains(_ index: Int) -> Bool { flags[index] }
    }

    /// Who serves the model: those whose list names it; where none does, those whose list may be incomplete.
    private static func servers(of key: PoolKey, _ statuses: [EndpointStatus]) -> Servers {
        guard let model = key.model else {
            return Servers(flags: [Bool](repeating: true, count: statuses.count), isKnown: true)
        }
        let named = statuses.map { $0.endpoint.servedModels?.contains(model) ?? false }
        let anyDecoder = statuses.indices.contains { named[$0] && statuses[$0].endpoint.role.canDecode }
        // A pod that was never told what it serves is no worse than one that says it serves the model.
        let untold = statuses.map { $0.endpoint.servedModels == nil }
        if anyDecoder {
            return Servers(flags: statuses.indices.map { named[$0] || untold[$0] }, isKnown: true)
        }
        let open = statuses.map { $0.endpoint.servedModels == nil || !$0.modelListIsFresh }
        // A model that prefill pods alone serve is known, though nobody can decode it now.
        let isKnown = open.contains(true) || named.contains(true)
        return Servers(flags: statuses.indices.map { named[$0] || open[$0] }, isKnown: isKnown)
    }
}

extension Endpoint {
    /// Prefill pods may; pods of both roles only where a KV connector is known, because a plain engine ignores pairs.
    var mayPrefillForOthers: Bool { role == .prefill || (role == .both && kv.connector != nil) }
}

/// Destinations that a gateway allows, as `ip:port` or `ip`, IPv6 with or without brackets.
struct SubsetFilter {
    private struct Place: Hashable {
        var address: String
        /// nil = every port.
        var port: UInt16?
    }

    private var places: Set<Place> = []

    init(_ entries: [String]) {
        for entry in entries {
            places.insert(Place(address: Self.bare(entry[...])))
            // Of an IPv6 address without brackets nobody can tell whether its last group is a port: both count.
            guard let colon = entry.lastIndex(of: ":"), let port = UInt16(entry[entry.index(after: colon)...]) else {
                continue
            }
            places.insert(Place(address: Self.bare(entry[..<colon]), port: port))
        }
    }

    func allows(_ endpoint: Endpoint) -> Bool {
        places.contains(Place(address: endpoint.address, port: endpoint.port))
            || places.contains(Place(address: endpoint.address))
    }

    private static func bare(_ address: Substring) -> String {
        address.first == "[" && address.last == "]" ? String(address.dropFirst().dropLast()) : String(address)
    }
}
