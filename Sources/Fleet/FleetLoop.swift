// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Logging
import Router
import Synchronization

/// The service's thread: carries out what the machine says. Confined to it after `begin`.
final class FleetLoop {
    /// The share of a measurement in the running mean of the cost of a page.
    private static let costSmoothing = 0.2
    /// Seconds over which processor time is measured.
    private static let costWindow = 1.0

    private let service: FleetService
    private var machine: FleetMachine
    private let transfers: CurlTransfers
    private let tables: [String: MetricNameTable]
    private var places: [EndpointID: Place] = [:]
    private var fetches: [Int: FleetMachine.Fetch] = [:]
    private var nextTag = 0
    private var file: FileWatch?
    private var nextFileCheck = 0.0
    private var cost = CostMeter()

    /// Where an endpoint's pages are.
    private struct Place {
        var metrics: String
        var models: String
        var engine: String
    }

    private struct CostMeter {
        var since = 0.0
        var used = 0.0
        var pages = 0
        var perPage: Double?
    }

    init?(_ service: FleetService) {
        guard let transfers = CurlTransfers() else { return nil }
        self.service = service
        self.transfers = transfers
        machine = FleetMachine(service.options.machine, seed: service.options.seed)
        file = service.options.file.map(FileWatch.init)
        var tables: [String: MetricNameTable] = [:]
        for metrics in EngineMetrics.builtIn + service.options.engines {
            tables[metrics.engine] = MetricNameTable(metrics)
        }
        self.tables = tables
    }

    private var now: FleetMachine.Time {
        let model = service.clock.now
        return FleetMachine.Time(wall: service.clock.wall(Seconds(model.rawValue)).rawValue, model: model)
    }

    /// Takes the fleet and gives the first snapshot.
    func begin() {
        service.shared.withLock { $0.waker = transfers.waker }
        takeFleet()
        publish()
    }

    func run() {
        cost = CostMeter(since: now.wall, used: ControlThread.processorTime)
        while true {
            let (isStopping, fleetIsNew) = service.shared.withLock { ($0.isStopping, $0.fleetIsNew) }
            if isStopping { break }
            if fleetIsNew { takeFleet() }
            checkFile()
            startFetches()
            finishFetches()
            publish()
            measureCost()
            let time = now.wall
            let wake = min(machine.nextWake, file == nil ? .infinity : nextFileCheck, cost.since + Self.costWindow)
            transfers.wait(Seconds(wake - time))
        }
        service.shared.withLock { $0.waker = nil }
    }

    private func takeFleet() {
        let fleet = service.shared.withLock { shared in
            shared.fleetIsNew = false
            return shared.fleet
        }
        let events = machine.replace(fleet, at: now) { description, id in
            let endpoint = service.resolve(description, id)
            places[id] = place(of: description)
            return endpoint
        }
        for case .left(let id) in events { places[id] = nil }
        transfers.keep(connections: fleet.count + service.options.machine.concurrency)
        if !events.isEmpty { service.handlers.events(events) }
    }

    private func place(of endpoint: EndpointDescription) -> Place {
        let host = endpoint.address.contains(":") ? "[\(endpoint.address)]" : endpoint.address
        return Place(
            metrics: "http://\(host):\(endpoint.metrics.port)\(endpoint.metrics.path)",
            models: "http://\(host):\(endpoint.port)/v1/models",
            engine: endpoint.engine
        )
    }

    private func startFetches() {
        for fetch in machine.fetches(at: now) {
            guard let place = places[fetch.endpoint] else { continue }
            let url: String
            let reader: PageReader
            switch fetch.page {
            case .metrics:
                guard let table = tables[place.engine] else {
                    finish(fetch, .failure(.client))
                    continue
                }
                url = place.metrics
                reader = .metrics(MetricsPageScanner(table))
            case .models:
                url = place.models
                reader = .models([])
            }
            nextTag &+= 1
            let timeout = service.options.machine.timeout
            if transfers.start(tag: nextTag, url: url, reader: reader, timeout: timeout) {
                fetches[nextTag] = fetch
            } else {
                finish(fetch, .failure(.client))
            }
        }
    }

    private func finishFetches() {
        for (tag, result) in transfers.finished() {
            guard let fetch = fetches.removeValue(forKey: tag) else { continue }
            if fetch.page == .metrics { cost.pages += 1 }
            finish(fetch, result)
        }
    }

    private func finish(_ fetch: FleetMachine.Fetch, _ result: Result<FleetMachine.Content, FetchFailure>) {
        let events = machine.fetched(fetch, result, at: now)
        if !events.isEmpty { service.handlers.events(events) }
    }

    private func publish() {
        let snapshot = machine.snapshot(at: now)
        var statistics = machine.statistics
        service.shared.withLock { shared in
            statistics.reloads = shared.statistics.reloads
            statistics.failedReloads = shared.statistics.failedReloads
            statistics.fileIsBad = shared.statistics.fileIsBad
            shared.statistics = statistics
        }
        if let snapshot { service.handlers.snapshot(snapshot) }
    }

    /// A changed file is read whole; a bad one changes nothing.
    private func checkFile() {
        guard let path = file?.path, now.wall >= nextFileCheck else { return }
        nextFileCheck = now.wall + service.options.fileInterval.rawValue
        guard file?.hasChanged() == true else { return }
        do {
            let fleet = try FleetFile.read(path: path, options: service.options.fileOptions)
            service.shared.withLock { shared in
                shared.statistics.reloads += 1
                shared.statistics.fileIsBad = false
                shared.fleet = fleet
            }
            takeFleet()
            service.log.info("fleet file read again", metadata: ["file": "\(path)", "endpoints": "\(fleet.count)"])
        } catch {
            service.shared.withLock { shared in
                shared.statistics.failedReloads += 1
                shared.statistics.fileIsBad = true
            }
            service.log.error(
                "fleet file has errors; the old fleet stays",
                metadata: ["file": "\(path)", "errors": "\(error)"]
            )
        }
    }

    private func measureCost() {
        let time = now.wall
        guard time - cost.since >= Self.costWindow else { return }
        let used = ControlThread.processorTime
        if cost.pages > 0 {
            let sample = (used - cost.used) / Double(cost.pages)
            let mean = cost.perPage.map { $0 + Self.costSmoothing * (sample - $0) } ?? sample
            cost.perPage = mean
            machine.measured(cpuPerPage: mean)
        }
        cost.since = time
        cost.used = used
        cost.pages = 0
    }
}
