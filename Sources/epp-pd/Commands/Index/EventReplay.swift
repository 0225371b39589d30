// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import PrefixIndex

/// Captured messages, applied to an index as the picker would.
struct EventReplay {
    /// One match of a query, with the pod's name.
    struct Match: Encodable, Equatable {
        var pod: String
        var rank: Int
        var tier: String
        var tokens: Int
    }

    private(set) var index: EventPrefixIndex
    /// Pods by the number that the index knows them by.
    private(set) var pods: [String] = []
    private(set) var outcome = EventOutcome()
    private(set) var gaps = 0
    private(set) var restarts = 0
    /// What was wrong with single messages, for people.
    private(set) var complaints: [String] = []

    /// Replay of a file takes no part in the picker's memory: room for all of a large capture.
    private static let budget = 1 << 30

    init(_ folder: FrameFolder) throws {
        index = try EventPrefixIndex(budget: Self.budget, unit: Self.unit(of: folder))
        var trackers: [EventSourceID: SequenceTracker] = [:]
        for message in folder.messages {
            let pod = folder.pod(of: message.topic)
            let holder = pods.firstIndex(of: pod) ?? pods.count
            if holder == pods.count { pods.append(pod) }
            let rank = KVEventDecoder.rank(of: message.payload) ?? 0
            let source = EventSourceID(holder: UInt32(holder), rank: rank)
            guard let sequence = message.sequence else {
                complaints.append("\(message.number): no sequence number of eight bytes; applied all the same")
                apply(message.payload, source, message.number)
                continue
            }
            var tracker = trackers[source] ?? SequenceTracker(canReplay: false)
            for action in tracker.live(sequence, message.payload) { run(action, source, message.number) }
            trackers[source] = tracker
        }
        gaps = trackers.values.reduce(0) { $0 + $1.gaps }
        restarts = trackers.values.reduce(0) { $0 + $1.restarts }
    }

    /// What is held of a prompt, sorted by pod, rank and tier.
    func matches(tokens: [UInt32], cacheSalt: String?) -> [Match] {
        var hasher = TokenKeyHasher(
            model: nil,
            cacheSalt: cacheSalt,
            tokensPerBlock: index.unit,
            maxBlocks: PrefixKeys.mostBlocks
        )
        hasher.update(tokens)
        var found: [TierMatch] = []
        index.matches(of: hasher.finish(), into: &found)
        return found.sorted { (pods[Int($0.holder)], $0.rank, $0.tier) < (pods[Int($1.holder)], $1.rank, $1.tier) }
            .map { Match(pod: pods[Int($0.holder)], rank: $0.rank, tier: $0.tier.name, tokens: $0.tokens) }
    }

    private mutating func run(_ action: SequenceTracker.Action, _ source: EventSourceID, _ number: String) {
        switch action {
        case .apply(let payload):
            apply(payload, source, number)
        case .restart:
            complaints.append("\(number): the sequence goes back; its publisher has restarted and starts empty")
            index.clear(source)
        case .doubt(let lost):
            complaints.append("\(number): \(lost) batches are missing before it")
            index.doubt(source, now: 0)
        case .replay:
            break
        }
    }

    private mutating func apply(_ payload: [UInt8], _ source: EventSourceID, _ number: String) {
        var step = index.apply(payload, from: source)
        // Of another hash domain: once more into the next one.
        var attempts = 0
        while step.hasMoved, attempts < 32 {
            step = index.apply(payload, from: source)
            attempts += 1
        }
        if step.isMalformed { complaints.append("\(number): not a batch of KV events to its end") }
        outcome += step
    }

    /// The greatest length of which every block size in the capture is a multiple.
    private static func unit(of folder: FrameFolder) -> Int {
        var unit = 0
        for message in folder.messages {
            for size in KVEventDecoder.blockSizes(of: message.payload) { unit = greatestCommonDivisor(unit, size) }
        }
        return unit == 0 ? TokenKeyHasher.defaultTokensPerBlock : unit
    }

    private static func greatestCommonDivisor(_ a: Int, _ b: Int) -> Int {
        var (a, b) = (a, b)
        while b != 0 { (a, b) = (b, a % b) }
        return a
    }
}
