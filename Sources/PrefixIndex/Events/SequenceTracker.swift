// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Watches the sequence numbers of one publisher, so that no lost batch goes unnoticed. Pure: batches in, actions out.
///
///     fresh ──first number──► following ──gap, server replays──► replaying ──end, time-out──► following
///                                 │ gap, no replay: doubtful          │
///                                 ◄───────────────────────────────────┘
///     a live number that goes back: the engine restarted; everything starts anew
package struct SequenceTracker: Sendable {
    package enum Action: Sendable, Hashable {
        /// Apply this batch now.
        case apply([UInt8])
        /// Forget all that this publisher's pod holds: its engine has restarted.
        case restart
        /// Batches are lost: what was known may no longer be true.
        case doubt(lost: UInt64)
        /// Ask the server for its batches from this number on.
        case replay(from: UInt64)
    }

    package enum State: Sendable, Hashable {
        case fresh
        case following(next: UInt64)
        /// Live batches wait behind those asked for.
        case replaying(next: UInt64)
    }

    package private(set) var state = State.fresh
    /// The server keeps batches for replay.
    package let canReplay: Bool
    /// Gaps seen, and batches that were lost for good.
    package private(set) var gaps = 0
    package private(set) var lostBatches: UInt64 = 0
    package private(set) var restarts = 0

    private var waiting: [(number: UInt64, payload: [UInt8])] = []
    private var waitingBytes = 0
    private var lastLive: UInt64?
    private var lastDigest: UInt64 = 0

    /// What waits during a replay, in batches and bytes; beyond it the replay is given up. A replay of 10,000 batches takes
    /// seconds; an engine publishes about 30 to 100 batches in each.
    static let maxWaiting = 4_096
    static let maxWaitingBytes = 32 << 20

    /// `next`: the number that follows on what is known already, as from a snapshot; nil: nothing is known.
    package init(canReplay: Bool, next: UInt64? = nil) {
        self.canReplay = canReplay
        guard let next else { return }
        state = .following(next: next)
        lastLive = next > 0 ? next - 1 : nil
    }

    /// The number that follows on all that was applied; nil before the first.
    package var next: UInt64? {
        switch state {
        case .fresh, .replaying(next: 0): nil
        case .following(let next), .replaying(let next): next
        }
    }

    /// A batch from the publisher.
    package mutating func live(_ number: UInt64, _ payload: [UInt8]) -> [Action] {
        var actions: [Action] = []
        let digest = unsafe payload.withUnsafeBytes { unsafe BlockHash.saltSeed(number, $0) }
        // The same message twice, as over two connections; batches bear a time and never repeat.
        if number == lastLive, digest == lastDigest { return [] }
        lastDigest = digest
        if let lastLive, number <= lastLive {
            restarts += 1
            waiting = []
            waitingBytes = 0
            state = .fresh
            actions.append(.restart)
        }
        lastLive = number
        switch state {
        case .fresh:
            if number > 0, canReplay {
                wait(number, payload)
                state = .replaying(next: 0)
                actions.append(.replay(from: 0))
            } else {
                state = .following(next: number &+ 1)
                actions.append(.apply(payload))
            }
        case .following(let next) where number == next:
            state = .following(next: number &+ 1)
            actions.append(.apply(payload))
        case .following(let next) where number < next:
            // Older than what a replay brought, and newer than the last live one: already applied.
            break
        case .following(let next):
            gaps += 1
            if canReplay {
                wait(number, payload)
                state = .replaying(next: next)
                actions.append(.replay(from: next))
            } else {
                actions += [lose(number - next), .apply(payload)]
                state = .following(next: number &+ 1)
            }
        case .replaying:
            wait(number, payload)
            if waiting.count > Self.maxWaiting || waitingBytes > Self.maxWaitingBytes { actions += replayEnded() }
        }
        return actions
    }

    /// A batch that the server sent again.
    package mutating func replayed(_ number: UInt64, _ payload: [UInt8]) -> [Action] {
        guard case .replaying(let next) = state, number >= next else { return [] }
        var actions: [Action] = []
        // What lies before a fresh start was never seen: nothing known becomes wrong.
        if number > next, next > 0 { actions.append(lose(number - next)) }
        state = .replaying(next: number &+ 1)
        actions.append(.apply(payload))
        return actions
    }

    /// The server has sent all it has, or has not answered in time, or too much waits.
    package mutating func replayEnded() -> [Action] {
        guard case .replaying(var next) = state else { return [] }
        var actions: [Action] = []
        for batch in waiting where batch.number >= next {
            if batch.number > next, next > 0 { actions.append(lose(batch.number - next)) }
            actions.append(.apply(batch.payload))
            next = batch.number &+ 1
        }
        waiting = []
        waitingBytes = 0
        state = .following(next: next)
        return actions
    }

    /// The engine is known to have restarted, as from its metrics.
    package mutating func restart() -> [Action] {
        restarts += 1
        waiting = []
        waitingBytes = 0
        lastLive = nil
        state = .fresh
        return [.restart]
    }

    private mutating func wait(_ number: UInt64, _ payload: [UInt8]) {
        waiting.append((number, payload))
        waitingBytes += payload.count
    }

    private mutating func lose(_ count: UInt64) -> Action {
        lostBatches &+= count
        return .doubt(lost: count)
    }
}
