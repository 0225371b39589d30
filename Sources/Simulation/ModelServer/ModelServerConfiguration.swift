// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// How one model server behaves.
package struct ModelServerConfiguration: Sendable, Hashable {
    /// How prompts are cut into steps.
    package enum Batching: Sendable, Hashable {
        /// One whole prompt per step: a prefill server.
        case wholePrompt
        /// Chunks of prompts fill up what the running decodes leave of a budget of tokens per step
        /// (Sarathi-Serve, arXiv 2403.02310; vLLM's `max_num_batched_tokens`).
        case chunked(tokenBudget: Int)
    }

    package enum Ordering: Sendable, Hashable { case fifo, priority }

    /// vLLM's default token budget of a step.
    package static let defaultTokenBudget = 2048
    /// vLLM's default `max_num_seqs`.
    package static let defaultMaximumSequences = 256

    package var profile: PodProfile
    package var batching: Batching
    package var ordering: Ordering
    /// Tokens per block of the prefix cache, as the jobs' hashes are cut.
    package var blockSize: Int
    /// Tokens whose KV fits, cached and running ones together.
    package var capacityTokens: Int
    package var maximumSequences: Int
    /// Multiplies every duration: what this server truly takes over what its profile says.
    package var slowness: Double
    /// Log-deviation of a prompt's duration, drawn once per prompt.
    package var prefillNoise: Double
    /// Log-deviation of a decode step's duration. A stretch of n steps draws once, with deviation divided by √n.
    package var decodeNoise: Double
    /// Report each token. Steps are then taken one at a time.
    package var reportsTokens: Bool
    /// Report blocks stored and removed.
    package var reportsBlocks: Bool

    package init(
        profile: PodProfile,
        batching: Batching = .chunked(tokenBudget: defaultTokenBudget),
        ordering: Ordering = .fifo,
        blockSize: Int = 16,
        capacityTokens: Int? = nil,
        maximumSequences: Int = defaultMaximumSequences,
        slowness: Double = 1,
        prefillNoise: Double = 0,
        decodeNoise: Double = 0,
        reportsTokens: Bool = false,
        reportsBlocks: Bool = false
    ) {
        self.profile = profile
        self.batching = batching
        self.ordering = ordering
        self.blockSize = max(blockSize, 1)
        self.capacityTokens = max(capacityTokens ?? profile.kvCapacityTokens, 1)
        self.maximumSequences = max(maximumSequences, 1)
        self.slowness = slowness
        self.prefillNoise = prefillNoise
        self.decodeNoise = decodeNoise
        self.reportsTokens = reportsTokens
        self.reportsBlocks = reportsBlocks
    }
}
