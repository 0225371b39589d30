// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What it costs to move KV from one pod to another. Formula (6) of the latency model.
///
///     T_ser = t0 + bytes ÷ min(bandwidths)
///     exposed, sent at the end:    T_ser + repack
///     exposed, sent layer by layer: t0 + max(T_ser − (1 − 1/layers)·T_pre, T_ser/layers) + repack
///
/// Repacking at unequal tensor parallelism passes the bytes once through the receiver's device memory.
package struct KVTransfer: Sendable, Hashable, Codable {
    /// t0.
    package var fixedCost: Seconds
    /// Transfer and repack seconds of one token.
    package var perToken: Double
    package var repackPerToken: Double
    /// Layers, if the connector sends them one by one while prefill runs, else 1.
    package var overlappedLayers: Double

    package init(fixedCost: Seconds, perToken: Double, repackPerToken: Double = 0, overlappedLayers: Double = 1) {
        self.fixedCost = fixedCost
        self.perToken = perToken
        self.repackPerToken = repackPerToken
        self.overlappedLayers = overlappedLayers
    }

    /// The transfer between two pods. `fixedCost`: what was learned for this pair, nil = the connector's own.
    package init(
        from sender: PodProfile,
        to receiver: PodProfile,
        repacks: Bool,
        connector: Connector = .unknown,
        fixedCost: Seconds? = nil
    ) {
        let bandwidth = min(sender.networkBytesPerSecond, receiver.networkBytesPerSecond)
        let bytes = max(sender.kvBytesPerToken, receiver.kvBytesPerToken)
        self.init(
            fixedCost: fixedCost ?? connector.fixedCost,
            perToken: bytes / max(bandwidth, KVTransfer.leastBandwidth),
            repackPerToken: repacks ? bytes / max(receiver.memoryBytesPerSecond, KVTransfer.leastBandwidth) : 0,
            overlappedLayers: connector.isLayerwise ? Double(max(receiver.layers, 1)) : 1
        )
    }

    /// Slower than any network that carries KV: keeps a missing figure from dividing by zero.
    package static let leastBandwidth = 1e6

    /// The whole transfer, as if nothing overlapped. Zero tokens cost nothing.
    @inlinable
    package func serial(tokens: Double) -> Seconds {
        tokens > 0 ? fixedCost + Seconds(tokens * (perToken + repackPerToken)) : .zero
    }

    /// What the transfer adds after prefill has ended.
    ///
    /// - Parameters:
    ///   - tokens: KV tokens to move: those the receiver does not hold.
    ///   - prefill: the prefill that layer-wise sending hides behind.
    /// - Returns: seconds between the end of prefill and the receiver's first step.
    /// - Complexity: O(1), no allocation.
    @inlinable
    package func exposed(tokens: Double, prefill: Seconds) -> Seconds {
        guard tokens > 0 else { return .zero }
        let serial = fixedCost.rawValue + tokens * perToken
        let repack = tokens * repackPerToken
        guard overlappedLayers > 1 else { return Seconds(serial + repack) }
        let hidden = (1 - 1 / overlappedLayers) * max(prefill.rawValue, 0)
        return Seconds(fixedCost.rawValue + max(serial - hidden, serial / overlappedLayers) + repack)
    }
}
