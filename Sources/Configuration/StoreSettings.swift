// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import CostModel
package import Router

/// A shared store as an operator describes it: what loading from it costs, and where it tells what it holds.
package struct StoreSettings: Sendable, Hashable {
    package var store: SharedStore
    /// ZeroMQ addresses of its KV events.
    package var endpoint: String
    package var replay: String?
    package var topic: String

    static func read(_ value: DocumentValue) -> StoreSettings? {
        value.object { object in
            let name = object.required("name")?.string(maxLength: 253)
            let gbps = object.required("gbps")?.number(in: 0.001...1_000_000)
            let latency = object.duration("latency", in: .zero...Seconds(60), default: Seconds(0.002))
            let model = object.optional("model")?.string(maxLength: 256)
            let pods = object.optional("pods")?.list(maxCount: 10_000).compactMap { $0.string(maxLength: 253) } ?? []
            let events: (String, String?, String)? =
                object.required("kvEvents")?.object { events in
                    let endpoint = events.required("endpoint").flatMap(address)
                    let replay = events.optional("replay").flatMap(address)
                    let topic = events.optional("topic")?.string(maxLength: 256, allowsEmpty: true) ?? ""
                    return endpoint.map { ($0, replay, topic) }
                }
            guard let name, let gbps, let events else { return nil }
            return StoreSettings(
                store: SharedStore(
                    name: name,
                    model: model,
                    pods: pods,
                    bytesPerSecond: gbps * 1e9 / 8,
                    latency: latency
                ),
                endpoint: events.0,
                replay: events.1,
                topic: events.2
            )
        }
    }

    private static func address(_ value: DocumentValue) -> String? {
        guard let text = value.string(maxLength: 256) else { return nil }
        let port = text.lastIndex(of: ":").flatMap { UInt16(text[text.index(after: $0)...]) } ?? 0
        guard text.hasPrefix("tcp://"), port > 0 else {
            value.reject("must be tcp://HOST:PORT, not \(text)")
            return nil
        }
        return text
    }
}
