// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Dispatch
import Kubernetes
import Logging
import Synchronization

/// One look at a cluster, for commands that do not stay.
final class ClusterReading: Sendable {
    struct Outcome {
        var state: ClusterState
        /// Why it may be incomplete. nil: all is well.
        var trouble: String?
    }

    /// Why there is no state at all, for people.
    struct Failure: Error, Hashable, CustomStringConvertible {
        var description: String
    }

    private let state = Mutex<ClusterState?>(nil)
    private let isRead = DispatchSemaphore(value: 0)

    static func read(
        _ options: ClusterOptions,
        _ client: KubernetesClient,
        timeout: Seconds
    ) throws(Failure) -> Outcome {
        let reading = ClusterReading()
        var log = Logger(label: "epp-pd") { StreamLogHandler.standardError(label: $0) }
        // What is wrong is said at the end.
        log.logLevel = .critical
        let service = ClusterService(
            client: client,
            selection: options.selection(client),
            settings: options.settings,
            log: log
        ) { [reading] state in
            reading.state.withLock { $0 = state }
            reading.isRead.signal()
        }
        do {
            try service.start()
        } catch {
            throw Failure(description: "the cluster cannot be followed: the system gave no thread")
        }
        let outcome = reading.isRead.wait(timeout: .now() + timeout.rawValue)
        let trouble = service.standing.trouble
        service.stop()
        guard outcome == .success, let state = reading.state.withLock({ $0 }) else {
            let why = trouble ?? "it does not answer"
            throw Failure(description: "the cluster was not read within \(timeout.rawValue) s: \(why)")
        }
        return Outcome(state: state, trouble: trouble)
    }
}
