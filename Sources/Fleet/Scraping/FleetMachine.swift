// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
package import Router

/// The control plane's machine without I/O: the fleet as discovery describes it and what the scrapes said go in,
/// pages to fetch and snapshots come out.
///
/// Two clocks are brought by the caller: wall seconds, in which intervals and time-outs are, and model time, which
/// stamps observations.
package struct FleetMachine: Sendable {
    package struct Settings: Sendable, Hashable {
        /// The fastest scrape interval.
        package var refreshInterval: Seconds
        /// A load older than this is unknown, and an endpoint silent for longer has left.
        package var staleness: Seconds
        /// How often model lists are read, and for how long one is fresh.
        package var modelListInterval: Seconds
        package var modelListFreshness: Seconds
        /// Pages in flight at a time, of all endpoints together.
        package var concurrency: Int
        /// Snapshots are at least so far apart, whatever happens.
        package var snapshotGap: Seconds
        /// Endpoints that get the ids again that they had in an earlier process.
        package var known: [EndpointRegistry.Known] = []

        package init(
            refreshInterval: Seconds = Seconds(0.05),
            staleness: Seconds = Seconds(2),
            modelListInterval: Seconds = Seconds(10),
            modelListFreshness: Seconds = Seconds(30),
            concurrency: Int = 128,
            snapshotGap: Seconds = Seconds(0.02)
        ) {
            self.refreshInterval = refreshInterval
            self.staleness = staleness
            self.modelListInterval = modelListInterval
            self.modelListFreshness = modelListFreshness
            self.concurrency = concurrency
            self.snapshotGap = snapshotGap
        }

        /// Idle pods are scraped so seldom. Half of the staleness limit leaves room for one lost page.
        var longestInterval: Seconds { max(refreshInterval, min(Seconds(1), staleness / 2)) }
        /// A page that takes longer than a second says nothing of now.
        package var timeout: Seconds { min(Seconds(1), staleness / 2) }
    }

    /// Now, on both clocks.
    package struct Time: Sendable, Hashable {
        package var wall: Double
        package var model: Instant

        package init(wall: Double, model: Instant) {
            self.wall = wall
            self.model = model
        }
    }

    package enum Page: Sendable, Hashable {
        case metrics, models
    }

    /// A page to be fetched.
    package struct Fetch: Sendable, Hashable {
        package var endpoint: EndpointID
        package var page: Page

        package init(endpoint: EndpointID, page: Page) {
            self.endpoint = endpoint
            self.page = page
        }
    }

    /// What a page held.
    package enum Content: Sendable, Hashable {
        case metrics(EngineObservation)
        case models([ListedModel])
    }

    /// What others may want to know beyond the snapshot.
    package enum Event: Sendable, Hashable {
        case observed(EndpointID, EngineObservation, at: Instant)
        /// The server process is a new one: what its cache held is gone.
        case restarted(EndpointID)
        case left(EndpointID)
    }

    package private(set) var statistics = FleetStatistics()

    private let settings: Settings
    private var random: FleetRandom
    private var registry: EndpointRegistry
    private var order: [EndpointID] = []
    private var knowledge: [EndpointID: EndpointKnowledge] = [:]
    private var scrapes: PollSchedule
    private var lists: PollSchedule
    private var inFlight = 0
    private var isDirty = false
    private var version: UInt64 = 0
    private var lastSnapshot = -Double.infinity
    private var nextExpiry = Double.infinity

    package init(_ settings: Settings, seed: UInt64) {
        self.settings = settings
        registry = EndpointRegistry(resuming: settings.known)
        random = FleetRandom(seed: seed)
        scrapes = PollSchedule(
            PollSchedule.Settings(
                shortest: min(settings.refreshInterval, settings.longestInterval),
                longest: settings.longestInterval,
                firstRetry: min(Seconds(0.1), settings.longestInterval)
            )
        )
        lists = PollSchedule(
            PollSchedule.Settings(
                shortest: settings.modelListInterval,
                longest: settings.modelListInterval,
                firstRetry: min(Seconds(1), settings.modelListInterval)
            )
        )
    }

    /// The fleet as discovery now describes it. Endpoints that stay keep what is known of them.
    package mutating func replace(
        _ fleet: [EndpointDescription],
        at now: Time,
        resolve: (EndpointDescription, EndpointID) -> Endpoint
    ) -> [Event] {
        let ids = registry.ids(for: fleet)
        var next: [EndpointID: EndpointKnowledge] = [:]
        for (description, id) in zip(fleet, ids) {
            let endpoint = resolve(description, id)
            if var known = knowledge[id] {
                known.redescribe(endpoint, standing: description.standing)
                next[id] = known
            } else {
                next[id] = EndpointKnowledge(endpoint: endpoint, standing: description.standing)
            }
        }
        let left = order.filter { next[$0] == nil }
        knowledge = next
        order = ids.sorted()
        scrapes.replace(order, at: now.wall)
        lists.replace(order, at: now.wall)
        isDirty = true
        statistics.endpoints = order.count
        return left.map(Event.left)
    }

    /// Pages to fetch now. Each must be answered by `fetched`.
    package mutating func fetches(at now: Time) -> [Fetch] {
        let room = settings.concurrency - inFlight
        let failing = settings.concurrency / 4
        let scraped = scrapes.take(at: now.wall, limit: room, failingLimit: failing)
        let listed = lists.take(at: now.wall, limit: room - scraped.count, failingLimit: failing)
        let result =
            scraped.map { Fetch(endpoint: $0, page: .metrics) } + listed.map { Fetch(endpoint: $0, page: .models) }
        inFlight += result.count
        return result
    }

    package mutating func fetched(
        _ fetch: Fetch,
        _ result: Result<Content, FetchFailure>,
        at now: Time
    ) -> [Event] {
        inFlight -= 1
        switch (fetch.page, result) {
        case (.metrics, .success(.metrics(let seen))):
            return scraped(fetch.endpoint, seen, at: now)
        case (.models, .success(.models(let names))):
            statistics.modelLists += 1
            if let changed = knowledge[fetch.endpoint]?.listed(names, wall: now.wall), changed { isDirty = true }
            nextExpiry = min(nextExpiry, now.wall + settings.modelListFreshness.rawValue)
            // Freshness itself is part of the snapshot.
            isDirty = true
            lists.finished(fetch.endpoint, .unchanged, at: now.wall, using: &random)
        case (.metrics, .failure(let failure)):
            statistics.count(scrapeFailure: failure)
            knowledge[fetch.endpoint]?.scrapeFailed(failure, wall: now.wall)
            nextExpiry = min(nextExpiry, now.wall + settings.staleness.rawValue)
            scrapes.finished(fetch.endpoint, .failed, at: now.wall, using: &random)
        case (.models, .failure):
            statistics.modelListFailures += 1
            lists.finished(fetch.endpoint, .failed, at: now.wall, using: &random)
        case (.metrics, .success(.models)), (.models, .success(.metrics)):
            assertionFailure("a page of another kind than was asked for")
        }
        return []
    }

    private mutating func scraped(_ id: EndpointID, _ seen: EngineObservation, at now: Time) -> [Event] {
        guard !seen.isEmpty else {
            return fetched(countingFlight: id, .garbage, at: now)
        }
        statistics.scrapes += 1
        guard let change = knowledge[id]?.scraped(seen, wall: now.wall, at: now.model) else { return [] }
        scrapes.finished(id, change.loadChanged ? .changed : .unchanged, at: now.wall, using: &random)
        isDirty = true
        let observed = Event.observed(id, seen, at: now.model)
        return change.restarted ? [.restarted(id), observed] : [observed]
    }

    /// A page without any of the engine's gauges of load is no metrics page of it.
    private mutating func fetched(countingFlight id: EndpointID, _ failure: FetchFailure, at now: Time) -> [Event] {
        inFlight += 1
        return fetched(Fetch(endpoint: id, page: .metrics), .failure(failure), at: now)
    }

    /// What scraping costs: keeps it within its share of a core. Target: 0.05 core for 100 pods, 0.4 for 1,000.
    package mutating func measured(cpuPerPage seconds: Double) {
        guard seconds > 0, seconds.isFinite else { return }
        let share = min(max(0.02, 0.0004 * Double(order.count)), 0.5)
        scrapes.limit(rate: share / seconds)
    }

    /// A new snapshot, when something changed and the last one is old enough.
    package mutating func snapshot(at now: Time) -> FleetSnapshot? {
        guard isDirty || now.wall > nextExpiry else { return nil }
        guard now.wall - lastSnapshot >= settings.snapshotGap.rawValue else { return nil }
        isDirty = false
        lastSnapshot = now.wall
        version += 1
        nextExpiry = .infinity
        var statuses: [EndpointStatus] = []
        statuses.reserveCapacity(order.count)
        for id in order {
            guard let known = knowledge[id] else { continue }
            statuses.append(known.status(wall: now.wall, limits: settings))
            nextExpiry = min(nextExpiry, known.nextExpiry(after: now.wall, limits: settings))
        }
        statistics.snapshots += 1
        statistics.unreachable = statuses.count { $0.unavailable == .unreachable }
        statistics.loadUnknown = statuses.count { $0.load == nil }
        return FleetSnapshot(
            version: version,
            endpoints: statuses,
            // Pods that start or leave need not have answered.
            modelListsAreFresh: !statuses.isEmpty
                && statuses.allSatisfy { $0.modelListIsFresh || $0.unavailable?.isFinal == true }
        )
    }

    /// The wall time at which `fetches` or `snapshot` should be asked again, if nothing happens before.
    package var nextWake: Double {
        var next = inFlight < settings.concurrency ? min(scrapes.nextDue, lists.nextDue) : .infinity
        if isDirty { next = min(next, lastSnapshot + settings.snapshotGap.rawValue) }
        return min(next, nextExpiry)
    }
}
