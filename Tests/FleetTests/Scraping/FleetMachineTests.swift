// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Router
import TestSupport
import Testing

@testable import Fleet

private func time(_ wall: Double) -> FleetMachine.Time {
    FleetMachine.Time(wall: wall, model: Instant(wall * 10))
}

private func observation(waiting: Double = 0, running: Double = 0, start: Double? = nil) -> EngineObservation {
    var seen = EngineObservation()
    seen[.waiting] = waiting
    seen[.running] = running
    seen[.kvUse] = 0.5
    seen[.processStart] = start
    return seen
}

private func description(_ name: String, _ port: UInt16) -> EndpointDescription {
    EndpointDescription(
        name: name,
        role: .both,
        accelerator: "h100-sxm",
        model: "m",
        address: "10.0.0.1",
        port: port
    )
}

private func machine(_ count: Int, settings: FleetMachine.Settings = FleetMachine.Settings()) -> FleetMachine {
    var machine = FleetMachine(settings, seed: 1)
    let fleet = (0..<count).map { description("p\($0)", UInt16(8000 + $0)) }
    _ = machine.replace(fleet, at: time(0), resolve: ProfileCatalog(documents: []).endpoint)
    return machine
}

/// A function, because macros cannot hold a mutating call.
private func look(_ fleet: inout FleetMachine, _ wall: Double) -> FleetSnapshot? { fleet.snapshot(at: time(wall)) }

private let first = EndpointID(0)
private let metrics = FleetMachine.Fetch(endpoint: first, page: .metrics)
private let models = FleetMachine.Fetch(endpoint: first, page: .models)

@Suite struct FleetMachineTests {
    @Test func anEndpointIsThereFromTheMomentItIsNamed() throws {
        var fleet = machine(2)
        let snapshot = try #require(look(&fleet, 0))
        #expect(snapshot.version == 1)
        #expect(snapshot.endpoints.map(\.endpoint.name) == ["p0", "p1"])
        #expect(snapshot.endpoints.allSatisfy { $0.load == nil && $0.unavailable == nil })
        #expect(!snapshot.modelListsAreFresh)
        #expect(fleet.snapshot(at: time(1)) == nil)
    }

    @Test func pagesOfBothKindsAreAskedForAndBounded() {
        var fleet = machine(3, settings: FleetMachine.Settings(concurrency: 4))
        _ = fleet.snapshot(at: time(0))
        let fetches = fleet.fetches(at: time(0))
        #expect(fetches.map(\.page) == [.metrics, .metrics, .metrics, .models])
        #expect(fleet.fetches(at: time(0)).isEmpty)
        #expect(fleet.nextWake > 0)
        _ = fleet.fetched(fetches[0], .success(.metrics(observation())), at: time(0.01))
        #expect(fleet.fetches(at: time(0.01)).map(\.page) == [.models])
    }

    @Test func aScrapeGivesTheLoadInModelTimeUntilItIsStale() throws {
        var fleet = machine(1)
        _ = fleet.snapshot(at: time(0))
        _ = fleet.fetches(at: time(0))
        let events = fleet.fetched(metrics, .success(.metrics(observation(waiting: 3))), at: time(1))
        #expect(events == [.observed(first, observation(waiting: 3), at: Instant(10))])
        let seen = try #require(look(&fleet, 1)?.endpoints.first)
        #expect(seen.load == EndpointLoad(observedAt: Instant(10), waiting: 3, running: 0, kvUse: 0.5))
        #expect(fleet.snapshot(at: time(2.9)) == nil)
        let stale = try #require(look(&fleet, 3.1)?.endpoints.first)
        #expect(stale.load == nil)
        #expect(stale.unavailable == nil)
    }

