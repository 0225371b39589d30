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
    /// What was logged of each watch, so that trouble is logged once, and its end once.
    private var logged: [String: String] = [:]

    init?(_ service: ClusterService) {
        guard let transfers = APITransfers(service.client.calls) else { return nil }
        self.service = service
        self.transfers = transfers
        machine = ClusterMachine(service.selection, service.settings, seed: service.seed)
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
            let wait = min(machine.nextWake - now, 60)
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

    /// Logs trouble when it begins or becomes another, and its end.
    private func report(_ state: ClusterState, _ reports: [WatchReport]) {
        var now: [(name: String, trouble: String)] = []
        for report in reports {
            if report.standing.isTrouble { now.append((report.kind, kindOfTrouble(report.standing))) }
            for (name, why) in report.invalid.sorted(by: { $0.key < $1.key }).prefix(Self.mostInvalidLogged) {
                now.append(("\(report.kind) \(name)", "cannot be read: \(why)"))
            }
        }
        for pool in state.pools {
            if let trouble = pool.trouble { now.append(("pool \(pool.name)", trouble)) }
        }
        for (name, trouble) in now where logged[name] != trouble {
            service.log.warning("trouble with the cluster", metadata: ["what": "\(name)", "trouble": "\(trouble)"])
        }
        let names = Set(now.map(\.name))
        for name in logged.keys.sorted() where !names.contains(name) {
            service.log.info("the cluster's trouble is over", metadata: ["what": "\(name)"])
        }
        logged = Dictionary(now.map { ($0.name, $0.trouble) }, uniquingKeysWith: { first, _ in first })
    }

    /// Invalid objects to name in the log; all of them are on /debug/cluster.
    private static let mostInvalidLogged = 20

    /// A server that is away answers now with a reset and now with a refusal: that is one trouble.
    private func kindOfTrouble(_ standing: WatchStanding) -> String {
        switch standing {
        case .failing(.unreachable), .failing(.timedOut), .failing(.connectionLost): "the API server is away"
        default: standing.description
        }
    }
}
