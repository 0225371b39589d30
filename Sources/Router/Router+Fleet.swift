// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel

extension Router {
    /// Takes over a new picture of the fleet. What is known of endpoints that stay is kept.
    mutating func fleetChanged(_ snapshot: FleetSnapshot, into actions: inout [RouterAction]) {
        let known = Dictionary(
            fleet.endpoints.enumerated().map { ($1.endpoint.id, $0) },
            uniquingKeysWith: { first, _ in first }
        )
        var sorted = snapshot
        sorted.endpoints = Self.distinct(snapshot.endpoints)
        let sameFleet = Self.isSameForPools(fleet, sorted)
        var ledgers: [PodLedger] = []
        var healths: [EndpointHealth] = []
        var loadSeen: [Instant?] = []
        var calibrators: [PodCalibrator] = []
        var phases: [PhaseSums] = []
        for status in sorted.endpoints {
            let before = known[status.endpoint.id]
            ledgers.append(before.map { self.ledgers[$0] } ?? PodLedger())
            healths.append(before.map { self.healths[$0] } ?? EndpointHealth())
            let endpoint = status.endpoint
            let own = before.map { self.calibrators[$0] }.flatMap {
                $0.configuration == endpoint.configuration ? $0 : nil
            }
            calibrators.append(
                own ?? restored.take(endpoint)
                    ?? PodCalibrator(profile: endpoint.profile, configuration: endpoint.configuration)
            )
            phases.append(before.map { self.phases[$0] } ?? PhaseSums())
            loadSeen.append(before.flatMap { self.loadSeen[$0] })
        }
        self.ledgers = ledgers
        self.healths = healths
        self.loadSeen = loadSeen
        self.calibrators = calibrators
        self.phases = phases
        fleet = sorted
        shared.follow(sorted.endpoints)
        if !sameFleet {
            hostPorts.removeAll(keepingCapacity: true)
            for (index, status) in sorted.endpoints.enumerated() { hostPorts[status.endpoint.hostPort] = index }
            hasDecoders = sorted.endpoints.contains { $0.endpoint.role.canDecode }
            fleetHasPrefills = sorted.endpoints.contains { $0.endpoint.mayPrefillForOthers }
        }
        if !sameFleet || frame.states.count != sorted.endpoints.count { rebuildFrame() }
        if !sameFleet {
            monitors.follow(sorted.endpoints)
            forgetPools()
            transfers.makeRoom(keeping: Set(sorted.endpoints.map(\.endpoint.name)))
            refuseUnservable(into: &actions)
        }
        for (index, status) in sorted.endpoints.enumerated() {
            if let load = status.load {
                take(load, at: index)
            } else {
                self.ledgers[index].forgetForeign()
            }
        }
        pump(into: &actions)
    }

    /// Sorted by id, one of each.
    private static func distinct(_ endpoints: [EndpointStatus]) -> [EndpointStatus] {
        let sorted = endpoints.sorted { $0.endpoint.id < $1.endpoint.id }
        var result: [EndpointStatus] = []
        result.reserveCapacity(sorted.count)
        for status in sorted where result.last?.endpoint.id != status.endpoint.id { result.append(status) }
        return result
    }

    /// True when nothing changed but loads.
    private static func isSameForPools(_ a: FleetSnapshot, _ b: FleetSnapshot) -> Bool {
        guard a.endpoints.count == b.endpoints.count, a.modelListsAreFresh == b.modelListsAreFresh else { return false }
        return zip(a.endpoints, b.endpoints).allSatisfy {
            $0.unavailable == $1.unavailable && $0.modelListIsFresh == $1.modelListIsFresh && $0.endpoint == $1.endpoint
        }
    }

