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

    /// How the series of several engine cores or models on one page become one number.
    var combination: Combination {
        switch self {
        case .kvUse: .mean
        case .kvBlockSize, .processStart: .last
        default: .sum
        }
    }

    enum Combination {
        case sum, mean, last
    }
}

/// What one metrics page said. nil = the page does not name it.
package struct EngineObservation: Sendable, Hashable {
    private var values: [Double?]

    package init() {
        values = [Double?](repeating: nil, count: EngineQuantity.allCases.count)
    }

    package subscript(quantity: EngineQuantity) -> Double? {
        get { values[quantity.rawValue] }
        set { values[quantity.rawValue] = newValue }
    }

    /// True when the page named none of the gauges of load: it is not this engine's page.
    package var isEmpty: Bool {
        self[.waiting] == nil && self[.running] == nil && self[.kvUse] == nil
    }

    /// Seconds and requests that the engine's histograms of phases have counted since it started.
    package struct Phase: Sendable, Hashable {
        package var seconds: Double
        package var requests: Double

        package init(seconds: Double, requests: Double) {
            self.seconds = seconds
            self.requests = requests
        }
    }

    package var queueTime: Phase? { phase(.queueTimeSum, .queueTimeCount) }
    package var prefillTime: Phase? { phase(.prefillTimeSum, .prefillTimeCount) }
    package var decodeTime: Phase? { phase(.decodeTimeSum, .decodeTimeCount) }

    private func phase(_ sum: EngineQuantity, _ count: EngineQuantity) -> Phase? {
        guard let seconds = self[sum], let requests = self[count] else { return nil }
        return Phase(seconds: seconds, requests: requests)
    }
}
