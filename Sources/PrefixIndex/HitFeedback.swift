// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// Compares what one pod was predicted to have cached with what its engine reported, and says how far to believe the index.
///
/// Pure: samples in, a share out. Two sources are taken: `cached_tokens` of single answers, and the growth of the engine's
/// prefix-cache counters, which also cover requests that report nothing.
package struct HitFeedback: Sendable, Hashable {
    /// Tokens predicted and reported, of requests that reported; older ones weigh less and less.
    package private(set) var predictedTokens = 0.0
    package private(set) var reportedTokens = 0.0
    /// Sum of the differences without sign, per request.
    package private(set) var missedTokens = 0.0
    package private(set) var samples = 0

    /// The last counters of the engine, in tokens.
    private var lastQueries: Double?
    private var lastHits: Double?
    /// Of the engine's own counters since: what it looked up and found.
    package private(set) var engineQueries = 0.0
    package private(set) var engineHits = 0.0

    /// A request's weight after as many more: half after 32, so that a pod that was restarted is judged anew within minutes.
    private static let memory = 1 - 1.0 / 46
    /// So few tokens say nothing yet: some prompts' worth.
    private static let leastTokens = 2_048.0
    /// Trust is never lost altogether, or it could not be won back.
    private static let leastTrust = 0.05

    package init() {}

    /// An answer that reported its cached tokens, of a request whose prompt was predicted to have `predicted` cached.
    package mutating func observe(predicted: Int, reported: Int) {
        predictedTokens = predictedTokens * Self.memory + Double(max(predicted, 0))
        reportedTokens = reportedTokens * Self.memory + Double(max(reported, 0))
        missedTokens = missedTokens * Self.memory + Double(abs(predicted - reported))
        samples += 1
    }

    /// The engine's counters of tokens looked up and found. Counters that fall are a restart.
    /// - Returns: true when the engine has restarted: its cache is empty.
    package mutating func observe(queries: Double, hits: Double) -> Bool {
        defer {
            lastQueries = queries
            lastHits = hits
        }
        guard let oldQueries = lastQueries, let oldHits = lastHits else { return false }
        guard queries >= oldQueries, hits >= oldHits else {
            self = HitFeedback()
            return true
        }
        engineQueries += queries - oldQueries
        engineHits += hits - oldHits
        return false
    }

    /// The share of predicted tokens that were found, at most 1: what a predicted hit of this pod is multiplied by. 1 while
    /// there is too little to judge by.
    package var trust: Double {
        guard predictedTokens >= Self.leastTokens else { return 1 }
        return min(1, max(Self.leastTrust, reportedTokens / predictedTokens))
    }

    /// Share of prompt tokens that the engine found cached, by its own counters; nil before it has looked anything up.
    package var engineHitRatio: Double? { engineQueries > 0 ? engineHits / engineQueries : nil }
}

/// What engines do with a prompt that is cached whole: they compute its last block again, to have a state to sample from.
package enum UsableHit {
    /// min(held, ⌊(n − 1) / block⌋ × block): the tokens of a hit that save work.
    package static func tokens(held: Int, promptTokens: Int, blockSize: Int) -> Int {
        guard promptTokens > 0, blockSize > 0 else { return 0 }
        return max(0, min(held, (promptTokens - 1) / blockSize * blockSize))
    }
}
