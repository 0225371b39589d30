// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Dispatch
import Fleet
import Foundation
import Kubernetes
import Logging
import Synchronization

/// Takes part in the election of the replica that serves: asks the API server what `LeaseElection` wants to know, on a
/// queue of its own, and tells of changes.
final class Leadership: Sendable {
    private let client: KubernetesClient
    private let name: String
    private let namespace: String
    private let election: Mutex<LeaseElection>
    private let clock = ModelClock()
    private let log: Logger
    private let queue = DispatchQueue(label: "leadership", qos: .userInitiated)
    private let changed: @Sendable (_ isLeader: Bool) -> Void
    private let isStopped = Atomic(false)
    private let isFailing = Atomic(false)

    /// - Parameters:
    ///   - client: of the API server.
    ///   - name: of the Lease.
    ///   - namespace: of the Lease.
    ///   - log: hears of changes, and of the first of failures in a row.
    ///   - changed: called when this replica begins or ceases to lead, one call after the other.
    init(
        client: KubernetesClient,
        name: String,
        namespace: String,
        log: Logger,
        changed: @escaping @Sendable (_ isLeader: Bool) -> Void
    ) {
        self.client = client
        self.name = name
        self.namespace = namespace
        self.log = log
        self.changed = changed
        election = Mutex(
            LeaseElection(identity: Self.identity, name: name, namespace: namespace, at: clock.now)
        )
    }

    /// The pod's name, and a number that tells this process from the one before it in the same pod.
    private static var identity: String {
        let pod = ProcessInfo.processInfo.environment["POD_NAME"] ?? ProcessInfo.processInfo.hostName
        return "\(pod)_\(String(UInt64.random(in: .min ... .max), radix: 16))"
    }

    var isLeader: Bool { election.withLock { $0.isLeader } }

    func start() { queue.async { [self] in round() } }

    /// Gives the lease up, if this replica holds it, and takes no further part. Then calls `done`: soon after another replica
    /// holds the lease, or after `limit`. Until then this one should go on serving: in a roll-out all replicas are told to end at
    /// once, and the next ones have yet to start.
    func handOver(within limit: Seconds, then done: @escaping @Sendable () -> Void) {
        isStopped.store(true, ordering: .releasing)
        queue.async { [self] in
            guard let release = election.withLock({ $0.release(time: Self.time) }) else { return done() }
            let answer = client.send(release, name: name, namespace: namespace)
            if case .lease = answer {
                log.info("the lease is given up", metadata: ["lease": "\(namespace)/\(name)"])
            } else {
                log.warning("the lease could not be given up", metadata: ["answer": "\(answer)"])
            }
            awaitSuccessor(until: clock.now + limit, done)
        }
    }

    private func awaitSuccessor(until end: Instant, _ done: @escaping @Sendable () -> Void) {
        let own = election.withLock { $0.identity }
        if case .lease(let lease) = client.send(.read, name: name, namespace: namespace), !lease.holder.isEmpty,
            lease.holder != own
        {
            log.info("another replica leads", metadata: ["holder": "\(lease.holder)"])
            return queue.asyncAfter(deadline: .now() + Self.overlap, execute: done)
        }
        guard clock.now < end else {
            log.warning("no other replica has taken the lease")
            return done()
        }
        queue.asyncAfter(deadline: .now() + Self.successorInterval) { [self] in awaitSuccessor(until: end, done) }
    }

    /// Seconds. Short, since both replicas serve meanwhile; ten requests a second for a few seconds are nothing to a cluster.
    private static let successorInterval = 0.1
    /// Seconds until those who send requests have found the new leader: Envoy asks an unhealthy host every half second,
    /// kubelet a pod every second.
    private static let overlap = 1.5

    private static var time: String { MicroTime.text(Int64(Date().timeIntervalSince1970 * 1e6)) }

    private func round() {
        guard !isStopped.load(ordering: .acquiring) else { return }
        let request = election.withLock { $0.request(time: Self.time) }
        let answer = client.send(request, name: name, namespace: namespace)
        let (before, after, holder, wait) = election.withLock { election in
            let before = election.isLeader
            election.answered(answer, at: clock.now)
            return (before, election.isLeader, election.holder, election.nextAt - clock.now)
        }
        report(answer)
        if before != after {
            log.info(
                after ? "this replica leads" : "another replica leads",
                metadata: ["lease": "\(namespace)/\(name)", "holder": "\(holder)"]
            )
            changed(after)
        }
        // Replicas that met in a conflict do not meet again.
        let jitter = answer == .conflict ? Double.random(in: 0.01...0.1) : 0
        queue.asyncAfter(deadline: .now() + max(wait.rawValue, 0) + jitter) { [weak self] in self?.round() }
    }

    /// Failures in a row are one line, and so is their end.
    private func report(_ answer: LeaseElection.Answer) {
        if case .failed(let why) = answer {
            guard !isFailing.exchange(true, ordering: .relaxed) else { return }
            log.warning("the API server cannot be asked for the lease", metadata: ["reason": "\(why)"])
        } else if isFailing.exchange(false, ordering: .relaxed) {
            log.info("the API server answers again")
        }
    }
}
