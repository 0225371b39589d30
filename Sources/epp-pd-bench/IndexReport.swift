// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What the index benchmark found. Names as the documents have them; times of clocks include 20 to 30 ns of the clock.
struct IndexReport: Encodable {
    var workers = 0
    var prompts = 0
    var blocks = 0
    var shared_blocks = 0
    var replicas = 0
    var worker_blocks = 0
    var bytes_per_worker_block = 0.0
    /// The same by the index's own account.
    var accounted_bytes_per_worker_block = 0.0
    var insert_blocks_per_second = 0.0
    var ingest_us_per_block = 0.0
    var lookup_p50_ns: UInt64 = 0
    var lookup_p99_ns: UInt64 = 0
    var lookup_random_p50_ns: UInt64 = 0
    var lookup_random_p99_ns: UInt64 = 0
    /// From a request's keys to publishers, tiers and tokens: what the picker waits for.
    var answer_p50_ns: UInt64 = 0
    var answer_p99_ns: UInt64 = 0
    /// 6,250 blocks held by 256 workers to 256 different depths; and the hashing of its 100,000 tokens.
    var lookup_deep_p50_ns: UInt64 = 0
    var hash_100k_tokens_ns: UInt64 = 0
    var store_max_us = 0.0
    /// The most that one and the same store took in both of two equal fills: what the structure does, without what the
    /// machine does beside it.
    var store_max_recurring_us = 0.0
    /// Processor time until all of a worker's blocks are out of memory; lookups forget it at once.
    var remove_worker_ms = 0.0
    var remove_step_max_us = 0.0
    var snapshot_bytes = 0
    var snapshot_bytes_per_block = 0.0
    var snapshot_load_ms = 0.0
    /// Lookups that leave a stored prompt and were taken one block too far by a twin of 16 bits; not counted as wrong while
    /// they are as rare as the bits say.
    var divergence_overshoots = 0
    var wrong_answers = 0
    var keys_only: KeysOnly?

    /// The approximate index on the same prompts.
    struct KeysOnly: Encodable {
        var bytes_per_worker_block = 0.0
        var insert_blocks_per_second = 0.0
        var lookup_p50_ns: UInt64 = 0
    }
}