    @Test func aPodThatFallsSilentLeavesAfterTheLimitAndComesBack() throws {
        var fleet = machine(1)
        _ = fleet.fetched(metrics, .success(.metrics(observation())), at: time(1))
        for wall in [1.5, 2, 3] { _ = fleet.fetched(metrics, .failure(.refused), at: time(wall)) }
        #expect(fleet.snapshot(at: time(3.4))?.endpoints.first?.unavailable == nil)
        // Silent since 1.5, limit 2 s: it leaves by itself, without a further failure.
        #expect(fleet.snapshot(at: time(3.6))?.endpoints.first?.unavailable == .unreachable)
        #expect(fleet.statistics.unreachable == 1)
        _ = fleet.fetched(metrics, .success(.metrics(observation())), at: time(4))
        #expect(fleet.snapshot(at: time(4))?.endpoints.first?.unavailable == nil)
    }

    @Test func aPodWhoseScrapesNeverWorkedStays() {
        var fleet = machine(1)
        for wall in 1...20 { _ = fleet.fetched(metrics, .failure(.timedOut), at: time(Double(wall))) }
        #expect(fleet.snapshot(at: time(30))?.endpoints.first?.unavailable == nil)
        #expect(fleet.statistics.scrapeFailures[1] == 20)
    }

    @Test(arguments: [FetchFailure.garbage, .tooLarge, .status(500)])
    func aWrongAnswerIsASignOfLife(_ failure: FetchFailure) {
        var fleet = machine(1)
        _ = fleet.fetched(metrics, .success(.metrics(observation())), at: time(1))
        for wall in 2...20 {
            _ = fleet.fetched(metrics, .failure(wall % 2 == 0 ? .refused : failure), at: time(Double(wall)))
        }
        let status = fleet.snapshot(at: time(20.5))?.endpoints.first
        #expect(status?.unavailable == nil)
        #expect(status?.load == nil)
    }

    @Test func aPageWithoutTheEnginesNamesIsGarbage() {
        var fleet = machine(1)
        var seen = EngineObservation()
        seen[.processStart] = 5
        #expect(fleet.fetched(metrics, .success(.metrics(seen)), at: time(1)).isEmpty)
        #expect(fleet.statistics.scrapes == 0)
        #expect(fleet.statistics.scrapeFailures[5] == 1)
    }

    @Test func aListTellsAdaptersFromModels() throws {
        var fleet = machine(1)
        _ = fleet.fetches(at: time(0))
        let list = Array(
            #"{"data":[{"id":"m","parent":null},{"id":"sql","root":"/sql","parent":"m"},{"id":"x","parent":""}]}"#.utf8
        )
        var reader = PageReader.models([])
        reader.consume(list.span)
        _ = fleet.fetched(models, reader.finish(), at: time(1))
        let snapshot = try #require(look(&fleet, 1))
        #expect(snapshot.endpoints[0].endpoint.servedModels == ["m", "sql", "x"])
        #expect(snapshot.endpoints[0].endpoint.adapters == ["sql"])
    }

    @Test func aPodServesWhatTheFileAndItsListName() throws {
        var fleet = machine(1)
        _ = fleet.fetches(at: time(0))
        _ = fleet.fetched(models, .success(.models(["m", "adapter"])), at: time(1))
        let snapshot = try #require(look(&fleet, 1))
        #expect(snapshot.endpoints[0].endpoint.servedModels == ["m", "adapter"])
        #expect(snapshot.endpoints[0].modelListIsFresh)
        #expect(snapshot.modelListsAreFresh)
        // Fresh for 30 s; the names stay, their freshness does not.
        #expect(fleet.snapshot(at: time(30)) == nil)
        let later = try #require(look(&fleet, 31.5))
        #expect(later.endpoints[0].endpoint.servedModels == ["m", "adapter"])
        #expect(!later.endpoints[0].modelListIsFresh)
        #expect(!later.modelListsAreFresh)
    }

    @Test func listsAreReadAgainAfterTenSecondsAndSoonerAfterAFailure() {
        var fleet = machine(1)
        let begun = fleet.fetches(at: time(0))
        #expect(begun == [metrics, models])
        _ = fleet.fetched(models, .success(.models(["m"])), at: time(0))
        #expect(fleet.fetches(at: time(8.9)).isEmpty)
        #expect(fleet.fetches(at: time(11.1)) == [models])
        _ = fleet.fetched(models, .failure(.status(404)), at: time(11.1))
        #expect(fleet.fetches(at: time(12.3)) == [models])
        #expect(fleet.statistics.modelListFailures == 1)
    }

