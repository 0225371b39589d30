// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// How a KV connector moves a prompt's KV from the prefill pod to the decode pod.
package struct Connector: Sendable, Hashable, Codable {
    /// Canonical: lower case, such as `nixl`.
    package var name: String
    package var aliases: [String]
    /// Seconds that each transfer costs whatever its size (t0), before any observation.
    package var fixedCost: Seconds
    /// Share of the network line's rate that it reaches.
    package var efficiency: Double
    /// Layers are sent while later ones are still computed.
    package var isLayerwise: Bool
    /// Pods of unequal tensor parallelism may exchange KV.
    package var allowsUnequalTensorParallel: Bool
    /// Relative error of its transfers, as half of an 80 % band.
    package var error: Double
    package var source: String

    package init(
        name: String,
        aliases: [String] = [],
        fixedCost: Seconds,
        efficiency: Double,
        isLayerwise: Bool,
        allowsUnequalTensorParallel: Bool,
        error: Double = Connector.describedError,
        source: String = ""
    ) {
        self.name = name
        self.aliases = aliases
        self.fixedCost = fixedCost
        self.efficiency = efficiency
        self.isLayerwise = isLayerwise
        self.allowsUnequalTensorParallel = allowsUnequalTensorParallel
        self.error = error
        self.source = source
    }

    /// Of a connector that somebody has described and nobody measured: lines reach 0.6 to 0.8 of their rate.
    package static let describedError = 0.3

    /// What is assumed of a connector that nobody has named or described.
    ///
    /// 10 ms is the low end of what today's connectors cost before the first byte, 0.70 what RDMA over one NIC reaches
    /// of its line (H100 nodes: 36.4 of 50 GB/s).
    package static let unknown = Connector(
        name: "unknown",
        fixedCost: Seconds(milliseconds: 10),
        efficiency: 0.7,
        isLayerwise: false,
        allowsUnequalTensorParallel: true,
        error: 0.6
    )
}
