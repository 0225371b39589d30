// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Fleet
import Foundation
import Glibc
import Logging
import Router
import Synchronization
import TestSupport
import Testing

private let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
private let models = #"{"object":"list","data":[{"id":"m","object":"model"},{"id":"lora","object":"model"}]}"#

private func page(waiting: Int) -> String {
    "vllm:num_requests_waiting{engine=\"0\"} \(waiting).0\nvllm:num_requests_running 2.0\nvllm:kv_cache_usage_perc 0.5\n"
}

private func description(_ port: UInt16, _ name: String = "a") -> EndpointDescription {
    EndpointDescription(
        name: name,
        role: .both,
        accelerator: "h100-sxm",
        model: "m",
        address: "127.0.0.1",
        port: port
    )
}

/// A running service whose last snapshot and events can be waited for.
private final class Rig: Sendable {
    let service: FleetService
    private let seen: Seen

    private final class Seen: Sendable {
        let snapshot = Mutex(FleetSnapshot.empty)
        let events = Mutex<[FleetMachine.Event]>([])
    }

    init(
        _ fleet: [EndpointDescription],
        settings: FleetMachine.Settings = FleetMachine.Settings(refreshInterval: Seconds(0.02)),
        file: String? = nil,
        engines: [EngineMetrics] = []
    ) throws {
        let seen = Seen()
        self.seen = seen
        let catalog = ProfileCatalog(documents: [])
        let options = FleetService.Options(
            machine: settings,
            file: file,
            fileInterval: Seconds(0.05),
            engines: engines,
            seed: 1
        )
        service = FleetService(
            fleet: fleet,
            options: options,
            clock: ModelClock(scale: 10),
            log: quiet,
            resolve: { catalog.endpoint($0, id: $1) },
            handlers: FleetService.Handlers(
                snapshot: { snapshot in seen.snapshot.withLock { $0 = snapshot } },
                events: { events in seen.events.withLock { $0 += events } }
            )
        )
        try service.start()
    }

    var snapshot: FleetSnapshot { seen.snapshot.withLock { $0 } }
    var first: EndpointStatus? { snapshot.endpoints.first }
    var events: [FleetMachine.Event] { seen.events.withLock { $0 } }
    var statistics: FleetStatistics { service.statistics }

    func failures(_ reason: String) -> Int {
        FetchFailure.reasons.firstIndex(of: reason).map { statistics.scrapeFailures[$0] } ?? -1
    }

    /// Waits until the condition holds, at most twenty seconds: test machines are busy ones.
    func wait(_ what: String, until condition: (Rig) -> Bool) {
        for _ in 0..<4000 {
            if condition(self) { return }
            usleep(5000)
        }
        Issue.record("waited in vain for \(what): \(snapshot.endpoints.map(\.load)), \(statistics)")
    }
}

@Suite(.serialized) struct FleetServiceTests {
    @Test func scrapesAndReadsModelsOverKeptConnections() throws {
        let server = try PageServer { path, number in
            .page(path == "/metrics" ? page(waiting: number) : models)
        }
        let rig = try Rig([description(server.port)])
        defer {
            rig.service.stop()
            server.stop()
        }
        // The fleet is known when start returns, before any page came.
        #expect(rig.snapshot.endpoints.map(\.endpoint.name) == ["a"])
        rig.wait("a scrape") { $0.statistics.scrapes >= 5 && $0.snapshot.modelListsAreFresh }
        rig.wait("load") { $0.first?.load != nil }
        let status = try #require(rig.first)
        #expect(status.load?.running == 2)
        #expect(status.load?.kvUse == 0.5)
        #expect(status.endpoint.servedModels == ["m", "lora"])
        #expect(status.modelListIsFresh)
        #expect(server.connections <= 2)
        #expect(rig.events.contains { if case .observed = $0 { true } else { false } })
        let time = try #require(status.load?.observedAt)
        #expect(time.rawValue > 0)
    }