    @Test func aNewProcessIsTold() {
        var fleet = machine(1)
        _ = fleet.fetched(metrics, .success(.metrics(observation(start: 100))), at: time(1))
        let same = fleet.fetched(metrics, .success(.metrics(observation(start: 100))), at: time(2))
        #expect(same.count == 1)
        let other = observation(start: 200)
        let events = fleet.fetched(metrics, .success(.metrics(other)), at: time(3))
        #expect(events == [.restarted(first), .observed(first, other, at: Instant(30))])
    }

    @Test func reloadsKeepWhatIsKnown() throws {
        var fleet = machine(2)
        _ = fleet.fetched(metrics, .success(.metrics(observation(waiting: 3))), at: time(1))
        _ = fleet.fetched(models, .success(.models(["a"])), at: time(1))
        var moved = description("p0", 8000)
        moved.pool = "other"
        let events = fleet.replace(
            [moved, description("p9", 9000)],
            at: time(1),
            resolve: ProfileCatalog(documents: []).endpoint
        )
        #expect(events == [.left(EndpointID(1))])
        let snapshot = try #require(look(&fleet, 1.1))
        #expect(snapshot.endpoints.map(\.endpoint.id.rawValue) == [0, 2])
        #expect(snapshot.endpoints[0].endpoint.pool == "other")
        #expect(snapshot.endpoints[0].load?.waiting == 3)
        #expect(snapshot.endpoints[0].endpoint.servedModels == ["m", "a"])
        // A page that comes late for an endpoint that left is dropped.
        let late = FleetMachine.Fetch(endpoint: EndpointID(1), page: .metrics)
        #expect(fleet.fetched(late, .success(.metrics(observation())), at: time(2)).isEmpty)
    }

    @Test func snapshotsAreCoalesced() {
        var fleet = machine(1)
        #expect(fleet.snapshot(at: time(1)) != nil)
        _ = fleet.fetched(metrics, .success(.metrics(observation())), at: time(1.001))
        #expect(fleet.snapshot(at: time(1.002)) == nil)
        #expect(fleet.nextWake <= 1.021)
        #expect(fleet.snapshot(at: time(1.03)) != nil)
    }

    /// Whatever pages come in whatever order, the machine never asks for more than it may, sorts its endpoints, and
    /// wakes up again.
    @Test(arguments: 1...20)
    func holdsItsPromisesUnderAnyOrder(_ seed: UInt64) {
        var random = SplitMix64(seed: seed)
        let settings = FleetMachine.Settings(concurrency: 5)
        var fleet = machine(8, settings: settings)
        var inFlight: [FleetMachine.Fetch] = []
        var wall = 0.0
        var version: UInt64 = 0
        for _ in 0..<500 {
            wall += Double.random(in: 0...0.05, using: &random)
            inFlight += fleet.fetches(at: time(wall))
            #expect(inFlight.count <= 5)
            if !inFlight.isEmpty, Bool.random(using: &random) {
                let fetch = inFlight.remove(at: Int.random(in: 0..<inFlight.count, using: &random))
                let failure: FetchFailure? =
                    [nil, nil, .refused, .garbage, .timedOut].randomElement(using: &random) ?? nil
                let content: FleetMachine.Content =
                    fetch.page == .metrics ? .metrics(observation(waiting: Double(seed % 3))) : .models(["m"])
                _ = fleet.fetched(fetch, failure.map { .failure($0) } ?? .success(content), at: time(wall))
            }
            if let snapshot = fleet.snapshot(at: time(wall)) {
                #expect(snapshot.version == version + 1)
                version = snapshot.version
                let order = snapshot.endpoints.map(\.endpoint.id)
                #expect(order == order.sorted())
            }
            #expect(fleet.nextWake < .infinity || inFlight.count == 5)
        }
    }
}
