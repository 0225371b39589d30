// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Fleet
import PrefixIndex
import Router
import Synchronization

/// Asks servers where they publish their KV events (vLLM's GET /kv_event_sources), again and again, since ports change when
/// servers restart. One thread beside the data plane.
final class KVEventDiscovery: Sendable {
    /// A server that has answered is asked again so seldom; one that has not, at every round.
    private static let roundsBetween = 15
    private static let roundSeconds = 2.0
    private static let answerTime = Seconds(1)
    /// Servers that do not answer cost a second each: so many in one round.
    private static let failuresPerRound = 16

    private let places: KVEventPlaces
    private let isStopping = Atomic<Bool>(false)
    private let thread = Mutex<ControlThread?>(nil)

    init(places: KVEventPlaces) { self.places = places }

    func start() {
        let made = ControlThread(name: "kv-discovery") { [self] in
            guard let client = StreamedRequest() else { return }
            var answered: [EndpointID: Int] = [:]
            var round = 0
            while !isStopping.load(ordering: .relaxed) {
                ask(client, round, &answered)
                round += 1
                pause()
            }
        }
        thread.withLock { $0 = made }
    }

    func stop() {
        isStopping.store(true, ordering: .relaxed)
        let made = thread.withLock { thread in
            defer { thread = nil }
            return thread
        }
        made?.join()
    }

    private func ask(_ client: StreamedRequest, _ round: Int, _ answered: inout [EndpointID: Int]) {
        let asked = places.asked
        let present = Set(asked.map(\.id))
        answered = answered.filter { present.contains($0.key) }
        var failures = 0
        let start = asked.isEmpty ? 0 : round * Self.failuresPerRound % asked.count
        for step in asked.indices {
            guard !isStopping.load(ordering: .relaxed), failures < Self.failuresPerRound else { return }
            let (id, endpoint) = asked[(start + step) % asked.count]
            if let last = answered[id], round - last < Self.roundsBetween { continue }
            var answer: [UInt8] = []
            let result = client.get(url: "http://\(endpoint.hostPort)/kv_event_sources", timeout: Self.answerTime) {
                bytes in
                for index in bytes.indices { answer.append(bytes[index]) }
                return answer.count <= KVEventSubscription.maxAnswerBytes
            }
            guard result == .success(200) else {
                failures += 1
                continue
            }
            answered[id] = round
            places.found(
                KVEventSubscription.discovered(answer, holder: id.rawValue, address: endpoint.address),
                at: id
            )
        }
    }

    private func pause() {
        let slices = 20
        for _ in 0..<slices where !isStopping.load(ordering: .relaxed) {
            ControlThread.sleep(seconds: Self.roundSeconds / Double(slices))
        }
    }
}
