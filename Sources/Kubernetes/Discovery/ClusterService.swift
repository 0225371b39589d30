// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Fleet
package import Logging
import Synchronization

/// Follows a cluster on a thread of its own, and tells what is known whenever that changes. What is decided here is decided by
/// `ClusterMachine`.
package final class ClusterService: Sendable {
    /// What the service tells, on its own thread: be quick.
    package typealias Handler = @Sendable (ClusterState) -> Void

    /// How the cluster stands, for probes, debug pages and metrics.
    package struct Standing: Sendable, Hashable {
        /// Pools and pods have been listed once.
        package var isSynced = false
        /// Why what is known may be old or incomplete. nil: all is well.
        package var trouble: String?
        package var watches: [WatchReport] = []
        /// By pool, in the order of the selection: why it has no pods, or may have other ones. nil: all is well.
        package var pools: [PoolStanding] = []

        package init() {}
    }

    package struct PoolStanding: Sendable, Hashable {
        package var name: String
        package var trouble: String?
    }

    struct Shared {
        var standing = Standing()
        var isStopping = false
        var waker: APIWaker?
        var thread: ControlThread?
    }

    let client: KubernetesClient
    let selection: ClusterSelection
    let settings: WatchSettings
    let seed: UInt64
    let log: Logger
    let handler: Handler
    let shared = Mutex(Shared())

    /// Where the pods are.
    package var namespace: String { selection.namespace }

    package init(
        client: KubernetesClient,
        selection: ClusterSelection,
        settings: WatchSettings = WatchSettings(),
        seed: UInt64 = UInt64.random(in: .min ... .max),
        log: Logger,
        handler: @escaping Handler
    ) {
        self.client = client
        self.selection = selection
        self.settings = settings
        self.seed = seed
        self.log = log
        self.handler = handler
    }

    /// Why the service could not start: the system gave no thread or no memory.
    package struct StartFailure: Error, Sendable, Hashable {}

    package func start() throws(StartFailure) {
        let started = ControlThread(name: "kubernetes") { [self] in follow() }
        guard let thread = started else { throw StartFailure() }
        shared.withLock { $0.thread = thread }
    }

    private func follow() {
        var isTold = false
        while !shared.withLock({ $0.isStopping }) {
            if let loop = ClusterLoop(self) { return loop.run() }
            // Memory comes back; a picker that never follows its cluster would be worse than one that does so late.
            if !isTold { log.error("the cluster cannot be followed: libcurl has no memory") }
            isTold = true
            ControlThread.sleep(seconds: settings.firstRetry.rawValue)
        }
    }

    /// Ends the thread and waits for it.
    package func stop() {
        let thread = shared.withLock { shared in
            shared.isStopping = true
            shared.waker?.wake()
            defer { shared.thread = nil }
            return shared.thread
        }
        thread?.join()
    }

    package var standing: Standing { shared.withLock { $0.standing } }
}
