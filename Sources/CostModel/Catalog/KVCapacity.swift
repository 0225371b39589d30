// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// How many tokens of KV fit beside the weights.
package enum KVCapacity {
    /// What engines use of the memory unless told otherwise (`--gpu-memory-utilization`).
    package static let memoryUse = 0.9
    /// Bytes per accelerator for activations, graphs and buffers.
    package static let activationBytes = 3.5e9
    /// Tokens of a sequence, among which the windows of layers that have one are shared out: every sequence has its own.
    package static let typicalSequence = 4096.0
    /// The least that is reported: an engine that runs at all holds one short prompt. Reached where the weights as
    /// described do not fit, so that one of the facts is wrong.
    package static let leastTokens = 4096
    /// More is some other limit's business; keeps sums of tokens far from overflow.
    package static let mostTokens = 1 << 40

    package static func tokens(
        accelerator: Accelerator,
        model: ModelFacts,
        tensorParallel: Int,
        dtype: WeightDtype,
        kvDtype: KVDtype
    ) -> Int {
        let ranks = Double(max(tensorParallel, 1))
        let free =
            (memoryUse * accelerator.memoryBytes - activationBytes) * ranks - model.weightBytes(dtype: dtype)
        let perToken = model.kvBytesPerToken(dtype: kvDtype) * model.kvCopies(tensorParallel: tensorParallel)
        let windows = (model.kvWindow?.extra(of: typicalSequence) ?? 0) / typicalSequence
        let tokens = free / max(perToken * (1 + windows), 1)
        guard tokens.isFinite, tokens > Double(leastTokens) else { return leastTokens }
        return Int(min(tokens, Double(mostTokens)))
    }
}
