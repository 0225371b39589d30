// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import Configuration
import Fleet
import Router

/// Makes endpoints of pods. Pure: the cluster, the configuration and what servers have said go in.
package enum PodMapping {
    /// Engine of a pod, by the label of llm-d and by its older name.
    static let engineLabels = ["llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type"]
    /// Which of its pool's ports a pod serves on, by the annotation of llm-d and by its older name. Absent: all.
    static let portAnnotations = ["llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports"]

    package static func map(
        _ cluster: ClusterState,
        _ configuration: [String: PoolDefaults] = [:],
        _ learned: LearnedFacts = LearnedFacts()
    ) -> PodMap {
        var result = PodMap()
        /// An address and port is one endpoint, whichever pools select it: the pool that is named first has it.
        var taken: Set<String> = []
        for pool in cluster.pools {
            for pod in pool.pods {
                let node = pod.spec.nodeName.flatMap { cluster.nodes[$0] }
                var reader = PodReader(pod, pool, node, configuration[pool.name] ?? PoolDefaults())
                var (descriptions, conclusion) = reader.read(learned)
                let known = descriptions.count
                descriptions.removeAll { !taken.insert("\($0.address) \($0.port)").inserted }
                if descriptions.isEmpty, known > 0 { conclusion.state = .duplicate }
                conclusion.endpoints = descriptions.map(\.name)
                result.endpoints += descriptions
                result.pods.append(conclusion)
            }
        }
        return result
    }
}

/// Reads one pod: each field from the first source that has it.
struct PodReader {
    private let pod: Pod
    private let pool: ClusterState.Pool
    private let node: Node?
    private let configuration: PoolDefaults
    private let annotation: PoolDefaults
    private let arguments: EngineArguments
    private var facts: [PodFact] = []
    private var missing: [String] = []
    private var problems: [String] = []

    init(_ pod: Pod, _ pool: ClusterState.Pool, _ node: Node?, _ configuration: PoolDefaults) {
        self.pod = pod
        self.pool = pool
        self.node = node
        self.configuration = configuration
        arguments = EngineArguments.of(pod)
        let (said, wrong) = ProfileAnnotation.read(pod.metadata.annotations)
        annotation = said ?? PoolDefaults()
        problems = wrong
    }

    mutating func read(_ learned: LearnedFacts) -> ([EndpointDescription], PodConclusion) {
        let role = PodRole(label: pod.metadata.labels[PodRole.label])
        let state = state(role)
        var descriptions: [EndpointDescription] = []
        if case .endpoint(let role) = role, let address = address, state != .over {
            descriptions = endpoints(role, address, state, learned)
        }
        let conclusion = PodConclusion(
            name: pod.metadata.name,
            namespace: pod.metadata.namespace,
            pool: pool.name,
            node: pod.spec.nodeName,
            role: pod.metadata.labels[PodRole.label] ?? "both",
            state: state,
            endpoints: [],
            facts: facts,
            missing: missing,
            problems: problems
        )
        return (descriptions, conclusion)
    }

    private mutating func state(_ role: PodRole) -> PodConclusion.State {
        switch role {
        case .encodeOnly: return .unused
        case .unknown(let name):
            problems.append("the role \"\(name)\" is none that is known")
            return .unused
        case .endpoint: break
        }
        if pod.isOver { return .over }
        if pod.isTerminating { return .draining }
        return pod.isReady && address != nil ? .serving : .notReady
    }

    private var address: String? { pod.status?.podIP.flatMap { $0.isEmpty ? nil : $0 } }

    // MARK: - Endpoints

