// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Configuration
import CostModel
import Dispatch
import Fleet
import Kubernetes
import Router
import Synchronization

/// Finds a cluster's pods as `serve` would, and says what is wrong with what is known of them.
struct LiveCluster {
    let options: ClusterOptions
    let timeout: Seconds

    struct Found {
        var findings: [LiveFinding] = []
        /// Those that would get requests.
        var pods: [EndpointDescription] = []
    }

    /// `catalog`: nil where there are no profiles, which is told elsewhere.
    func find(
        _ client: KubernetesClient,
        _ configuration: PickerConfiguration,
        _ catalog: ProfileCatalog?
    ) -> Found {
        let read: ClusterReading.Outcome
        do {
            read = try ClusterReading.read(options, client, timeout: timeout)
        } catch {
            return Found(findings: [.error("cluster", error.description)])
        }
        let first = PodMapping.map(read.state, configuration.pools)
        let map = PodMapping.map(read.state, configuration.pools, learn(from: first))
        return Self.judge(map, trouble: read.trouble, destinationPool: options.destinationPool, catalog)
    }

    /// What `serve` would learn of servers whose model nobody else says.
    private func learn(from map: PodMap) -> LearnedFacts {
        let silent = map.endpoints.filter { $0.model.isEmpty && $0.standing == .serving }
        let learned = Mutex(LearnedFacts())
        DispatchQueue.concurrentPerform(iterations: silent.count) { index in
            let models = LivePods.models(at: silent[index], timeout: timeout).models ?? []
            guard let model = models.first else { return }
            learned.withLock { $0.servers[silent[index].name] = LearnedFacts.Server(models: [model]) }
        }
        return learned.withLock { $0 }
    }

    static func judge(
        _ map: PodMap,
        trouble: String?,
        destinationPool: String?,
        _ catalog: ProfileCatalog?
    ) -> Found {
        var found = Found()
        if let trouble { found.findings.append(.error("cluster", trouble)) }
        let endpoints = Dictionary(map.endpoints.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
        for pod in map.pods {
            found.findings += judge(pod, pod.endpoints.first.flatMap { endpoints[$0] }, catalog)
        }
        found.pods = map.endpoints.filter { $0.standing == .serving }
        let destinations = found.pods.filter {
            $0.role.canDecode && (destinationPool == nil || $0.pool == destinationPool)
        }
        if destinations.isEmpty {
            let place = destinationPool.map { " in the pool \($0)" } ?? ""
            found.findings.append(.error("cluster", "no pod\(place) is ready and can decode: requests are refused"))
        }
        return found
    }

    private static func judge(
        _ pod: PodConclusion,
        _ endpoint: EndpointDescription?,
        _ catalog: ProfileCatalog?
    ) -> [LiveFinding] {
        var findings = pod.problems.map { LiveFinding.error(pod.name, $0) }
        switch pod.state {
        case .serving: break
        case .notReady: findings.append(.warning(pod.name, "is not ready, and so not asked"))
        case .draining, .over: findings.append(.ok(pod.name, "is on its way out"))
        case .unused: findings.append(.ok(pod.name, "is not used: role \(pod.role)"))
        case .duplicate: findings.append(.ok(pod.name, "belongs to a pool that is named before \(pod.pool)"))
        }
        guard pod.state == .serving || pod.state == .notReady, let endpoint else { return findings }
        if !pod.hasProfile {
            let fields = pod.missing.joined(separator: ", ")
            findings.append(.error(pod.name, "nobody says its \(fields) (docs/kubernetes.md, Pods): no profile"))
            return findings
        }
        if !pod.missing.isEmpty {
            findings.append(.warning(pod.name, "nobody says its \(pod.missing.joined(separator: ", ")): 1 is taken"))
        }
        guard let resolution = catalog.map({ $0.resolve($0.query(for: endpoint)) }) else { return findings }
        if !resolution.isKnownAccelerator {
            let name = endpoint.accelerator
            findings.append(
                .warning(pod.name, "no profile knows the accelerator \(name): cautious defaults will be used")
            )
        }
        if !resolution.isKnownModel {
            let name = endpoint.model
            findings.append(.warning(pod.name, "no profile knows the model \(name): it is guessed from its name"))
        }
        if resolution.isKnownAccelerator, resolution.isKnownModel {
            let name = "\(resolution.accelerator)/\(resolution.model)/tp\(resolution.tensorParallel)"
            findings.append(.ok(pod.name, "has the profile \(name)/\(resolution.dtype.rawValue)"))
        }
        return findings
    }
}
