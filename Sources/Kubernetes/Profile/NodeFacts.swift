// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What a node's labels say of the pods on it.
struct NodeFacts: Sendable {
    /// The label and its value; the catalogue of accelerators knows the vendors' and clouds' names.
    var accelerator: (label: String, value: String)?
    var pricePerHour: Double?
    /// Labels that say where it stands: zone, rack, host.
    var topology: [String: String] = [:]

    /// Where accelerators are named, most exact first.
    static let acceleratorLabels = [
        "epp-pd.io/accelerator",
        // NVIDIA GPU feature discovery.
        "nvidia.com/gpu.product",
        // AMD's node labeller, of today and before.
        "amd.com/gpu.product-name", "beta.amd.com/gpu.product-name",
        // GKE.
        "cloud.google.com/gke-accelerator", "cloud.google.com/gke-tpu-accelerator",
        // EKS, and Karpenter on it.
        "karpenter.k8s.aws/instance-gpu-name", "karpenter.k8s.aws/instance-accelerator-name",
        "k8s.amazonaws.com/accelerator",
        // Intel Gaudi's feature discovery.
        "gaudi.habana.ai/product", "habana.ai/gaudi.product",
        // Every cloud, AKS above all: the instance type names the accelerator.
        "node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type",
    ]
    static let priceLabel = "epp-pd.io/price-per-hour"
    static let topologyLabels = [
        "topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.kubernetes.io/rack",
        "cloud.google.com/gce-topology-block", "cloud.google.com/gce-topology-subblock",
        "cloud.google.com/gce-topology-host", "topology.k8s.aws/network-node-layer-1",
        "topology.k8s.aws/network-node-layer-2", "topology.k8s.aws/network-node-layer-3", "kubernetes.io/hostname",
    ]

    init(labels: [String: String], annotations: [String: String]) {
        for label in Self.acceleratorLabels {
            guard let value = labels[label] ?? annotations[label], !value.isEmpty else { continue }
            accelerator = (label, value)
            break
        }
        pricePerHour = (labels[Self.priceLabel] ?? annotations[Self.priceLabel]).flatMap(Self.price)
        for label in Self.topologyLabels { topology[label] = labels[label] }
    }

    static func price(_ text: String) -> Double? {
        Double(text).flatMap { (0...100_000).contains($0) ? $0 : nil }
    }
}
