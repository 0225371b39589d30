// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Who of several replicas leads, by a Lease that one of them holds and renews. Pure: time and the API server's answers
/// come in, requests go out, one at a time.
///
/// `unknown → (read) → following → (expired or free) → taking → leading → (another holds it) → following`
///
/// As in client-go, a lease is expired when it has not changed for its duration by this process's own clock: clocks of
/// machines need not agree. Unlike there, a leader that cannot reach the API server goes on: nobody else can take over
/// what he cannot write either, two pickers that serve at once only order worse, and none would serve nobody.
package struct LeaseElection: Sendable {
    package struct Settings: Sendable, Hashable {
        /// After so many seconds without renewal another may take it. Kubernetes counts whole seconds.
        package var durationSeconds: Int
        package var renewInterval: Seconds
        /// How often a follower looks. With the duration: how fast it takes over.
        package var followInterval: Seconds
        /// After a failure or a conflict.
        package var retryInterval: Seconds

        package init(
            durationSeconds: Int = 2,
            renewInterval: Seconds = Seconds(0.5),
            followInterval: Seconds = Seconds(0.25),
            retryInterval: Seconds = Seconds(0.25)
        ) {
            self.durationSeconds = durationSeconds
            self.renewInterval = renewInterval
            self.followInterval = followInterval
            self.retryInterval = retryInterval
        }
    }

    package enum Request: Sendable, Hashable {
        case read
        case create(Lease)
        /// Only if the resource version is still that of the lease.
        case replace(Lease)
    }

    package enum Answer: Sendable, Hashable {
        case lease(Lease)
        case absent
        /// Somebody else wrote first.
        case conflict
        case failed(String)
    }

    private enum State: Sendable, Hashable {
        case unknown
        case absent
        /// `since`: when this version was first seen.
        case following(Lease, since: Instant)
        case taking(Lease)
        case leading(Lease)
    }

    package let identity: String
    package private(set) var isLeader = false
    /// Who holds the lease as far as is known. Empty: nobody.
    package private(set) var holder = ""
    /// When to ask for the next request.
    package private(set) var nextAt: Instant
    private let settings: Settings
    private let name: String
    private let namespace: String
    private var state = State.unknown
    private var isWrite = false

    /// - Parameters:
    ///   - identity: unique among the replicas, and new for each process.
    ///   - name: of the Lease.
    ///   - namespace: of the Lease.
    ///   - settings: how fast.
    ///   - now: the first request is due at once.
    package init(
        identity: String,
        name: String,
        namespace: String,
        settings: Settings = Settings(),
        at now: Instant
    ) {
        self.identity = identity
        self.name = name
        self.namespace = namespace
        self.settings = settings
        nextAt = now
    }

    /// The request to send now. Its answer must follow before the next one. `time`: RFC 3339 with microseconds.
    package mutating func request(time: String) -> Request {
        switch state {
        case .unknown, .following:
            isWrite = false
            return .read
        case .absent:
            isWrite = true
            var lease = Lease(name: name, namespace: namespace)
            claim(&lease, time)
            return .create(lease)
        case .taking(var lease):
            isWrite = true
            lease.transitions = lease.transitions &+ 1
            claim(&lease, time)
            return .replace(lease)
        case .leading(var lease):
            isWrite = true
            lease.renewTime = time
            return .replace(lease)
        }
    }

    private func claim(_ lease: inout Lease, _ time: String) {
        lease.holder = identity
        lease.durationSeconds = settings.durationSeconds
        lease.acquireTime = time
        lease.renewTime = time
    }

    package mutating func answered(_ answer: Answer, at now: Instant) {
        switch answer {
        case .lease(let lease):
            holder = lease.holder
            if lease.holder == identity { lead(lease, at: now) } else { observe(lease, at: now) }
        case .absent:
            // Deleted under us, or never made: whoever creates it leads.
            state = .absent
            nextAt = isWrite ? now + settings.retryInterval : now
        case .conflict:
            state = .unknown
            nextAt = now
        case .failed:
            // What a write has done is not known: read before the next one. A follower keeps what it has seen.
            if isWrite, !isLeader { state = .unknown }
            nextAt = now + settings.retryInterval
        }
    }

    private mutating func lead(_ lease: Lease, at now: Instant) {
        state = .leading(lease)
        isLeader = true
        nextAt = now + (isWrite ? settings.renewInterval : .zero)
    }

    private mutating func observe(_ lease: Lease, at now: Instant) {
        isLeader = false
        guard !lease.holder.isEmpty else {
            state = .taking(lease)
            nextAt = now
            return
        }
        var since = now
        if case .following(let known, let first) = state, known.resourceVersion == lease.resourceVersion {
            since = first
        }
        // A duration that makes no sense is taken as ours.
        let seconds = (1...3600).contains(lease.durationSeconds) ? lease.durationSeconds : settings.durationSeconds
        let expiry = since + Seconds(Double(seconds))
        if now >= expiry {
            state = .taking(lease)
            nextAt = now
        } else {
            state = .following(lease, since: since)
            nextAt = min(now + settings.followInterval, expiry)
        }
    }

    /// The request that gives the lease up, so that another need not wait for its end. nil where it is not held.
    package mutating func release(time: String) -> Request? {
        guard isLeader, case .leading(var lease) = state else { return nil }
        isLeader = false
        state = .unknown
        lease.holder = ""
        lease.durationSeconds = 1
        lease.renewTime = time
        return .replace(lease)
    }
}