    private mutating func endpoints(
        _ role: Role,
        _ address: String,
        _ state: PodConclusion.State,
        _ learned: LearnedFacts
    ) -> [EndpointDescription] {
        let ports = pool.ports ?? []
        // A rank is a port's place in the pool, whichever ports of this pod are in use.
        let ranks = activeRanks(ports)
        guard let first = ranks.first.map({ ports[$0] }) else { return [] }
        let names = ports.indices.map { ports.count == 1 ? pod.metadata.name : "\(pod.metadata.name)-rank-\($0)" }
        let server = names.lazy.compactMap { learned.servers[$0] }.first
        var common = EndpointDescription(
            name: pod.metadata.name,
            role: role,
            accelerator: accelerator(),
            model: model(server),
            address: address,
            port: first,
            tensorParallel: tensorParallel(ranks: ranks.count),
            dtype: pick(
                "dtype",
                [(annotation.dtype, .annotation), (arguments.dtype, .arguments), (configuration.dtype, .configuration)]
            ),
            kvDtype: kvDtype(),
            blockSize: blockSize(server),
            pool: pool.name,
            engine: engine(),
            pricePerHour: price(),
            networkGbps: number(
                "networkGbps",
                [(annotation.networkGbps, .annotation), (configuration.networkGbps, .configuration)]
            ),
            kvPull: kvPull(),
            labels: labels()
        )
        common.servedModels = servedModels(common.model)
        common.connector = pick(
            "connector",
            [
                (annotation.connector, .annotation), (arguments.connector, .arguments),
                (configuration.connector, .configuration),
            ]
        )
        common.standing = state == .serving ? .serving : state == .draining ? .draining : .notReady
        return ranks.map { rank in
            var endpoint = common
            endpoint.name = names[rank]
            endpoint.port = ports[rank]
            endpoint.metrics = MetricsPlace(port: ports[rank])
            endpoint.kvEvents = kvEvents(address, rank)
            return endpoint
        }
    }

    /// Places in the pool's ports that this pod serves on.
    private mutating func activeRanks(_ ports: [UInt16]) -> [Int] {
        let annotations = pod.metadata.annotations
        guard let name = PodMapping.portAnnotations.first(where: { annotations[$0] != nil }),
            let text = annotations[name]
        else { return Array(ports.indices) }
        let words = text.split(separator: ",").map { $0.filter { !$0.isWhitespace } }
        let active = words.compactMap { UInt16($0) }
        let ranks = ports.indices.filter { active.contains(ports[$0]) }
        if active.count < words.count || ranks.count < Set(active).count {
            problems.append("the annotation \(name) names what is none of the pool's ports: \(text.prefix(100))")
        }
        return ranks
    }

    private func labels() -> [String: String] {
        var labels = pod.metadata.labels
        if let node {
            for (name, value) in NodeFacts(labels: node.metadata.labels, annotations: [:]).topology {
                labels[name] = value
            }
        }
        return labels
    }

    /// vLLM's ranks publish on ports that count up.
    private func kvEvents(_ address: String, _ rank: Int) -> KVEventsPlace? {
        guard let events = arguments.kvEvents else { return nil }
        let host = address.contains(":") ? "[\(address)]" : address
        func place(_ port: UInt16) -> String? {
            let raised = Int(port) + rank
            return raised <= 65_535 ? "tcp://\(host):\(raised)" : nil
        }
        guard let endpoint = place(events.port) else { return nil }
        return KVEventsPlace(endpoint: endpoint, replay: events.replayPort.flatMap(place), topic: events.topic)
    }

    // MARK: - Fields

    /// The first that is there, noted with its source.
    private mutating func pick(_ field: String, _ sources: [(String?, FactSource)]) -> String? {
        for (value, source) in sources {
            guard let value, !value.isEmpty else { continue }
            facts.append(PodFact(field: field, value: value, from: source))
            return value
        }
        return nil
    }

    private mutating func count(_ field: String, _ sources: [(Int?, FactSource)]) -> Int? {
        pick(field, sources.map { ($0.0.map(String.init), $0.1) }).flatMap { Int($0) }
    }

    private mutating func number(_ field: String, _ sources: [(Double?, FactSource)]) -> Double? {
        pick(field, sources.map { ($0.0.map { "\($0)" }, $0.1) }).flatMap { Double($0) }
    }

    /// A pod's own word on its accelerator, by label or annotation; else its node's.
    private mutating func accelerator() -> String {
        let name = NodeFacts.acceleratorLabels[0]
        let onNode = node.flatMap {
            NodeFacts(labels: $0.metadata.labels, annotations: $0.metadata.annotations).accelerator
        }
        let wanted = NodeFacts(labels: pod.spec.nodeSelector ?? [:], annotations: [:]).accelerator
        let found = pick(
            "accelerator",
            [
                (annotation.accelerator, .annotation), (pod.metadata.annotations[name], .annotation),
                (pod.metadata.labels[name], .label), (onNode?.value, .node), (wanted?.value, .nodeSelector),
                (configuration.accelerator, .configuration),
            ]
        )
        if found == nil { missing.append("accelerator") }
        return found ?? "unknown"
    }

