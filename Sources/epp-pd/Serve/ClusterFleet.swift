// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Fleet
import Kubernetes
import Router
import Synchronization

/// Joins what the cluster says of its pods with what the servers say of themselves, and tells the fleet.
final class ClusterFleet: Sendable {
    /// How often what servers have said is looked at again.
    private static let learnInterval = 1.0

    private struct State {
        var cluster: ClusterState?
        var learned = LearnedFacts()
        var learnedAt = -Double.infinity
        var map = PodMap()
        var replace: (@Sendable ([EndpointDescription]) -> Void)?
        var tellRules: (@Sendable (RequestRules) -> Void)?
        var rules = RequestRules()
        var tellRoutes: (@Sendable (RoutePools) -> Void)?
        var routes = RoutePools()
        var found: (@Sendable () -> Void)?
    }

    private let configuration: [String: PoolDefaults]
    private let clock: ModelClock
    private let state = Mutex(State())

    init(configuration: [String: PoolDefaults], clock: ModelClock) {
        self.configuration = configuration
        self.clock = clock
    }

    /// Where the fleet, the rules of requests and what gateways ask for which pool are told to.
    func attach(
        replace: @escaping @Sendable ([EndpointDescription]) -> Void,
        rules: @escaping @Sendable (RequestRules) -> Void,
        routes: (@Sendable (RoutePools) -> Void)?
    ) {
        state.withLock { state in
            state.replace = replace
            state.tellRules = rules
            state.tellRoutes = routes
        }
    }

    /// What was concluded of each pod.
    var pods: [PodConclusion] { state.withLock { $0.map.pods } }

    /// Calls `found` once, when the pods of at least one pool are known.
    func whenFirstFound(_ found: @escaping @Sendable () -> Void) { state.withLock { $0.found = found } }

    func clusterChanged(_ cluster: ClusterState) {
        let found: (@Sendable () -> Void)? = state.withLock { state in
            state.cluster = cluster
            remap(&state)
            let rules = cluster.requestRules
            if rules != state.rules { state.tellRules?(rules) }
            state.rules = rules
            let routes = RoutePools(cluster.pools, namespace: cluster.namespace)
            if routes != state.routes { state.tellRoutes?(routes) }
            state.routes = routes
            // A picker of pools that do not exist has nothing to route to.
            guard cluster.pools.contains(where: { $0.ports != nil }) else { return nil }
            defer { state.found = nil }
            return state.found
        }
        found?()
    }

    /// Servers say which model they serve, and the size of their blocks, where nobody else does.
    func fleetChanged(_ snapshot: FleetSnapshot) {
        let now = clock.wall(Seconds(clock.now.rawValue)).rawValue
        state.withLock { state in
            guard state.cluster != nil, now - state.learnedAt >= Self.learnInterval else { return }
            state.learnedAt = now
            var learned = LearnedFacts()
            for status in snapshot.endpoints {
                let models = status.modelListIsFresh ? status.endpoint.servedModels ?? [] : []
                let before = state.learned.servers[status.endpoint.name]
                let server = LearnedFacts.Server(
                    models: models.first.map { [$0] } ?? before?.models ?? [],
                    blockSize: status.load?.kvBlockSize ?? before?.blockSize
                )
                if !server.models.isEmpty || server.blockSize != nil { learned.servers[status.endpoint.name] = server }
            }
            guard learned != state.learned else { return }
            state.learned = learned
            remap(&state)
        }
    }

    private func remap(_ state: inout State) {
        guard let cluster = state.cluster else { return }
        let map = PodMapping.map(cluster, configuration, state.learned)
        let isNew = map.endpoints != state.map.endpoints
        state.map = map
        if isNew { state.replace?(map.endpoints) }
    }
}