    @Test func loadFollowsThePod() throws {
        let waiting = Atomic(1)
        let server = try PageServer { path, _ in
            path == "/metrics" ? .page(page(waiting: waiting.load(ordering: .relaxed))) : .page(models)
        }
        let rig = try Rig([description(server.port)])
        defer {
            rig.service.stop()
            server.stop()
        }
        rig.wait("1") { $0.first?.load?.waiting == 1 }
        waiting.store(7, ordering: .relaxed)
        rig.wait("7") { $0.first?.load?.waiting == 7 }
    }

    @Test func aRealPage() throws {
        let text = try String(contentsOf: fixture("vllm/metrics-under-load-running.txt"), encoding: .utf8)
        let answer = try String(contentsOf: fixture("vllm/models.txt"), encoding: .utf8)
        let body = try #require(answer.components(separatedBy: "\r\n\r\n").last)
        let server = try PageServer { path, _ in path == "/metrics" ? .page(text) : .page(body) }
        let rig = try Rig([description(server.port)])
        defer {
            rig.service.stop()
            server.stop()
        }
        rig.wait("load") { $0.first?.load != nil && $0.snapshot.modelListsAreFresh }
        #expect(rig.first?.load?.running == 21)
        #expect(rig.first?.endpoint.servedModels == ["m", "tiny"])
    }

    @Test func pagesInSlowPiecesAreRead() throws {
        let server = try PageServer { _, _ in .slow(page(waiting: 4), piece: 7, milliseconds: 2) }
        let rig = try Rig([description(server.port)])
        defer {
            rig.service.stop()
            server.stop()
        }
        rig.wait("load") { $0.first?.load?.waiting == 4 }
    }

    @Test(arguments: ["close", "endless", "hang", "garbage", "status", "raw"])
    func wrongAnswersAreCountedAndTheOthersGoOn(_ kind: String) throws {
        let bad = try PageServer { path, _ in
            switch kind {
            case "close": .close
            case "endless": .endless
            case "hang": .hang
            case "garbage": .page("<html>vllm:num_requests_waiting</html>")
            case "status": .page("", status: 503)
            default: .raw("this is no HTTP\r\n\r\n")
            }
        }
        let good = try PageServer { path, number in .page(path == "/metrics" ? page(waiting: number) : models) }
        let settings = FleetMachine.Settings(refreshInterval: Seconds(0.02), staleness: Seconds(0.6))
        let rig = try Rig([description(bad.port, "bad"), description(good.port, "good")], settings: settings)
        defer {
            rig.service.stop()
            bad.stop()
            good.stop()
        }
        let reason = [
            "close": "connection_lost", "endless": "too_large", "hang": "timeout", "garbage": "garbage",
            "status": "status", "raw": "garbage",
        ]
        rig.wait(kind) { $0.failures(reason[kind] ?? "") >= 2 && $0.statistics.scrapes >= 5 }
        rig.wait("the good one's load") { $0.snapshot.endpoints.last?.load != nil }
        #expect(rig.first?.load == nil)
        // Its scrapes never worked: it stays eligible.
        #expect(rig.first?.unavailable == nil)
    }

    @Test func aPodThatDiesLeavesAndComesBack() throws {
        let settings = FleetMachine.Settings(refreshInterval: Seconds(0.02), staleness: Seconds(0.3))
        let server = try PageServer { path, number in .page(path == "/metrics" ? page(waiting: number) : models) }
        let rig = try Rig([description(server.port)], settings: settings)
        defer { rig.service.stop() }
        rig.wait("load") { $0.first?.load != nil }
        server.stop()
        rig.wait("unreachable") { $0.first?.unavailable == .unreachable && $0.first?.load == nil }
        #expect(rig.failures("refused") > 0)
    }