    private mutating func rebuildFrame() {
        var layouts: [KVLayout] = []
        var places = PlaceNumbers()
        var states: [PodState] = []
        for (status, calibrator) in zip(fleet.endpoints, calibrators) {
            let endpoint = status.endpoint
            let kvClass: Int
            if let known = layouts.firstIndex(of: endpoint.kv) {
                kvClass = known
            } else {
                kvClass = layouts.count
                layouts.append(endpoint.kv)
            }
            states.append(
                PodState(
                    id: endpoint.id,
                    role: endpoint.role,
                    canPull: endpoint.canPullKV,
                    canPair: endpoint.kv.connector != nil,
                    kvClass: kvClass,
                    place: places.place(Location(labels: endpoint.labels)),
                    profile: endpoint.profile,
                    calibration: calibrator.calibration,
                    capacityTokens: status.load?.capacityTokens
                )
            )
        }
        frame = DecisionFrame(
            states: states,
            held: [Int](repeating: 0, count: states.count),
            prefills: [],
            decodes: [],
            links: KVLinks(layouts: layouts, connectors: options.connectors, network: options.network)
        )
        setCalibrations()
        setTransferCosts()
        holdings.removeAll(keepingCapacity: true)
        reachStores()
        holds.clear()
    }

    mutating func loadObserved(_ id: EndpointID, _ load: EndpointLoad) {
        guard let index = index(of: id) else { return }
        fleet.endpoints[index].load = load
        take(load, at: index)
    }

    private mutating func take(_ load: EndpointLoad, at index: Int) {
        guard loadSeen[index].map({ $0 < load.observedAt }) ?? true else { return }
        loadSeen[index] = load.observedAt
        if let capacity = load.capacityTokens { frame.update(index) { $0.capacityTokens = capacity } }
        if let adapters = load.adapters { ledgers[index].adapters.observe(adapters) }
        ledgers[index].observe(
            load,
            role: frame.states[index].role,
            capacity: frame.states[index].capacityTokens,
            now: now.rawValue
        )
    }

    /// Where an endpoint stands in the arrays; nil when it left the fleet.
    ///
    /// Inlined, like all that reads a part of the Router while it changes: a call would copy the whole of it first.
    @inline(__always)
    func index(of id: EndpointID) -> Int? { fleet.index(of: id) }

    mutating func forgetPools() {
        pools.removeAll(keepingCapacity: true)
        lastPool = nil
        poolsExpire = healths.compactMap { $0.pauseEnd(after: now) }.min()
    }

    /// Where requests like this one may go.
    mutating func pool(for request: InferenceRequest) -> CandidatePool {
        if let expire = poolsExpire, now >= expire { forgetPools() }
        let priority = options.constraints.isEmpty ? 0 : request.priority
        let key = PoolKey(model: request.model, pool: request.pool, priority: priority)
        if let last = lastPool, last.key == key { return last.pool }
        if let known = pools[key] {
            lastPool = (key, known)
            return known
        }
        var made = Eligibility.pool(
            for: key,
            statuses: fleet.endpoints,
            causes: healths.map { $0.cause(at: now) },
            listsAreFresh: fleet.modelListsAreFresh,
            constraints: options.constraints
        )
        made.monitors = monitors.places(of: made.decodes + made.spareDecodes)
        if pools.count >= Self.maximumPools { pools.removeAll(keepingCapacity: true) }
        pools[key] = made
        lastPool = (key, made)
        return made
    }
}

extension FleetSnapshot {
    /// The place of an endpoint among `endpoints`, which are sorted.
    func index(of id: EndpointID) -> Int? {
        // Ids are given out in order: in a fleet that nobody has left, an id's place is its distance from the first.
        if let first = endpoints.first?.endpoint.id, first <= id {
            let guess = Int(id.rawValue - first.rawValue)
            if guess < endpoints.count, endpoints[guess].endpoint.id == id { return guess }
        }
        var low = 0
        var high = endpoints.count
        while low < high {
            let middle = (low + high) / 2
            let found = endpoints[middle].endpoint.id
            if found == id { return middle }
            if found < id { low = middle + 1 } else { high = middle }
        }
        return nil
    }
}

extension EndpointLoad {
    /// Tokens of the engine's KV cache, where it says.
    var capacityTokens: Double? {
        guard let kvBlocks, let kvBlockSize, kvBlocks > 0, kvBlockSize > 0 else { return nil }
        return Double(kvBlocks) * Double(kvBlockSize)
    }
}
