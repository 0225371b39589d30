// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What is asked of a server to learn its profile: few requests, chosen so that every term shows.
struct ProbePlan: Sendable {
    struct Prefill: Sendable, Hashable {
        var newTokens: Int
        var cachedTokens: Int
    }

    struct Decode: Sendable, Hashable {
        var batch: Int
        var context: Int
    }

    var prefills: [Prefill]
    var decodes: [Decode]
    var repeats: Int
    /// Tokens that each sequence of a batch generates.
    var outputTokens: Int

    /// A plan within limits: `longestPrompt` tokens, `largestBatch` requests at the same time, and `mostKV` tokens of a
    /// whole batch, since a server preempts beyond its KV cache.
    init(longestPrompt: Int, largestBatch: Int, mostKV: Int, repeats: Int, outputTokens: Int) {
        let lengths = [32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768].filter { $0 <= longestPrompt }
        let cached = [(2048, 256), (4096, 1024), (8192, 256), (8192, 2048), (16384, 512)]
        prefills =
            lengths.map { Prefill(newTokens: $0, cachedTokens: 0) }
            + cached.filter { $0.0 + $0.1 <= longestPrompt }.map { Prefill(newTokens: $0.1, cachedTokens: $0.0) }
        let batches = [1, 2, 4, 8, 16, 32, 64, 128, 256].filter { $0 <= largestBatch }
        let contexts = [128, 2048, 8192].filter { $0 <= longestPrompt }
        decodes = contexts.flatMap { context in
            batches.filter { $0 * (context + outputTokens) <= mostKV }.map { Decode(batch: $0, context: context) }
        }
        self.repeats = repeats
        self.outputTokens = outputTokens
    }

    var requests: Int {
        let prefilling = prefills.reduce(0) { $0 + (($1.cachedTokens > 0 ? 2 : 1) * repeats) }
        // Each batch is sent twice: once to fill the prefix cache, once to be timed.
        return prefilling + decodes.reduce(0) { $0 + 2 * $1.batch } + 1
    }

    var promptTokens: Int {
        prefills.reduce(0) { $0 + ($1.newTokens + 2 * $1.cachedTokens) * repeats }
            + decodes.reduce(0) { $0 + 2 * $1.batch * $1.context }
    }
}
