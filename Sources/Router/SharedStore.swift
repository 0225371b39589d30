// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
import PrefixIndex

/// A store of KV cache that belongs to no pod, as LMCache and Mooncake are: what it holds, pods load instead of computing it.
package struct SharedStore: Sendable, Hashable, Codable {
    package var name: String
    /// Canonical name of the model whose KV it holds. nil = any: the blocks themselves tell.
    package var model: String?
    /// Names of the pods that load from it, or how they begin. Empty: all pods.
    package var pods: [String]
    /// Bytes per second to one pod.
    package var bytesPerSecond: Double
    /// From the question to the first byte.
    package var latency: Seconds

    package init(
        name: String,
        model: String? = nil,
        pods: [String] = [],
        bytesPerSecond: Double,
        latency: Seconds = .zero
    ) {
        self.name = name
        self.model = model
        self.pods = pods
        self.bytesPerSecond = bytesPerSecond
        self.latency = latency
    }

    /// More than any cluster has; each costs a look at every pod for each prompt that it holds.
    package static let maximum = 32
    /// Endpoints are numbered from zero on, and never reach these.
    private static let firstID: UInt32 = 0xFFFF_FF00

    /// What the index calls the store at a place of `RouterOptions.stores`.
    package static func id(_ place: Int) -> EndpointID { EndpointID(firstID + UInt32(min(max(place, 0), maximum - 1))) }

    /// Its place; nil for an endpoint.
    package static func place(of id: EndpointID) -> Int? {
        id.rawValue >= firstID ? Int(id.rawValue - firstID) : nil
    }

    func serves(_ endpoint: Endpoint) -> Bool {
        (model == nil || model == endpoint.kv.model)
            && (pods.isEmpty || pods.contains { endpoint.name.hasPrefix($0) })
    }
}

/// What a pod would load of one prompt from a store.
package struct StoredPrefix: Sendable, Hashable, Codable {
    package var store: EndpointID
    /// From the prompt's start, those that the pod holds itself included.
    package var tokens: Int
    package var bytesPerSecond: Double
    package var latency: Seconds

    package init(store: EndpointID, tokens: Int, bytesPerSecond: Double, latency: Seconds) {
        self.store = store
        self.tokens = tokens
        self.bytesPerSecond = bytesPerSecond
        self.latency = latency
    }

    /// Seconds until the pod has what it does not hold. Engines load what a store has without asking what is sooner.
    @inline(__always)
    func load(missing tokens: Int, at state: PodState) -> Double {
        let rate = max(min(bytesPerSecond, state.profile.networkBytesPerSecond), CostFormula.leastBandwidth)
        return latency.rawValue + state.profile.kvBytes(tokens: Double(max(tokens, 0))) / rate
    }
}

extension Router {
    /// Which pods each store reaches, as places in the fleet.
    mutating func reachStores() {
        storeReach = options.stores.map { store in
            fleet.endpoints.indices.filter { store.serves(fleet.endpoints[$0].endpoint) }
        }
    }

    /// A store holds the start of the request's prompt: each pod that loads from it has it for the price of the transfer.
    mutating func take(_ place: Int, tokens: Int, _ request: InferenceRequest) {
        guard storeReach.indices.contains(place) else { return }
        let store = options.stores[place]
        if frame.stored.count != fleet.endpoints.count {
            frame.stored = [StoredPrefix?](repeating: nil, count: fleet.endpoints.count)
        }
        for index in storeReach[place] {
            let usable = UsableHit.tokens(
                held: tokens,
                promptTokens: request.promptTokens,
                blockSize: fleet.endpoints[index].blockSize
            )
            guard usable > frame.held[index], usable > frame.stored[index]?.tokens ?? 0 else { continue }
            frame.stored[index] = StoredPrefix(
                store: SharedStore.id(place),
                tokens: usable,
                bytesPerSecond: store.bytesPerSecond,
                latency: store.latency
            )
        }
    }
}
