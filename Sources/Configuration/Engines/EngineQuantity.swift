// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// What the picker wants to know of an engine's metrics page.
package enum EngineQuantity: Int, Sendable, Hashable, CaseIterable {
    /// Requests in the engine's queue, and in its running batch.
    case waiting, running
    /// Share of KV blocks in use by running requests, 0…1.
    case kvUse
    /// KV blocks of the whole cache, and tokens of one.
    case kvBlocks, kvBlockSize
    /// Prompt tokens looked up in the prefix cache, and found there. Counters.
    case prefixQueries, prefixHits
    /// Requests thrown out of the batch for lack of KV. Counter.
    case preemptions
    case promptTokens, generationTokens, finishedRequests
    /// Unix time at which the server's process started: a later one means that its cache and counters are new.
    case processStart
    /// Histograms of one request's time in the queue, in prefill and in decode: seconds together, and how many.
    case queueTimeSum, queueTimeCount
    case prefillTimeSum, prefillTimeCount
    case decodeTimeSum, decodeTimeCount
    /// Prompt tokens whose KV came from another server. Counter.
    case transferredTokens
    /// Histograms of the time to first token and per output token: requests, and those within the service level.
    case ttftCount, ttftWithin
    case tpotCount, tpotWithin

    /// The key under which a configuration names its series.
    package var key: String { String(describing: self) }

    /// How the series of several engine cores or models on one page become one number.
    package var combination: Combination {
        switch self {
        case .kvUse: .mean
        case .kvBlockSize, .processStart: .last
        default: .sum
        }
    }

    package enum Combination: Sendable, Hashable {
        case sum, mean, last
    }
}
