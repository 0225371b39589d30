// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Fleet
import Router
import Simulation

/// One pod as the mock server plays it.
struct MockPod: Sendable {
    let name: String
    let role: Role
    let address: String
    let port: UInt16
    let hostPort: String
    /// Names under which the API serves the model; the first one is what metrics are labelled with.
    let models: [String]
    let profile: PodProfile
    let kv: KVLayout
    /// It fetches missing prefixes from peers.
    let pulls: Bool
    /// What this pod truly takes over what its profile says.
    let skew: Double
    let metricsPath: String
    /// How old the metrics page is when it is answered, in model time.
    let metricsDelay: Seconds
    let maximumLength: Int
    let engine: MockEngine
    /// Where it publishes its KV events, if it does.
    let publisher: KVEventPublisher?

    init(
        _ description: EndpointDescription,
        catalog: ProfileCatalog,
        clock: ModelClock,
        skew: Double,
        jitter: Double,
        metricsDelay: Seconds,
        maximumLength: Int,
        seed: UInt64
    ) throws {
        let endpoint = catalog.endpoint(description, id: EndpointID(0))
        name = endpoint.name
        role = endpoint.role
        address = endpoint.address
        port = endpoint.port
        hostPort = endpoint.hostPort
        models = endpoint.servedModels ?? [description.model]
        profile = endpoint.profile
        kv = endpoint.kv
        pulls = endpoint.canPullKV
        self.skew = skew
        metricsPath = description.metrics.path
        self.metricsDelay = metricsDelay
        self.maximumLength = min(maximumLength, endpoint.profile.kvCapacityTokens)
        let configuration = ModelServerConfiguration(
            profile: endpoint.profile,
            batching: endpoint.role == .prefill
                ? .wholePrompt : .chunked(tokenBudget: ModelServerConfiguration.defaultTokenBudget),
            blockSize: endpoint.kv.blockSize ?? Self.defaultBlockSize,
            slowness: skew,
            prefillNoise: jitter,
            decodeNoise: jitter
        )
        let model = endpoint.servedModels?.first ?? description.model
        publisher = try description.kvEvents.map {
            try KVEventPublisher(playing: $0, pod: description.name, model: model)
        }
        engine = MockEngine(configuration: configuration, seed: seed, clock: clock, publisher: publisher)
    }

    /// vLLM's default on CUDA.
    static let defaultBlockSize = 16

    var blockSize: Int { kv.blockSize ?? Self.defaultBlockSize }
}

/// All pods that one process plays, and what is between them.
struct MockFleet: Sendable {
    let pods: [MockPod]
    let clock: ModelClock
    let catalog: ProfileCatalog
    private let places: [String: Int]

    init(pods: [MockPod], clock: ModelClock, catalog: ProfileCatalog) {
        self.pods = pods
        self.clock = clock
        self.catalog = catalog
        places = Dictionary(uniqueKeysWithValues: pods.enumerated().map { ($1.hostPort, $0) })
    }

    func pod(at hostPort: String) -> MockPod? { places[hostPort].map { pods[$0] } }

    /// How long the KV of a prompt takes from one pod to another after prefill has ended. A sender that this process
    /// does not play is taken to be like the receiver.
    func transfer(tokens: Int, promptTokens: Int, from sender: MockPod?, to receiver: MockPod) -> Seconds {
        let from = sender ?? receiver
        let prefill = from.profile.prefill.duration(newTokens: promptTokens, cachedTokens: 0)
        return link(from, receiver).exposed(tokens: Double(tokens), prefill: prefill)
    }

    /// How long a prefix takes from a peer, with nothing to hide behind.
    func pull(tokens: Int, from peer: MockPod, to receiver: MockPod) -> Seconds {
        link(peer, receiver).serial(tokens: Double(tokens))
    }

    private func link(_ sender: MockPod, _ receiver: MockPod) -> KVTransfer {
        catalog.transfer(from: sender.profile, sender.kv, to: receiver.profile, receiver.kv)
            ?? KVTransfer(from: sender.profile, to: receiver.profile, repacks: true)
    }
}

extension ModelClock {
    /// Sleeps for a span of model time.
    func sleep(for span: Seconds) async throws {
        guard span > .zero else { return }
        try await Task.sleep(for: .seconds(wall(span).rawValue), tolerance: .zero)
    }
}
