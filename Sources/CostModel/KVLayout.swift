// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What decides whether two pods can exchange KV cache, and at what extra cost.
package struct KVLayout: Sendable, Hashable, Codable {
    /// Canonical model name.
    package var model: String
    /// The format of the cached numbers, by `KVDtype.format(named:)`: `bfloat16`, `fp8`, `fp8_e5m2`, …
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
