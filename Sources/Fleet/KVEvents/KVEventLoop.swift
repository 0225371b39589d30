// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CZMQ
internal import Glibc
internal import PrefixIndex

/// The event thread's state: sockets, feeds and replays. Lives and dies on that thread.
final class KVEventLoop {
    /// A socket to one place, and the publishers expected there.
    private struct Inlet {
        var socket: ZMQSocket
        var endpoint: String
        /// Places in `feeds`.
        var feeds: [EventSourceID]
    }

    private struct Replay {
        var socket: ZMQSocket
        var source: EventSourceID
        var begun: Double
        var heard: Double
    }

    private let context: ZMQContext
    private let index: EventPrefixIndex
    private var subscriptions: [EventSourceID: KVEventSubscription] = [:]
    private var feeds: [EventSourceID: KVEventFeed] = [:]
    private var inlets: [Inlet] = []
    private var replays: [Replay] = []
    /// When a publisher may be asked for a replay again.
    private var pauses: [EventSourceID: Double] = [:]
    private var lastMaintenance = 0.0
    private var isBusy = false
    /// Totals of publishers that have left.
    private var past = KVEventStatistics()

    /// Messages and bytes of one publisher per turn: 4 MB are taken in within some 10 ms.
    private static let messagesPerTurn = 64
    private static let bytesPerTurn = 4 << 20
    /// Messages that libzmq may keep for us of one publisher. What more comes waits in the publisher's own queue, of 100,000
    /// in vLLM: however fast and large messages come, here they are at most 64 of 16 MB.
    private static let queuedMessages: Int32 = 64
    private static let maxReplays = 8
    /// A replay that is silent this long, or takes this long in all, is given up; the next one waits.
    private static let replayIdleSeconds = 2.0
    private static let replayTotalSeconds = 60.0
    private static let replayPauseSeconds = 30.0
    private static let turnMilliseconds = 100

    /// Publishers that the index came with and that nobody has subscribed to yet, with their next batches.
    private var awaited: [EventSourceID: UInt64]
    private let begun = KVEventLoop.now

    /// A pod that has not come again by then is forgotten: as long as a doubtful part is believed.
    private static let awaitedSeconds = 600.0

    init(context: ZMQContext, index: EventPrefixIndex, resuming: [EventSourceID: UInt64]) {
        self.context = context
        self.index = index
        awaited = resuming
    }

    /// Of each publisher the batch that follows on what the index holds.
    var positions: [EventSourceID: UInt64] { feeds.compactMapValues(\.next).merging(awaited) { live, _ in live } }

    var statistics: KVEventStatistics {
        var sum = past
        sum.subscriptions = subscriptions.count
        for feed in feeds.values {
            sum.messages += feed.messages
            sum.malformed += feed.malformed
            sum.gaps += feed.gaps
            sum.lostBatches += feed.lostBatches
            sum.restarts += feed.restarts
        }
        return sum
    }

    // MARK: - Subscriptions

    func subscribe(_ wanted: [KVEventSubscription]) {
        var next: [EventSourceID: KVEventSubscription] = [:]
        for subscription in wanted { next[subscription.source] = subscription }
        for (source, old) in subscriptions where next[source] != old { leave(source) }
        past.failures = []
        for source in next.keys.sorted() where subscriptions[source] == nil {
            if let subscription = next[source] { join(subscription) }
        }
    }

    private func join(_ subscription: KVEventSubscription) {
        do throws(ZMQError) {
            // Publishers that connect to one place share its socket.
            if let place = inlets.firstIndex(where: { $0.endpoint == subscription.endpoint }) {
                inlets[place].socket.subscribe(subscription.topic)
                inlets[place].feeds.append(subscription.source)
            } else {
                let socket = try ZMQSocket(context, type: ZMQ_SUB)
                socket.set(ZMQ_RCVHWM, Self.queuedMessages)
                socket.subscribe(subscription.topic)
                if subscription.binds {
                    try socket.bind(subscription.endpoint)
                } else {
                    try socket.connect(subscription.endpoint)
                }
                inlets.append(Inlet(socket: socket, endpoint: subscription.endpoint, feeds: [subscription.source]))
            }
            subscriptions[subscription.source] = subscription
            feeds[subscription.source] = KVEventFeed(
                source: subscription.source,
                canReplay: subscription.replay != nil,
                next: awaited.removeValue(forKey: subscription.source)
            )
        } catch {
            if past.failures.count < 16 { past.failures.append(error.description) }
        }
    }

    private func leave(_ source: EventSourceID) {
        subscriptions[source] = nil
        replays.removeAll { $0.source == source }
        pauses[source] = nil
        if let feed = feeds.removeValue(forKey: source) {
            past.messages += feed.messages
            past.malformed += feed.malformed
            past.gaps += feed.gaps
            past.lostBatches += feed.lostBatches
            past.restarts += feed.restarts
        }
        for place in inlets.indices { inlets[place].feeds.removeAll { $0 == source } }
        inlets.removeAll { $0.feeds.isEmpty }
        index.clear(source)
    }

