// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Autoscaling
import Configuration
import CostModel
import Dispatch
import Fleet
import Foundation
import Router
import Synchronization

/// Feeds the scaler with what scrapes say, ticks it, and keeps its last report for whoever asks.
final class ScalingService: Sendable {
    /// Model time between two reports. HPAs look every 15 seconds.
    private static let interval = Seconds(1)
    /// Where model time runs fast, no more often than this.
    private static let shortestWait = Seconds(0.05)

    private let host: RouterHost
    /// Whether no other picker holds requests.
    private let holdsAlone: @Sendable () -> Bool
    private let scaler: Mutex<FleetScaler>
    private let last = Mutex(ScalingReport())
    private let queue = DispatchQueue(label: "scaling", qos: .utility)
    /// From the process's clock to one that all replicas share, as nearly as their hosts agree on the time: their looks,
    /// windows and lines begin at the same moments, so that they see the same loads. Taken once: a host's clock that is
    /// set later does not move it.
    private let sharedClock: Seconds

    /// - Parameters:
    ///   - settings: how far to look ahead, and how long to hold.
    ///   - configuration: the service levels to meet.
    ///   - host: tells the fleet and this picker's own work.
    ///   - holdsAlone: whether requests wait in this picker only.
    init(
        _ settings: FleetScaler.Settings,
        _ configuration: PickerConfiguration,
        host: RouterHost,
        holdsAlone: @escaping @Sendable () -> Bool
    ) {
        self.host = host
        self.holdsAlone = holdsAlone
        let byModel = configuration.serviceLevelByModel
        let all = configuration.serviceLevel
        scaler = Mutex(FleetScaler(settings) { byModel[$0.model] ?? all })
        sharedClock = host.clock.model(Seconds(Date().timeIntervalSince1970)) - (host.clock.now - Instant(0))
    }

    var report: ScalingReport { last.withLock { $0 } }

    func start() { tickLater() }

    /// What scrapes said.
    func observed(_ events: [FleetMachine.Event]) {
        scaler.withLock { scaler in
            for event in events {
                switch event {
                case .observed(let id, let observation, let at):
                    scaler.observed(id, PodReading(observation, at: at))
                case .restarted(let id): scaler.restarted(id)
                // The next tick sees the fleet without it.
                case .left: break
                }
            }
        }
    }

    private var now: Instant { host.clock.now + sharedClock }

    private func tickLater() {
        let interval = max(Self.interval, host.clock.model(Self.shortestWait)).rawValue
        let wait = interval - now.rawValue.truncatingRemainder(dividingBy: interval)
        queue.asyncAfter(deadline: .now() + host.clock.wall(Seconds(wait)).rawValue) { [weak self] in
            self?.tick()
            self?.tickLater()
        }
    }

    private func tick() {
        let summary = host.summary
        let pods = summary.endpoints.map { endpoint in
            (
                endpoint.id,
                OwnWork.Pod(inFlight: endpoint.inFlight, backlog: endpoint.backlog)
            )
        }
        let own = OwnWork(
            pods: Dictionary(pods, uniquingKeysWith: { first, _ in first }),
            held: summary.queued + host.requestsWithoutPods,
            isWhole: holdsAlone()
        )
        let fleet = host.fleetNow
        let report = scaler.withLock { $0.tick(fleet, own: own, at: now) }
        last.withLock { $0 = report }
    }
}

extension PodReading {
    init(_ page: EngineObservation, at time: Instant) {
        var counters = PodCounters()
        counters.requests = page[.finishedRequests] ?? page[.prefillTimeCount] ?? 0
        counters.promptTokens = page[.promptTokens] ?? 0
        counters.cachedTokens = page[.prefixHits] ?? 0
        counters.transferredTokens = page[.transferredTokens] ?? 0
        counters.generatedTokens = page[.generationTokens] ?? 0
        if let met = page[.ttftWithin], let all = page[.ttftCount] {
            counters.ttftRequests = all
            counters.ttftMet = met
        }
        if let met = page[.tpotWithin], let all = page[.tpotCount] {
            counters.tpotRequests = all
            counters.tpotMet = met
        }
        let gauges = page.load(observedAt: time).map {
            PodGauges(waiting: Double($0.waiting), running: Double($0.running), kvUse: $0.kvUse)
        }
        self.init(counters: counters, gauges: gauges, tellsTransfers: page[.transferredTokens] != nil)
    }
}
