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
    /// KV of layers that stop at a window, moved beside that of the tokens; nil without.
    package var window: KVWindow?
    /// Layers, if the connector sends them one by one while prefill runs, else 1.
    package var overlappedLayers: Double

    package init(
        fixedCost: Seconds,
        perToken: Double,
        repackPerToken: Double = 0,
        overlappedLayers: Double = 1,
        window: KVWindow? = nil
    ) {
        self.fixedCost = fixedCost
        self.perToken = perToken
        self.repackPerToken = repackPerToken
        self.overlappedLayers = overlappedLayers
        self.window = window
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
            overlappedLayers: connector.isLayerwise ? Double(max(receiver.layers, 1)) : 1,
            window: receiver.kvWindow ?? sender.kvWindow
        )
    }

    /// Slower than any network that carries KV: keeps a missing figure from dividing by zero.
    package static let leastBandwidth = 1e6

    /// Tokens that would move as many bytes if all layers' KV grew.
    @inlinable @inline(__always)
    package func moved(_ tokens: Double) -> Double { tokens + (window?.extra(of: tokens) ?? 0) }

    /// The whole transfer, as if nothing overlapped. Zero tokens cost nothing.
    @inlinable
    package func serial(tokens: Double) -> Seconds {
        tokens > 0 ? fixedCost + Seconds(moved(tokens) * (perToken + repackPerToken)) : .zero
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
        let count = moved(tokens)
        return Seconds(
            KVTransfer.exposed(
                fixed: fixedCost.rawValue,
                sending: count * perToken,
                repack: count * repackPerToken,
                layers: overlappedLayers,
                prefill: prefill.rawValue
            )
        )
    }

    /// The formula itself, in seconds. `layers`: those that are sent one by one while prefill runs, 1 where all are sent
    /// at its end.
    @inlinable @inline(__always)
    package static func exposed(
        fixed: Double,
        sending: Double,
        repack: Double,
        layers: Double,
        prefill: Double
    ) -> Double {
        let serial = fixed + sending
        guard layers > 1 else { return serial + repack }
        let hidden = (1 - 1 / layers) * max(prefill, 0)
        return fixed + max(serial - hidden, serial / layers) + repack
    }

    /// As `exposed`, with the band that the connector's error and the prefill's own leave. `error`: relative, half of an
    /// 80 % band of the whole transfer.
    package func estimate(tokens: Double, prefill: PhaseEstimate, error: Double) -> TransferEstimate {
        func scaled(by factor: Double) -> KVTransfer {
            var copy = self
            copy.fixedCost = fixedCost * factor
            copy.perToken *= factor
            copy.repackPerToken *= factor
            return copy
        }
        return TransferEstimate(
            mean: exposed(tokens: tokens, prefill: prefill.mean),
            low: scaled(by: max(1 - error, 0)).exposed(tokens: tokens, prefill: prefill.high),
            high: scaled(by: 1 + error).exposed(tokens: tokens, prefill: prefill.low)
        )
    }
}

/// What a transfer adds after prefill, with its 80 % band.
package struct TransferEstimate: Sendable, Hashable {
    package var mean: Seconds
    package var low: Seconds
    package var high: Seconds

    package init(mean: Seconds, low: Seconds, high: Seconds) {
        self.mean = mean
        self.low = low
        self.high = high
    }

    package static let none = TransferEstimate(mean: .zero, low: .zero, high: .zero)
}
