// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// Sums over a model server's life, under the meaning that vLLM's metrics give them.
package struct ServerCounters: Sendable, Hashable {
    package var promptTokens = 0
    package var generationTokens = 0
    /// Prompt tokens looked up in the prefix cache, and found there.
    package var prefixQueries = 0
    package var prefixHits = 0
    package var preemptions = 0
    package var finished = 0
    package var rejected = 0
    package var queueTime = Seconds.zero
    /// From the first scheduling to the first token, and from there to the end, of the `finished` requests: the sums of
    /// vLLM's `request_prefill_time_seconds` and `request_decode_time_seconds`.
    package var prefillTime = Seconds.zero
    package var decodeTime = Seconds.zero
    /// Time in which the server computed anything.
    package var busyTime = Seconds.zero
    package var steps = 0

    package init() {}
}

/// What a scrape of the server shows.
package struct ServerLoad: Sendable, Hashable {
    package var waiting: Int
    package var running: Int
    /// Share of the KV memory that running requests hold. Cached blocks that nobody uses do not count.
    package var kvUse: Double
    package var kvTokens: Int

    package init(waiting: Int, running: Int, kvUse: Double, kvTokens: Int) {
        self.waiting = waiting
        self.running = running
        self.kvUse = kvUse
        self.kvTokens = kvTokens
    }
}
