// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// All that the cost model knows about one pod before it has been observed: the resolved profile.
///
/// Made by the catalogue from (accelerator, model, tensor parallel, dtype, engine); `source` says by which rung of the
/// fallback ladder. Online calibration corrects it by a `PodCalibration`, never in place.
package struct PodProfile: Sendable, Hashable, Codable {
    package var prefill: PrefillCoefficients
    package var decode: DecodeCoefficients
    package var mixed: StepCoefficients
    /// Tokenising, HTTP and scheduling on top of prefill, before any observation (t0).
    package var ttftOverhead: Seconds
    /// Relative error of a prefill and of a decode prediction, as half of an 80 % band: 0.05 is ±5 %.
    package var prefillError: Double
    package var decodeError: Double
    /// KV bytes of one token on the whole pod, in the layers whose KV grows with the context.
    package var kvBytesPerToken: Double
    /// The KV of the other layers, nil where there are none.
    package var kvWindow: KVWindow?
    /// Tokens whose KV fits beside the weights.
    package var kvCapacityTokens: Int
    /// Layers, for the overlap of a layer-wise KV transfer.
    package var layers: Int
    /// Bytes per second that the pod's network carries one way, all its accelerators together, after protocol losses.
    package var networkBytesPerSecond: Double
    /// Bytes per second of the pod's device memory, all its accelerators together (repacking at unequal TP).
    package var memoryBytesPerSecond: Double
    /// Dollars per second for the whole pod.
    package var dollarsPerSecond: Double
    /// Where the coefficients come from.
    package var source: ProfileSource

    package init(
        prefill: PrefillCoefficients,
        decode: DecodeCoefficients,
        mixed: StepCoefficients,
        ttftOverhead: Seconds,
        prefillError: Double,
        decodeError: Double,
        kvBytesPerToken: Double,
        kvCapacityTokens: Int,
        layers: Int,
        networkBytesPerSecond: Double,
        memoryBytesPerSecond: Double,
        dollarsPerSecond: Double,
        source: ProfileSource,
        kvWindow: KVWindow? = nil
    ) {
        self.prefill = prefill
        self.decode = decode
        self.mixed = mixed
        self.ttftOverhead = ttftOverhead
        self.prefillError = prefillError
        self.decodeError = decodeError
        self.kvBytesPerToken = kvBytesPerToken
        self.kvCapacityTokens = kvCapacityTokens
        self.layers = layers
        self.networkBytesPerSecond = networkBytesPerSecond
        self.memoryBytesPerSecond = memoryBytesPerSecond
        self.dollarsPerSecond = dollarsPerSecond
        self.source = source
        self.kvWindow = kvWindow
    }
}