    /// The n-th page fails, for every n and every way to fail: the scrapes after it work again.
    @Test func theNthPageFails() throws {
        for number in 0..<6 {
            for kind in 0..<3 {
                let server = try PageServer { path, now in
                    guard now == number else { return .page(path == "/metrics" ? page(waiting: now) : models) }
                    return [.close, .raw("x"), .page("", status: 500)][kind]
                }
                let rig = try Rig([description(server.port)])
                defer {
                    rig.service.stop()
                    server.stop()
                }
                rig.wait("recovery \(number) \(kind)") {
                    $0.statistics.scrapes >= 4 && server.requests > number + 1 && $0.first?.load != nil
                }
                #expect(rig.first?.unavailable == nil)
            }
        }
    }

    @Test func theFileIsReadAgainAndABadOneChangesNothing() throws {
        let server = try PageServer { path, number in .page(path == "/metrics" ? page(waiting: number) : models) }
        let path = FileManager.default.temporaryDirectory.appending(path: "fleet-\(UInt64.random(in: 0 ... .max)).yaml")
        defer { try? FileManager.default.removeItem(at: path) }
        func text(_ name: String) -> String {
            "endpoints: [{name: \(name), role: both, accelerator: x, model: m, address: 127.0.0.1, port: \(server.port)}]"
        }
        try text("a").write(to: path, atomically: true, encoding: .utf8)
        let rig = try Rig(FleetFile.read(path: path.path), file: path.path)
        defer {
            rig.service.stop()
            server.stop()
        }
        rig.wait("load") { $0.first?.load != nil }
        try "endpoints: [{name: broken".write(to: path, atomically: true, encoding: .utf8)
        rig.wait("failed reload") { $0.statistics.failedReloads == 1 && $0.statistics.fileIsBad }
        #expect(rig.first?.endpoint.name == "a")
        try text("b").write(to: path, atomically: true, encoding: .utf8)
        rig.wait("reload") { $0.first?.endpoint.name == "b" }
        #expect(rig.first?.endpoint.id == EndpointID(1))
        #expect(rig.statistics.reloads == 1)
        #expect(!rig.statistics.fileIsBad)
        #expect(rig.events.contains(.left(EndpointID(0))))
        try FileManager.default.removeItem(at: path)
        usleep(200_000)
        #expect(rig.statistics.failedReloads == 1)
        #expect(rig.first?.endpoint.name == "b")
    }

    @Test func otherDiscoveryReplacesTheFleet() throws {
        let server = try PageServer { path, number in .page(path == "/metrics" ? page(waiting: number) : models) }
        let rig = try Rig([])
        defer {
            rig.service.stop()
            server.stop()
        }
        #expect(rig.snapshot.endpoints.isEmpty)
        #expect(rig.snapshot.version == 1)
        rig.service.replace([description(server.port, "late")])
        rig.wait("load") { $0.first?.load != nil }
    }

    @Test func stopEndsAtOnceWhileFetchesHang() throws {
        let server = try PageServer { _, _ in .hang }
        let rig = try Rig([description(server.port)])
        rig.wait("a request") { _ in server.requests >= 1 }
        let start = ContinuousClock.now
        rig.service.stop()
        #expect(ContinuousClock.now - start < .milliseconds(500))
        server.stop()
    }

    @Test func anEngineWithoutNamesIsCountedAndNotScraped() throws {
        var endpoint = description(1)
        endpoint.engine = "tgi"
        let rig = try Rig([endpoint])
        defer { rig.service.stop() }
        rig.wait("failures") { $0.failures("client") >= 2 }
        let server = try PageServer { path, _ in path == "/metrics" ? .page("tgi_queue_size 3\n") : .page(models) }
        defer { server.stop() }
        endpoint.port = server.port
        endpoint.metrics.port = server.port
        let tgi = EngineMetrics(engine: "tgi", entries: [.init(.waiting, ["tgi_queue_size"])])
        let configured = try Rig([endpoint], engines: [tgi])
        defer { configured.service.stop() }
        configured.wait("load") { $0.first?.load?.waiting == 3 }
    }
}
