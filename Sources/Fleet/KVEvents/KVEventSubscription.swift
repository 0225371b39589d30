// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import FoundationEssentials
package import PrefixIndex

/// Where the events of one publisher come from.
package struct KVEventSubscription: Sendable, Hashable {
    package var source: EventSourceID
    /// `tcp://HOST:PORT`: where to connect. With `*` as host the picker binds there, and publishers connect to it.
    package var endpoint: String
    /// Where lost batches can be asked for.
    package var replay: String?
    /// Prefix of the topics wanted.
    package var topic: String
    /// Names that a topic `kv@NAME@model` may call the pod by, where several publish to one place.
    package var names: [String]

    package init(
        source: EventSourceID,
        endpoint: String,
        replay: String? = nil,
        topic: String = "",
        names: [String] = []
    ) {
        self.source = source
        self.endpoint = endpoint
        self.replay = replay
        self.topic = topic
        self.names = names
    }

    /// What `place` means for an endpoint: one subscription for each of its ranks.
    package static func at(_ place: KVEventsPlace, holder: UInt32, names: [String]) -> [KVEventSubscription] {
        guard !place.discovers else { return [] }
        return (0..<min(max(place.ranks, 1), KVEventsPlace.maxRanks)).map { rank in
            let own = place.place(ofRank: rank)
            return KVEventSubscription(
                source: EventSourceID(holder: holder, rank: rank),
                endpoint: own.endpoint,
                replay: own.replay,
                topic: own.topic,
                names: names
            )
        }
    }

    var binds: Bool { KVEventsPlace(endpoint: endpoint).isBoundByPicker }

    /// What a server's GET /kv_event_sources says, for the pod at `address`. Publishers that do not bind are left out:
    /// nobody can connect to them.
    package static func discovered(_ json: [UInt8], holder: UInt32, address: String) -> [KVEventSubscription] {
        guard json.count <= maxAnswerBytes,
            let ranks = try? JSONDecoder().decode([String: Publisher].self, from: Data(json)), ranks.count <= maxRanks
        else { return [] }
        let host = address.contains(":") ? "[\(address)]" : address
        return ranks.compactMap { key, publisher -> KVEventSubscription? in
            guard let rank = Int(key), (0..<maxRanks).contains(rank), publisher.enable_kv_cache_events ?? true,
                publisher.publisher ?? "zmq" == "zmq", let endpoint = publisher.endpoint,
                let port = boundPort(endpoint)
            else { return nil }
            return KVEventSubscription(
                source: EventSourceID(holder: holder, rank: rank),
                endpoint: "tcp://\(host):\(port)",
                replay: publisher.replay_endpoint.flatMap(ZMQAddress.init).map { "tcp://\(host):\($0.port)" },
                topic: publisher.topic ?? ""
            )
        }.sorted { $0.source < $1.source }
    }

    /// vLLM's publishers write `tcp://*:PORT`; PORT counts up with the rank already.
    private static func boundPort(_ endpoint: String) -> UInt16? {
        guard endpoint.contains("*") || endpoint.contains("::") else { return nil }
        return ZMQAddress(endpoint)?.port
    }

    /// A server of some hundred ranks answers with 50 KB.
    package static let maxAnswerBytes = 1 << 20
    private static let maxRanks = 1_024

    private struct Publisher: Decodable {
        var enable_kv_cache_events: Bool?
        var publisher: String?
        var endpoint: String?
        var replay_endpoint: String?
        var topic: String?
    }
}
