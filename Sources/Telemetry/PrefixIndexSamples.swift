// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What the prefix index counts: read when the page is made.
package struct PrefixIndexSamples: Sendable, Hashable {
    package typealias Reason = MetricSamples.Reason

    /// (holder, block) pairs.
    package var heldBlocks = 0
    package var budgetBytes = 0
    package var evictedBlocks = 0
    package var hashDomains = 0
    /// Blocks and events that the engines' batches named, by what became of them.
    package var events: [Reason] = []
    package var batches = 0
    package var malformedBatches = 0
    package var gaps = 0
    package var lostBatches = 0
    package var publisherRestarts = 0
    package var replays = 0
    package var failedReplays = 0
    package var publishers = 0
    package var doubtfulPublishers = 0
    package var publisherFailures = 0
    /// Of recent requests whose answers, or whose engines' counters, told: tokens expected in the cache, and found there.
    package var predictedTokens = 0.0
    package var reportedTokens = 0.0
    package var missedTokens = 0.0
    /// Of all prompt tokens that engines looked up, those found.
    package var engineQueries = 0.0
    package var engineHits = 0.0
    package var distrustedEndpoints = 0
    /// Requests, by what their keys were made of.
    package var keys: [Reason] = []

    package init() {}
}
