// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import PrefixIndex
internal import Synchronization

/// Subscribes to the KV events of a fleet and feeds the exact index: one thread, beside the data plane.
///
/// Each turn reads a bounded number of messages of each publisher, so that none starves the others; what comes faster than
/// that waits in libzmq's queues, is dropped there when they are full, and shows as a gap.
package final class KVEventService: Sendable {
    /// What is wanted, set from any thread and taken up by the service's own at its next turn, within a tenth of a second.
    private struct Wanted {
        var subscriptions: [KVEventSubscription] = []
        var isNew = false
        /// Holders whose engines are known to be new ones.
        var restarted: [UInt32] = []
        /// To be called between two batches.
        var look: Look?
        var isStopping = false
        var thread: ControlThread?
    }

    /// Sees the index, and of each publisher the number of the batch that follows on what the index holds.
    package typealias Look = @Sendable (EventPrefixIndex, _ positions: [EventSourceID: UInt64]) -> Void

    private let index: EventPrefixIndex
    private let wanted = Mutex(Wanted())
    private let statisticsBox = Mutex(KVEventStatistics())
    private let resumed: [EventSourceID: UInt64]
    /// Where the publishers stood when the service stopped.
    private let last = Mutex<[EventSourceID: UInt64]>([:])

    /// Why the service could not start.
    package struct StartFailure: Error, Hashable, Sendable {
        package var reason: String
    }

    /// `resuming`: the publishers of which the index holds something already, and the batch that follows on it.
    package init(index: EventPrefixIndex, resuming: [EventSourceID: UInt64] = [:]) {
        self.index = index
        resumed = resuming
    }

    /// Seconds of the clock that the service's index lives by.
    package static var now: Double { KVEventLoop.now }

    package func start() throws(StartFailure) {
        let context: ZMQContext
        do { context = try ZMQContext() } catch { throw StartFailure(reason: error.description) }
        let thread = ControlThread(name: "kv-events") { [index, resumed] in
            let loop = KVEventLoop(context: context, index: index, resuming: resumed)
            while let turn = self.nextTurn() {
                if let wanted = turn.wanted { loop.subscribe(wanted) }
                for holder in turn.restarted { loop.restart(holder) }
                loop.turn()
                let statistics = loop.statistics
                self.statisticsBox.withLock { $0 = statistics }
                turn.look?(index, loop.positions)
            }
            let positions = loop.positions
            self.last.withLock { $0 = positions }
        }
        guard let thread else { throw StartFailure(reason: "no thread") }
        wanted.withLock { $0.thread = thread }
    }

    /// The publishers there are now. Those that are new are subscribed to, those that are missing left.
    package func replace(_ subscriptions: [KVEventSubscription]) {
        wanted.withLock { wanted in
            wanted.subscriptions = Array(subscriptions.prefix(Self.maxSubscriptions))
            wanted.isNew = true
        }
    }

    /// Metrics show that a pod's engine is a new one. Where its events have shown it already, nothing happens.
    package func restarted(holder: UInt32) {
        wanted.withLock { wanted in
            if wanted.restarted.count < Self.maxSubscriptions { wanted.restarted.append(holder) }
        }
    }

    /// Calls `body` on the service's thread between two batches, so that index and positions fit together. Where the
    /// service has stopped, at once.
    package func look(_ body: @escaping Look) {
        let isRunning = wanted.withLock { wanted in
            guard wanted.thread != nil, !wanted.isStopping else { return false }
            wanted.look = body
            return true
        }
        if !isRunning { body(index, last.withLock { $0 }) }
    }

    /// Ends the thread and waits for it.
    package func stop() {
        let thread = wanted.withLock { wanted in
            wanted.isStopping = true
            defer { wanted.thread = nil }
            return wanted.thread
        }
        thread?.join()
    }

    package var statistics: KVEventStatistics { statisticsBox.withLock { $0 } }

    /// A socket each, and one more during a replay.
    private static let maxSubscriptions = 4_000

    private struct Turn {
        /// nil where nothing has changed.
        var wanted: [KVEventSubscription]?
        var restarted: [UInt32]
        var look: Look?
    }

    /// nil when the service shall stop.
    private func nextTurn() -> Turn? {
        wanted.withLock { wanted in
            guard !wanted.isStopping else { return nil }
            defer {
                wanted.isNew = false
                wanted.restarted = []
                wanted.look = nil
            }
            return Turn(
                wanted: wanted.isNew ? wanted.subscriptions : nil,
                restarted: wanted.restarted,
                look: wanted.look
            )
        }
    }
}

/// What a fleet's publishers have sent, summed up.
package struct KVEventStatistics: Sendable, Hashable {
    package var subscriptions = 0
    package var messages = 0
    package var malformed = 0
    package var gaps = 0
    package var lostBatches: UInt64 = 0
    package var restarts = 0
    package var replays = 0
    package var replayFailures = 0
    /// Messages whose topic names no pod that publishes there.
    package var unknownTopics = 0
    /// Endpoints that could not be connected to or bound, with the reason.
    package var failures: [String] = []

    package init() {}
}
