// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Fleet
import Foundation
import PrefixIndex
import Simulation

/// Tells subscribers what a mock engine caches, by real KV events in vLLM's layout.
struct BlockReporter {
    private struct Prompt {
        var tokens: [UInt32]
        var hashes: [UInt64]
        var cacheSalt: String?
    }

    let publisher: KVEventPublisher
    let blockSize: Int
    private var prompts: [UInt64: Prompt] = [:]
    /// Cancelled jobs, oldest first: a step that had begun still caches their blocks.
    private var cancelled: [UInt64] = []
    private var encoder = KVEventEncoder()
    private static let keptCancelled = 64

    init(publisher: KVEventPublisher, blockSize: Int) {
        self.publisher = publisher
        self.blockSize = blockSize
    }

    mutating func opened(_ job: UInt64, tokens: [UInt32], hashes: [UInt64], cacheSalt: String?) {
        prompts[job] = Prompt(tokens: tokens, hashes: hashes, cacheSalt: cacheSalt)
    }

    mutating func cancelled(_ job: UInt64) {
        guard prompts[job] != nil else { return }
        cancelled.append(job)
        guard cancelled.count > Self.keptCancelled else { return }
        prompts[cancelled.removeFirst()] = nil
    }

    mutating func take(_ event: ServerEvent) {
        switch event.kind {
        case .blocksStored(let blocks):
            guard let prompt = prompts[event.job] else { return }
            let known = blocks.clamped(to: 0..<min(prompt.hashes.count, prompt.tokens.count / blockSize))
            guard !known.isEmpty else { return }
            encoder.stored(
                Array(prompt.hashes[known]),
                parent: known.lowerBound > 0 ? prompt.hashes[known.lowerBound - 1] : nil,
                tokens: Array(prompt.tokens[(known.lowerBound * blockSize)..<(known.upperBound * blockSize)]),
                blockSize: blockSize,
                cacheSalt: prompt.cacheSalt
            )
        case .blockRemoved(let hash): encoder.removed([hash])
        case .finished, .rejected: prompts[event.job] = nil
        case .reserved, .started, .firstToken, .token, .preempted: break
        }
    }

    /// What has happened since the last call, as one batch.
    mutating func publish() { publisher.publish(&encoder, time: Date().timeIntervalSince1970) }
}

extension KVEventPublisher {
    /// The publisher of a mock pod: where the fleet file says that the pod's events are, on any free port where the picker is
    /// to find that out, or connected to the picker where that binds.
    convenience init(playing place: KVEventsPlace, pod: String, model: String) throws {
        let topic = place.topic.isEmpty ? "kv@\(pod)@\(model)" : place.topic
        guard !place.discovers else {
            try self.init(endpoint: "tcp://*:*", topic: topic, replay: "tcp://*:*")
            return
        }
        try self.init(
            endpoint: place.isBoundByPicker ? Self.local(place.endpoint) : Self.everywhere(place.endpoint),
            topic: topic,
            replay: place.replay.map(Self.everywhere)
        )
    }

    private static func port(_ endpoint: String) -> Substring {
        endpoint[(endpoint.lastIndex(of: ":").map(endpoint.index(after:)) ?? endpoint.endIndex)...]
    }
    private static func everywhere(_ endpoint: String) -> String { "tcp://*:\(port(endpoint))" }
    private static func local(_ endpoint: String) -> String { "tcp://127.0.0.1:\(port(endpoint))" }

    /// What GET /kv_event_sources says of it.
    var sources: String {
        let replay = replayEndpoint.map { JSONText.quoted("tcp://*:\(Self.port($0))") } ?? "null"
        return "{\"0\":{\"enable_kv_cache_events\":true,\"publisher\":\"zmq\","
            + "\"endpoint\":\(JSONText.quoted("tcp://*:\(Self.port(endpoint))")),\"replay_endpoint\":\(replay),"
            + "\"buffer_steps\":10000,\"hwm\":100000,\"max_queue_size\":100000,\"topic\":\"\"}}"
    }
}
