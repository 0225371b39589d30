// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Logging
import Synchronization

/// The service's thread: sends what the machine asks for, and tells it what comes. Confined to it.
final class ClusterLoop {
    /// Changes within this time become one: a roll-out of a hundred pods is told a few times, not a hundred.
    private static let gatherTime = 0.01

    private let service: ClusterService
    private let transfers: APITransfers
    private var machine: ClusterMachine
    private let began = ContinuousClock.now
    private var told: ClusterMachine.Revision?
    private var last: ClusterState?
    private var troubleLog: TroubleLog

    init?(_ service: ClusterService) {
        guard let transfers = APITransfers(service.client.calls) else { return nil }
        self.service = service
        self.transfers = transfers
        machine = ClusterMachine(service.selection, service.settings, seed: service.seed)
        troubleLog = TroubleLog(calm: service.settings.longestRetry.rawValue + 1)
    }

    private var now: Double {
        let (seconds, attoseconds) = (ContinuousClock.now - began).components
        return Double(seconds) + Double(attoseconds) * 1e-18
    }

    func run() {
        service.shared.withLock { $0.waker = transfers.waker }
        while !service.shared.withLock({ $0.isStopping }) {
            for sending in machine.requests(at: now) { send(sending) }
            for event in transfers.events() { take(event) }
            publish()
            if now >= troubleLog.nextWake { report(machine.state, machine.reports) }
            let wait = min(min(machine.nextWake, troubleLog.nextWake) - now, 60)
            transfers.wait(Seconds(max(wait, Self.gatherTime)))
        }
        service.shared.withLock { $0.waker = nil }
    }

    private func send(_ sending: ClusterMachine.Sending) {
        do throws(KubernetesFailure) {
            try transfers.start(sending.tag, sending.request, service.client.configuration)
        } catch {
            end(sending.tag, status: 0, retryAfter: nil, error)
        }
    }

    private func take(_ event: APITransfers.Event) {
        switch event {
        case .received(let tag, let bytes, let status):
            guard !machine.received(tag, bytes, status: status) else { return }
            transfers.cancel(tag)
            end(tag, status: status, retryAfter: nil, .connectionLost)
        case .ended(let tag, let status, let retryAfter, let failure):
            end(tag, status: status, retryAfter: retryAfter, failure)
        }
    }

    private func end(_ tag: Int, status: Int, retryAfter: Double?, _ failure: KubernetesFailure?) {
        let further = machine.ended(tag, status: status, retryAfter: retryAfter, failure: failure, at: now)
        if let further { send(further) }
    }

    // MARK: - What is told

    private func publish() {
        let revision = machine.revision
        guard revision != told else { return }
        told = revision
        let state = machine.state
        let reports = machine.reports
        var standing = ClusterService.Standing()
        standing.isSynced = machine.isSynced
        standing.watches = reports
        standing.pools = state.pools.map { ClusterService.PoolStanding(name: $0.name, trouble: $0.trouble) }
        standing.trouble = trouble(state, reports)
        report(state, reports)
        let wasSynced = service.shared.withLock { shared in
            defer { shared.standing = standing }
            return shared.standing.isSynced
        }
        // What is known before the first lists are whole is no fleet.
        guard standing.isSynced || wasSynced, state != last else { return }
        last = state
        service.handler(state)
    }

    private func trouble(_ state: ClusterState, _ reports: [WatchReport]) -> String? {
        let watches = reports.filter { !$0.isOptional && $0.standing.isTrouble }
            .map { "the Kubernetes API (\($0.kind)) \($0.standing); what was known before still counts" }
        let all = state.pools.compactMap(\.trouble) + watches
        return all.isEmpty ? nil : all.joined(separator: "; ")
    }

    private func report(_ state: ClusterState, _ reports: [WatchReport]) {
        for line in troubleLog.update(state, reports, at: now) {
            switch line {
            case .began(let what, let trouble):
                service.log.warning("trouble with the cluster", metadata: ["what": "\(what)", "trouble": "\(trouble)"])
            case .ended(let what):
                service.log.info("the cluster's trouble is over", metadata: ["what": "\(what)"])
            }
        }
    }
}
