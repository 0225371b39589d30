// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Dispatch
import Fleet
import Foundation
import PrefixIndex

/// Listens to the KV events of each pod that publishes some.
struct LiveEvents {
    /// Pods that are listened to at the same time: each takes a thread.
    private static let batch = 32
    /// Room for what comes while listening.
    private static let indexBytes = 4 << 20
    /// Longer than a block of any engine, so that a prompt of it makes an event.
    private static let probeWords = 2048

    let wait: Seconds
    let timeout: Seconds
    /// Sends each pod a request of one token, which makes it publish something.
    let sendsProbe: Bool

    func findings(of pods: [EndpointDescription]) -> [LiveFinding] {
        var result = pods.filter { $0.kvEvents == nil }.map { pod in
            LiveFinding.ok(pod.name, "publishes no KV events: what it caches is estimated")
        }
        var rest = pods.filter { $0.kvEvents != nil }[...]
        while !rest.isEmpty {
            result += listen(to: Array(rest.prefix(Self.batch)))
            rest = rest.dropFirst(Self.batch)
        }
        return result
    }

    private func listen(to pods: [EndpointDescription]) -> [LiveFinding] {
        var services: [KVEventService?] = []
        var failures: [String?] = []
        for pod in pods {
            do {
                let service = KVEventService(index: try EventPrefixIndex(budget: Self.indexBytes))
                try service.start()
                service.replace(subscriptions(of: pod))
                services.append(service)
                failures.append(nil)
            } catch {
                services.append(nil)
                failures.append("\(error)")
            }
        }
        // ZeroMQ connects in the background; what is published before that is lost.
        Thread.sleep(forTimeInterval: min(wait.rawValue, 1))
        if sendsProbe { DispatchQueue.concurrentPerform(iterations: pods.count) { probe(pods[$0]) } }
        Thread.sleep(forTimeInterval: wait.rawValue)
        defer { for service in services { service?.stop() } }
        return pods.indices.map { index in
            judge(pods[index], services[index]?.statistics, failure: failures[index])
        }
    }

    private func subscriptions(of pod: EndpointDescription) -> [KVEventSubscription] {
        guard let place = pod.kvEvents else { return [] }
        if place.discovers {
            let url = LivePage.url(pod.address, pod.port, "/kv_event_sources")
            guard case .success(let answer) = LivePage.get(url, timeout: timeout), answer.status == 200 else {
                return []
            }
            return KVEventSubscription.discovered(answer.body, holder: 1, address: pod.address)
        }
        return KVEventSubscription.at(place, holder: 1, names: [pod.name, "\(pod.address):\(pod.port)"])
    }

    private func judge(_ pod: EndpointDescription, _ statistics: KVEventStatistics?, failure: String?) -> LiveFinding {
        guard let statistics else { return .error(pod.name, "KV events: \(failure ?? "cannot be listened to")") }
        if let failure = statistics.failures.first { return .error(pod.name, "KV events: \(failure)") }
        guard statistics.subscriptions > 0 else { return .error(pod.name, "KV events: the server names no publisher") }
        if statistics.malformed > 0 { return .error(pod.name, "KV events: \(statistics.malformed) could not be read") }
        guard statistics.messages > 0 else {
            let hint = "none came in \(Numbers.fixed(wait.rawValue, 0)) s"
            return sendsProbe
                ? .error(pod.name, "KV events: \(hint), not even after a prompt")
                : .warning(pod.name, "KV events: \(hint); a pod publishes when it computes: --probe sends it a prompt")
        }
        return .ok(pod.name, "KV events: \(statistics.messages) messages")
    }

    private func probe(_ pod: EndpointDescription) {
        guard let client = StreamedRequest() else { return }
        // Words that no other prompt has: a cached one would make no event.
        let nonce = UInt64.random(in: 0 ... .max)
        let prompt = (0..<Self.probeWords).map { "\(nonce &+ UInt64($0))" }.joined(separator: " ")
        let body: [String: Any] = [
            "model": pod.servedModels?.first ?? pod.model, "prompt": prompt, "max_tokens": 1,
        ]
        guard let bytes = try? JSONSerialization.data(withJSONObject: body) else { return }
        let url = LivePage.url(pod.address, pod.port, "/v1/completions")
        // Whether it is answered, the check of events will show.
        _ = client.post(url: url, body: Array(bytes), bearer: nil, timeout: timeout) { _ in true }
    }
}
