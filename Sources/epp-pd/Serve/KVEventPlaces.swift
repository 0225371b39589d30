// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Fleet
import PrefixIndex
import Router
import Synchronization

/// Where each endpoint publishes its KV events, and the subscriptions that follow from it.
final class KVEventPlaces: Sendable {
    private struct State {
        var places: [EndpointID: KVEventsPlace] = [:]
        var subscriptions: [KVEventSubscription]?
    }

    private let state = Mutex(State())
    private let service: KVEventService

    init(service: KVEventService) { self.service = service }

    /// Discovery described an endpoint.
    func describe(_ description: EndpointDescription, as id: EndpointID) {
        state.withLock { $0.places[id] = description.kvEvents }
    }

    /// Subscribes to the endpoints that are there now, where that changes anything.
    func fleetChanged(_ snapshot: FleetSnapshot) {
        let changed: [KVEventSubscription]? = state.withLock { state in
            let present = Dictionary(
                snapshot.endpoints.map { ($0.endpoint.id, $0.endpoint) },
                uniquingKeysWith: { first, _ in first }
            )
            state.places = state.places.filter { present[$0.key] != nil }
            let subscriptions = state.places.keys.sorted().compactMap { id -> KVEventSubscription? in
                guard let place = state.places[id], let endpoint = present[id] else { return nil }
                return KVEventSubscription(
                    source: EventSourceID(holder: id.rawValue, rank: 0),
                    endpoint: place.endpoint,
                    replay: place.replay,
                    topic: place.topic,
                    names: [endpoint.name, endpoint.hostPort]
                )
            }
            guard subscriptions != state.subscriptions else { return nil }
            state.subscriptions = subscriptions
            return subscriptions
        }
        if let changed { service.replace(changed) }
    }
}
