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
    /// Our requests that ended since the counters were last compared.
    private var own = Portion()

    private struct Portion: Sendable, Hashable {
        var promptTokens = 0.0
        /// Of answers that said how much was cached, and of those that did not.
        var reportedTokens = 0.0
        var silentPredicted = 0.0
        /// The engine's growth.
        var queries = 0.0
        var hits = 0.0
    }

    /// A request's weight after as many more: half after 32, so that a pod that was restarted is judged anew within minutes.
    private static let memory = 1 - 1.0 / 46
    /// So few tokens say nothing yet: some prompts' worth.
    private static let leastTokens = 2_048.0
    /// Trust is never lost altogether, or it could not be won back.
    private static let leastTrust = 0.05

    package init() {}

    /// An answer that reported its cached tokens, of a request whose prompt was predicted to have `predicted` cached.
    package mutating func observe(predicted: Int, reported: Int) {
        observe(predicted: Double(max(predicted, 0)), reported: Double(max(reported, 0)))
    }

    private mutating func observe(predicted: Double, reported: Double) {
        predictedTokens = predictedTokens * Self.memory + predicted
        reportedTokens = reportedTokens * Self.memory + reported
        missedTokens = missedTokens * Self.memory + abs(predicted - reported)
        samples += 1
    }

    /// A request of ours has ended. `reported`: nil where its answer did not say; then the engine's counters do.
    package mutating func ended(promptTokens: Int, predicted: Int, reported: Int?) {
        own.promptTokens += Double(max(promptTokens, 0))
        if let reported {
            own.reportedTokens += Double(max(reported, 0))
            observe(predicted: predicted, reported: reported)
        } else {
            own.silentPredicted += Double(max(predicted, 0))
        }
    }

    /// What a reading of the counters showed.
    package enum CounterNews: Sendable, Hashable {
        case nothing
        /// They fell: the engine is another one, and its cache is empty.
        case restarted
        /// Tokens predicted for requests that said nothing, and those that the counters show were found.
        case compared(predicted: Int, found: Int)
    }

    /// The engine's counters of tokens looked up and found, since its start. They count others' requests too: they are
    /// compared only where most of the growth is ours.
    package mutating func observe(queries: Double, hits: Double) -> CounterNews {
        guard queries.isFinite, hits.isFinite else { return .nothing }
        defer {
            lastQueries = queries
            lastHits = hits
        }
        guard let oldQueries = lastQueries, let oldHits = lastHits else { return .nothing }
        guard queries >= oldQueries, hits >= oldHits else {
            self = HitFeedback()
            return .restarted
        }
        engineQueries += queries - oldQueries
        engineHits += hits - oldHits
        own.queries += queries - oldQueries
        own.hits += hits - oldHits
        guard own.queries >= Self.leastGrowth else { return .nothing }
        let portion = own
        own = Portion()
        guard portion.silentPredicted > 0,
            abs(portion.promptTokens - portion.queries) <= Self.agreement * portion.queries
        else { return .nothing }
        let found = min(max(portion.hits - portion.reportedTokens, 0), portion.queries)
        observe(predicted: portion.silentPredicted, reported: found)
        return .compared(
            predicted: Int(min(portion.silentPredicted, Self.mostTokens)),
            found: Int(min(found, Self.mostTokens))
        )
    }

    /// Counters are compared in portions so large that a request which ends there and has not ended here yet matters little.
    private static let leastGrowth = 65_536.0
    private static let agreement = 0.15
    /// Keeps hostile counters within integers.
    private static let mostTokens = 1e15

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
