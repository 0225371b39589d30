// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import ArgumentParser
import Configuration
import CostModel
import Foundation
import Kubernetes

/// Where pods are found in a cluster: flags that `serve`, `fleet` and `validate` share.
struct ClusterOptions: ParsableArguments {
    @Option(help: "InferencePool whose pods serve. May be repeated; the first is the one that routes name.")
    var poolName: [String] = []
    @Option(help: "Namespace of pools and pods. Default: NAMESPACE, else the pod's own or the kubeconfig's.")
    var poolNamespace: String?
    @Option(help: "API group of the pools. Default: inference.networking.k8s.io, else the older x-k8s.io.")
    var poolGroup: String?
    @Option(help: "Label selector of the pods, instead of pools.")
    var endpointSelector: String?
    @Option(help: "Ports of the selected pods, separated by commas: one endpoint each.")
    var endpointTargetPorts: String?
    @Option(
        help: "Destinations lie in this pool; any: in all. Default: that of the picker's Service, else the first pool."
    )
    var routePool: String?
    @Option(help: "Kubeconfig file. Default: KUBECONFIG, else the pod's service account, else ~/.kube/config.")
    var kubeconfig: String?
    @Option(help: "Context of the kubeconfig. Default: its current one.")
    var kubecontext: String?
    @Option(help: "How long the API server keeps a watch open; one that hangs is noticed that late.")
    var kubernetesWatchTimeout = DurationArgument("90s")

    static let mostPools = 64
    static let anyPool = "any"

    func validate() throws {
        guard poolName.count <= Self.mostPools else {
            throw ValidationError("at most \(Self.mostPools) --pool-name")
        }
        guard Set(poolName).count == poolName.count else {
            throw ValidationError("--pool-name names a pool twice")
        }
        if endpointSelector != nil {
            guard let ports = selectorPorts, (1...8).contains(ports.count), Set(ports).count == ports.count else {
                throw ValidationError("--endpoint-selector needs --endpoint-target-ports: 1 to 8 different ports")
            }
        } else if endpointTargetPorts != nil {
            throw ValidationError("--endpoint-target-ports needs --endpoint-selector")
        }
        let groups = [ClusterSelection.group, ClusterSelection.olderGroup]
        guard poolGroup.map(groups.contains) ?? true else {
            throw ValidationError("--pool-group must be one of \(groups.joined(separator: ", "))")
        }
        guard routePool.map({ $0 == Self.anyPool || poolName.contains($0) }) ?? true else {
            throw ValidationError("--route-pool must be one of the --pool-name, or any")
        }
        guard kubernetesWatchTimeout.value >= Seconds(1), kubernetesWatchTimeout.value <= Seconds(3600) else {
            throw ValidationError("--kubernetes-watch-timeout must be from 1s to 1h")
        }
    }

    /// Pods come from a cluster.
    var isGiven: Bool { !poolName.isEmpty || endpointSelector != nil }

    /// How many of the sources that exclude each other are given.
    var sources: Int { (poolName.isEmpty ? 0 : 1) + (endpointSelector == nil ? 0 : 1) }

    private var selectorPorts: [UInt16]? {
        let words = (endpointTargetPorts ?? "").split(separator: ",").map { $0.filter { !$0.isWhitespace } }
        let ports = words.compactMap { UInt16($0) }.filter { $0 > 0 }
        return ports.count == words.count ? ports : nil
    }

    var settings: WatchSettings {
        var settings = WatchSettings()
        settings.watchTimeout = kubernetesWatchTimeout.value
        return settings
    }

    func configuration() throws(ConfigurationErrors) -> KubernetesConfiguration {
        try KubernetesConfiguration.find(
            file: kubeconfig,
            context: kubecontext,
            environment: ProcessInfo.processInfo.environment
        )
    }

    /// - Throws: exit code 2 after saying what is wrong in the kubeconfig.
    func client() throws -> KubernetesClient {
        do {
            return KubernetesClient(try configuration())
        } catch {
            Console.error(error.description)
            throw ExitCode(2)
        }
    }

    func selection(_ client: KubernetesClient) -> ClusterSelection {
        let named = ProcessInfo.processInfo.environment["NAMESPACE"].flatMap { $0.isEmpty ? nil : $0 }
        let pods: ClusterSelection.Pods =
            if let endpointSelector {
                .selector(endpointSelector, ports: selectorPorts ?? [])
            } else {
                .pools(poolName)
            }
        return ClusterSelection(
            pods: pods,
            namespace: poolNamespace ?? named ?? client.configuration.namespace,
            poolGroup: poolGroup
        )
    }

    /// The pool in which destinations lie. nil: any.
    var destinationPool: String? {
        switch routePool {
        case Self.anyPool: nil
        case let pool?: pool
        // One pool bounds nothing.
        case nil: poolName.count > 1 ? poolName.first : nil
        }
    }
}
