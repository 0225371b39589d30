// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// One request as a model server sees it.
package struct ServerJob: Sendable, Hashable {
    /// Where the prompt's KV cache comes from.
    package enum Source: Sendable, Hashable {
        /// The server computes the prompt, less what it has cached.
        case compute
        /// Another server computed it; it arrives by transfer into memory that is reserved first.
        case remote
    }

    /// Unique among the jobs that a server holds at one time.
    package var id: UInt64
    package var promptTokens: Int
    /// Tokens to generate, the first one included. 1 = prefill only.
    package var outputTokens: Int
    /// One hash per full block of the prompt, in order. A hash names a block together with all before it.
    package var promptHashes: [UInt64]
    /// Hashes of the full blocks that the output completes, following on `promptHashes`. May be empty: then the output
    /// is never reused.
    package var outputHashes: [UInt64]
    /// Lower is served first where the server orders by priority; nothing otherwise.
    package var priority: Double
    package var source: Source
    /// The job keeps its place in the queue but cannot start before `kvArrived`: a remote job waits for its prompt's KV,
    /// a computing one for a prefix that is being pulled from a peer.
    package var awaitsKV: Bool
    /// The KV stays in memory after the end until `release`: a prefill server's, until the decode server has fetched it.
    package var keepsKV: Bool

    package init(
        id: UInt64,
        promptTokens: Int,
        outputTokens: Int,
        promptHashes: [UInt64] = [],
        outputHashes: [UInt64] = [],
        priority: Double = 0,
        source: Source = .compute,
        awaitsKV: Bool = false,
        keepsKV: Bool = false
    ) {
        self.id = id
        self.promptTokens = promptTokens
        self.outputTokens = outputTokens
        self.promptHashes = promptHashes
        self.outputHashes = outputHashes
        self.priority = priority
        self.source = source
        self.awaitsKV = awaitsKV
        self.keepsKV = keepsKV
    }
}
