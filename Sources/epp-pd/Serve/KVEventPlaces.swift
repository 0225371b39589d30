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
        /// What servers said that were to be asked.
        var found: [EndpointID: [KVEventSubscription]] = [:]
        var snapshot = FleetSnapshot.empty
        var subscriptions: [KVEventSubscription]?
    }

    private let state = Mutex(State())
    private let service: KVEventService

    /// Publishers that belong to no endpoint.
    private let stores: [KVEventSubscription]

    init(service: KVEventService, stores: [KVEventSubscription] = []) {
        self.service = service
        self.stores = stores
    }

    /// Whether any engine tells what it caches.
    var hasPublishers: Bool { state.withLock { !($0.subscriptions ?? []).isEmpty } }

    /// The endpoints there are, with the ids that the index knows them by; sorted by id.
    var known: [EndpointRegistry.Known] {
        state.withLock { state in
            state.snapshot.endpoints.map(\.endpoint).map {
                EndpointRegistry.Known(name: $0.name, address: $0.address, port: $0.port, id: $0.id.rawValue)
            }.sorted { $0.id < $1.id }
        }
    }

    /// The endpoints that are to be asked where they publish.
    var asked: [(id: EndpointID, endpoint: Endpoint)] {
        state.withLock { state in
            state.snapshot.endpoints.compactMap { status in
                guard state.places[status.endpoint.id]?.discovers == true else { return nil }
                return (status.endpoint.id, status.endpoint)
            }
        }
    }

    /// An endpoint said where it publishes.
    func found(_ subscriptions: [KVEventSubscription], at id: EndpointID) {
        let snapshot: FleetSnapshot? = state.withLock { state in
            guard state.places[id] != nil, state.found[id] != subscriptions else { return nil }
            state.found[id] = subscriptions
            return state.snapshot
        }
        if let snapshot { fleetChanged(snapshot) }
    }

    /// Discovery described an endpoint.
    func describe(_ description: EndpointDescription, as id: EndpointID) {
        state.withLock { $0.places[id] = description.kvEvents }
    }

    /// Subscribes to the endpoints that are there now, where that changes anything.
    func fleetChanged(_ snapshot: FleetSnapshot) {
        let changed: [KVEventSubscription]? = state.withLock { state in
            state.snapshot = snapshot
            let present = Dictionary(
                snapshot.endpoints.map { ($0.endpoint.id, $0.endpoint) },
                uniquingKeysWith: { first, _ in first }
            )
            state.places = state.places.filter { present[$0.key] != nil }
            state.found = state.found.filter { present[$0.key] != nil }
            let subscriptions =
                state.places.keys.sorted().flatMap { id -> [KVEventSubscription] in
                    guard let place = state.places[id], let endpoint = present[id] else { return [] }
                    if place.discovers { return state.found[id] ?? [] }
                    return KVEventSubscription.at(
                        place,
                        holder: id.rawValue,
                        names: [endpoint.name, endpoint.hostPort]
                    )
                } + stores
            guard subscriptions != state.subscriptions else { return nil }
            state.subscriptions = subscriptions
            return subscriptions
        }
        if let changed { service.replace(changed) }
    }
}
