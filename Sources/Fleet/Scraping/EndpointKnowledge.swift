// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Router

/// What is known of one endpoint's state, and for how long it holds. Pure; `wall` times are seconds of wall time.
struct EndpointKnowledge {
    var endpoint: Endpoint
    /// What discovery says of its fitness.
    let standing: EndpointStanding
    /// Names that discovery gave.
    let namedModels: [String]

    private var observation: EngineObservation?
    private var load: EndpointLoad?
    private var lastGoodScrape: Double?
    /// When the first of the scrapes failed that have all gone unanswered since.
    private var silentSince: Double?
    private var listedModels: [ListedModel] = []
    private var lastList: Double?

    init(endpoint: Endpoint, standing: EndpointStanding = .serving) {
        self.endpoint = endpoint
        self.standing = standing
        namedModels = endpoint.servedModels ?? []
    }

    /// Keeps what was observed when discovery describes the same endpoint anew.
    mutating func redescribe(_ other: Endpoint, standing: EndpointStanding) {
        var renewed = EndpointKnowledge(endpoint: other, standing: standing)
        renewed.observation = observation
        renewed.load = load
        renewed.lastGoodScrape = lastGoodScrape
        renewed.silentSince = silentSince
        renewed.lastList = lastList
        renewed.setModels(listedModels)
        self = renewed
    }

    /// What a good page changes.
    struct Change {
        var loadChanged: Bool
        /// The server's process is another one: its cache and counters are new.
        var restarted: Bool
    }

    mutating func scraped(_ seen: EngineObservation, wall: Double, at now: Instant) -> Change {
        let newLoad = seen.load(observedAt: now)
        let loadChanged =
            newLoad?.waiting != load?.waiting || newLoad?.running != load?.running || newLoad?.kvUse != load?.kvUse
            || newLoad?.adapters != load?.adapters
        let before = observation?[.processStart]
        let after = seen[.processStart]
        let restarted = before != nil && after != nil && before != after
        observation = seen
        load = newLoad
        lastGoodScrape = wall
        silentSince = nil
        return Change(loadChanged: loadChanged, restarted: restarted)
    }

    mutating func scrapeFailed(_ failure: FetchFailure, wall: Double) {
        if failure.isSilence {
            silentSince = silentSince ?? wall
        } else {
            silentSince = nil
        }
    }

    /// - Returns: true when the names changed.
    mutating func listed(_ models: [ListedModel], wall: Double) -> Bool {
        lastList = wall
        return setModels(models)
    }

    @discardableResult
    private mutating func setModels(_ models: [ListedModel]) -> Bool {
        listedModels = models
        var seen: Set<String> = []
        let all = (namedModels + models.map(\.name)).filter { seen.insert($0).inserted }
        let adapters = models.filter(\.isAdapter).map(\.name)
        guard all != endpoint.servedModels || adapters != endpoint.adapters ?? [] else { return false }
        endpoint.servedModels = all
        endpoint.adapters = adapters
        return true
    }

    func status(wall: Double, limits: FleetMachine.Settings) -> EndpointStatus {
        let isStale = lastGoodScrape.map { wall - $0 > limits.staleness.rawValue } ?? true
        let isSilent = silentSince.map { wall - $0 > limits.staleness.rawValue } ?? false
        let listIsFresh = lastList.map { wall - $0 <= limits.modelListFreshness.rawValue } ?? false
        return EndpointStatus(
            endpoint: endpoint,
            load: isStale ? nil : load,
            unavailable: unavailability(isSilent: lastGoodScrape != nil && isSilent),
            modelListIsFresh: listIsFresh
        )
    }

    private func unavailability(isSilent: Bool) -> Unavailability? {
        switch standing {
        case .draining: .draining
        case .notReady: .notReady
        case .serving: isSilent ? .unreachable : nil
        }
    }

    /// The next wall time at which `status` changes by itself.
    func nextExpiry(after wall: Double, limits: FleetMachine.Settings) -> Double {
        let ends = [
            lastGoodScrape.map { $0 + limits.staleness.rawValue },
            silentSince.map { $0 + limits.staleness.rawValue },
            lastList.map { $0 + limits.modelListFreshness.rawValue },
        ]
        return ends.compactMap { $0 }.filter { $0 >= wall }.min() ?? .infinity
    }
}