    func restart(_ holder: UInt32) {
        for source in feeds.keys.filter({ $0.holder == holder }).sorted() {
            feeds[source]?.restarted(index, now: Self.now)
        }
    }

    // MARK: - Turns

    /// Waits for messages, at most a tenth of a second, and takes in some of them.
    func turn() {
        let sockets = inlets.map(\.socket) + replays.map(\.socket)
        let readable = ZMQPoll.wait(sockets, milliseconds: isBusy ? 0 : Self.turnMilliseconds)
        let now = Self.now
        var ended: [Int] = []
        for place in readable {
            if place < inlets.count {
                readEvents(inlets[place], now)
            } else if readReplay(place - inlets.count, now) {
                ended.append(place - inlets.count)
            }
        }
        for place in ended.reversed() { replays.remove(at: place) }
        endSilentReplays(now)
        beginReplays(now)
        if isBusy || now - lastMaintenance > 1 {
            lastMaintenance = now
            isBusy = index.maintain(now: now)
            if !awaited.isEmpty, now - begun > Self.awaitedSeconds { forgetAwaited() }
        }
    }

    private func forgetAwaited() {
        let holders = Set(awaited.keys.map(\.holder)).subtracting(feeds.keys.map(\.holder))
        for holder in holders.sorted() { index.remove(holder: holder) }
        awaited = [:]
    }

    private func readEvents(_ inlet: Inlet, _ now: Double) {
        var bytes = 0
        for _ in 0..<Self.messagesPerTurn where bytes < Self.bytesPerTurn {
            guard let frames = inlet.socket.receive() else { return }
            bytes += frames.reduce(0) { $0 + $1.count }
            guard let source = source(of: frames, at: inlet) else {
                past.unknownTopics += 1
                continue
            }
            feeds[source]?.live(frames, index, now: now)
        }
    }

    /// The publisher of a message: the only one there, or the one that topic and rank name.
    private func source(of frames: [[UInt8]], at inlet: Inlet) -> EventSourceID? {
        if inlet.feeds.count == 1 { return inlet.feeds[0] }
        guard let topic = frames.first, let payload = frames.last else { return nil }
        let parts = String(decoding: topic, as: UTF8.self).split(separator: "@", omittingEmptySubsequences: false)
        guard parts.count >= 2 else { return nil }
        let name = parts.count == 2 ? String(parts[1]) : parts[1..<(parts.count - 1)].joined(separator: "@")
        let rank = KVEventDecoder.rank(of: payload) ?? 0
        return inlet.feeds.first { source in
            source.rank == rank && subscriptions[source]?.names.contains(name) == true
        }
    }

    // MARK: - Replays

    private func beginReplays(_ now: Double) {
        guard replays.count < Self.maxReplays else { return }
        for source in feeds.keys.sorted() {
            guard replays.count < Self.maxReplays else { return }
            guard let from = feeds[source]?.wantedReplay, !replays.contains(where: { $0.source == source }) else {
                continue
            }
            guard let endpoint = subscriptions[source]?.replay, pauses[source] ?? 0 <= now,
                let socket = try? ZMQSocket(context, type: ZMQ_DEALER), (try? socket.connect(endpoint)) != nil,
                socket.send([[], KVEventEncoder.sequenceFrame(from)])
            else {
                past.replayFailures += 1
                feeds[source]?.replayEnded(index, now: now)
                continue
            }
            past.replays += 1
            feeds[source]?.replayBegan()
            replays.append(Replay(socket: socket, source: source, begun: now, heard: now))
        }
    }

    /// True at the replay's end.
    private func readReplay(_ place: Int, _ now: Double) -> Bool {
        var bytes = 0
        for _ in 0..<Self.messagesPerTurn where bytes < Self.bytesPerTurn {
            guard let frames = replays[place].socket.receive() else { return false }
            bytes += frames.reduce(0) { $0 + $1.count }
            replays[place].heard = now
            if feeds[replays[place].source]?.replayed(frames, index, now: now) ?? true { return true }
        }
        return false
    }

    private func endSilentReplays(_ now: Double) {
        replays.removeAll { replay in
            let isOver =
                now - replay.heard > Self.replayIdleSeconds || now - replay.begun > Self.replayTotalSeconds
            guard isOver else { return false }
            past.replayFailures += 1
            pauses[replay.source] = now + Self.replayPauseSeconds
            feeds[replay.source]?.replayEnded(index, now: now)
            return true
        }
    }

    static var now: Double {
        var time = timespec()
        unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return Double(time.tv_sec) + Double(time.tv_nsec) * 1e-9
    }
}
