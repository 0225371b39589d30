// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import PrefixIndex

/// One publisher's batches on their way into the index: no socket, so that tests feed it directly.
struct KVEventFeed {
    let source: EventSourceID
    private var tracker: SequenceTracker
    private(set) var messages = 0
    private(set) var malformed = 0
    /// The batches that are wanted again, where the server keeps them.
    private(set) var wantedReplay: UInt64?
    private var lastRestart: Double?
    /// Metrics pages and events tell of the same restart up to this far apart.
    private static let restartSeconds = 15.0

    /// `next`: the number of the batch that follows on what the index holds of the publisher already.
    init(source: EventSourceID, canReplay: Bool, next: UInt64? = nil) {
        self.source = source
        tracker = SequenceTracker(canReplay: canReplay, next: next)
    }

    /// The batch that follows on what the index holds; nil where it holds nothing.
    var next: UInt64? { tracker.next }

    var gaps: Int { tracker.gaps }
    var lostBatches: UInt64 { tracker.lostBatches }
    var restarts: Int { tracker.restarts }

    /// A published message: [topic, number, batch].
    mutating func live(_ frames: [[UInt8]], _ index: EventPrefixIndex, now: Double) {
        messages += 1
        guard frames.count >= 2, let number = Self.number(frames[frames.count - 2]), let payload = frames.last else {
            malformed += 1
            index.doubt(source, now: now)
            return
        }
        run(tracker.live(number, payload), index, now)
    }

    /// An answer to a replay: [(empty), (topic), number, batch], empty at its end.
    /// - Returns: true at the end.
    mutating func replayed(_ frames: [[UInt8]], _ index: EventPrefixIndex, now: Double) -> Bool {
        guard frames.count >= 2, let number = Self.number(frames[frames.count - 2]), let payload = frames.last,
            !payload.isEmpty, number != .max
        else {
            replayEnded(index, now: now)
            return true
        }
        run(tracker.replayed(number, payload), index, now)
        return false
    }

    /// The replay is over, or has failed.
    mutating func replayEnded(_ index: EventPrefixIndex, now: Double) {
        wantedReplay = nil
        run(tracker.replayEnded(), index, now)
    }

    /// The replay has been asked for.
    mutating func replayBegan() { wantedReplay = nil }

    /// The engine is known to be a new one, from elsewhere. What it has stored since is asked for again, where it can be.
    mutating func restarted(_ index: EventPrefixIndex, now: Double) {
        if let lastRestart, now - lastRestart < Self.restartSeconds { return }
        run(tracker.restart(), index, now)
    }

    private mutating func run(_ actions: [SequenceTracker.Action], _ index: EventPrefixIndex, _ now: Double) {
        for action in actions {
            switch action {
            case .apply(let payload): apply(payload, index, now)
            case .restart:
                lastRestart = now
                index.clear(source)
            case .doubt: index.doubt(source, now: now)
            case .replay(let from): wantedReplay = from
            }
        }
    }

    private mutating func apply(_ payload: [UInt8], _ index: EventPrefixIndex, _ now: Double) {
        var outcome = index.apply(payload, from: source)
        // Of another hash domain: what it stored before is gone, and the batch goes to the next domain.
        if outcome.hasMoved {
            outcome = index.apply(payload, from: source)
            index.doubt(source, now: now)
        }
        if outcome.isMalformed {
            malformed += 1
            index.doubt(source, now: now)
        }
    }

    private static func number(_ frame: [UInt8]) -> UInt64? {
        guard frame.count == 8 else { return nil }
        return frame.reduce(0) { $0 << 8 | UInt64($1) }
    }
}
