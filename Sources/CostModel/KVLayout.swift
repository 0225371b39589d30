// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What decides whether two pods can exchange KV cache, and at what extra cost.
package struct KVLayout: Sendable, Hashable, Codable {
    /// Canonical model name.
    package var model: String
    /// Canonical KV dtype: `bfloat16`, `fp8`, … (`auto` has been resolved to `bfloat16`).
    package var dtype: String
    /// Tokens per KV block, nil where unknown.
    package var blockSize: Int?
    /// KV connector (`nixl`, `mooncake`, …), nil where unknown.
    package var connector: String?
    package var tensorParallel: Int

    package init(model: String, dtype: String, blockSize: Int?, connector: String?, tensorParallel: Int) {
        self.model = model
        self.dtype = dtype
        self.blockSize = blockSize
        self.connector = connector
        self.tensorParallel = tensorParallel
    }
}
