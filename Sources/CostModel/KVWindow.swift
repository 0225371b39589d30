// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The KV of layers whose attention stops at a window, beside that of the layers whose KV grows.
package struct KVWindow: Sendable, Hashable, Codable {
    /// Tokens at which these layers' KV stops growing.
    package var tokens: Double
    /// Bytes of a token in these layers over its bytes in the growing ones.
    package var share: Double

    package init(tokens: Double, share: Double) {
        self.tokens = tokens
        self.share = share
    }

    /// Tokens of growing KV alone that weigh as much as the windows of `count` tokens do.
    @inlinable @inline(__always)
    package func extra(of count: Double) -> Double { min(max(count, 0), tokens) * share }
}

extension PodProfile {
    /// KV bytes of a sequence of so many tokens, or of its last ones: what a transfer of them moves.
    @inlinable @inline(__always)
    package func kvBytes(tokens: Double) -> Double {
        guard let kvWindow else { return tokens * kvBytesPerToken }
        return (tokens + kvWindow.extra(of: tokens)) * kvBytesPerToken
    }
}

extension ModelFacts {
    /// nil where all layers' KV grows.
    package var kvWindow: KVWindow? {
        guard windowedLayers > 0, windowedLayers < layers, window > 0 else { return nil }
        return KVWindow(tokens: Double(window), share: Double(windowedLayers) / Double(layers - windowedLayers))
    }
}