    private mutating func model(_ server: LearnedFacts.Server?) -> String {
        let found = pick(
            "model",
            [
                (annotation.model, .annotation), (arguments.model, .arguments), (server?.models.first, .server),
                (configuration.model, .configuration),
            ]
        )
        if found == nil { missing.append("model") }
        return found ?? ""
    }

    /// Names that are known before the server is asked. nil: it will say.
    private mutating func servedModels(_ model: String) -> [String]? {
        let sources: [([String]?, FactSource)] = [
            (annotation.servedModels, .annotation),
            (arguments.servedModels.isEmpty ? nil : arguments.servedModels, .arguments),
            (configuration.servedModels, .configuration),
            // Without another name, engines serve a model under the name that they were given.
            (arguments.model.map { [$0] }, .arguments),
        ]
        for (names, source) in sources {
            guard let names, !names.isEmpty else { continue }
            facts.append(PodFact(field: "servedModels", value: names.joined(separator: ", "), from: source))
            return names
        }
        return nil
    }

    /// Accelerators of one rank.
    private mutating func tensorParallel(ranks: Int) -> Int {
        let devices = Devices.count(in: pod).map { max($0 / max(ranks, arguments.dataParallel ?? 1), 1) }
        let found = count(
            "tensorParallel",
            [
                (annotation.tensorParallel, .annotation), (arguments.tensorParallel, .arguments), (devices, .resources),
                (configuration.tensorParallel, .configuration),
            ]
        )
        if found == nil { missing.append("tensorParallel") }
        return found ?? 1
    }

    private mutating func kvDtype() -> String {
        pick(
            "kvDtype",
            [
                (annotation.kvDtype, .annotation), (arguments.kvDtype, .arguments),
                (configuration.kvDtype, .configuration), ("auto", .standard),
            ]
        ) ?? "auto"
    }

    /// Only a person knows: the sidecar that passes a pull on is the decode pod's, the engine that pulls may be another's.
    private mutating func kvPull() -> Bool? {
        pick(
            "kvPull",
            [
                (annotation.kvPull.map { "\($0)" }, .annotation),
                (configuration.kvPull.map { "\($0)" }, .configuration),
            ]
        ).map { $0 == "true" }
    }

    private mutating func blockSize(_ server: LearnedFacts.Server?) -> Int? {
        count(
            "blockSize",
            [
                (annotation.blockSize, .annotation), (arguments.blockSize, .arguments), (server?.blockSize, .server),
                (configuration.blockSize, .configuration),
            ]
        )
    }

    private mutating func engine() -> String {
        let labelled = PodMapping.engineLabels.lazy.compactMap { [labels = pod.metadata.labels] in labels[$0] }.first
        let found = pick(
            "engine",
            [
                (annotation.engine, .annotation), (labelled.map(Self.engineName), .label),
                (arguments.engine, .arguments),
                (configuration.engine, .configuration), ("vllm", .standard),
            ]
        )
        return found ?? "vllm"
    }

    /// The label's names for what we call otherwise.
    private static func engineName(_ label: String) -> String {
        switch label {
        case "trtllm-serve", "triton-tensorrt-llm": label == "trtllm-serve" ? "trtllm" : "triton"
        default: label
        }
    }

    private mutating func price() -> Double? {
        let name = NodeFacts.priceLabel
        let own = pod.metadata.annotations[name].flatMap(NodeFacts.price)
        let labelled = pod.metadata.labels[name].flatMap(NodeFacts.price)
        let onNode = node.flatMap {
            NodeFacts(labels: $0.metadata.labels, annotations: $0.metadata.annotations).pricePerHour
        }
        return number(
            "pricePerHour",
            [
                (annotation.pricePerHour, .annotation), (own, .annotation), (labelled, .label), (onNode, .node),
                (configuration.pricePerHour, .configuration),
            ]
        )
    }
}
