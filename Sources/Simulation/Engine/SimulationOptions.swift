// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
package import Router

extension ServiceLevelRule {
    /// The service level that results are judged by unless another is given: TTFT ≤ 1 s + 0.25 ms per prompt token,
    /// TPOT ≤ 50 ms.
    package static let standard = ServiceLevelRule(
        ttftBase: Seconds(1),
        ttftPerPromptToken: Seconds(milliseconds: 0.25),
        tpot: Seconds(0.05)
    )
}

extension Connector {
    /// What KV transfers of a run go over where its fleet names no connector: a tuned, layer-wise push at the
    /// share of the line that Mooncake's transfer engine reached (docs/data.md).
    package static let simulated = Connector(
        name: "simulated",
        fixedCost: Seconds(0.002),
        efficiency: 0.7,
        isLayerwise: true,
        allowsUnequalTensorParallel: true
    )
}

/// Something that goes wrong, and when. Times are seconds of the run.
package struct Fault: Sendable, Hashable {
    package enum Kind: Sendable, Hashable {
        /// The pod loses all its jobs and its cache, and refuses connections until it is back.
        case crash(pod: Int)
        /// The pod's scrapes fail.
        case missingScrapes(pod: Int)
        /// The pod takes this many times as long.
        case slow(pod: Int, factor: Double)
        /// Every pod takes this many times what its profile says.
        case profileOff(factor: Double)
        /// The picker forgets all it knew; requests that it held fail.
        case pickerRestart(picker: Int)
    }

    package var kind: Kind
    package var from: Double
    package var to: Double

    package init(_ kind: Kind, from: Double, to: Double) {
        self.kind = kind
        self.from = from
        self.to = to
    }
}

/// How news of cached blocks reaches the pickers. The default is the truth at once.
package struct BlockReports: Sendable, Hashable {
    /// Share of reports that never arrive.
    package var loss: Double
    /// Each report is late by a time drawn evenly from 0 to twice this, so that reports overtake each other.
    package var meanDelay: Double

    package init(loss: Double = 0, meanDelay: Double = 0) {
        self.loss = loss
        self.meanDelay = meanDelay
    }

    var areExact: Bool { loss <= 0 && meanDelay <= 0 }
}

/// What a run is like, beside its fleet, its workload and its policy. The defaults are the stale setting.
package struct SimulationOptions: Sendable, Hashable {
    package var seed: UInt64 = 1
    package var pickers = 1
    package var scrapeInterval = 0.1
    /// A scrape older than this says nothing any more.
    package var stalenessLimit = 5.0
    /// From the decision to the model server.
    package var controlDelay = 0.010
    /// Log-deviation of a prompt's duration.
    package var prefillNoise = 0.2
    /// Log-deviation of a decode step's duration.
    package var decodeNoise = 0.1
    /// Log-deviation of a pod's constant speed, which nobody knows.
    package var speedBias = 0.1
    /// What is known of the connectors that pods name; pods that name none use `simulated`.
    package var connectors: [Connector] = [.simulated]
    package var serviceLevel = ServiceLevelRule.standard
    /// Share of requests of priority −1.
    package var sheddableShare = 0.0
    /// TTFT charged to a request that was refused or failed.
    package var deadline = 120.0
    /// Share of requests whose first token can be seen.
    package var streamingShare = 1.0
    /// Share of requests whose answers the pickers see: of the others they hear the end alone. Evenly spread.
    package var observedShare = 1.0
    /// Seconds that a prefill pod keeps a prompt's KV for its decode pod; then the request fails (vLLM's
    /// `VLLM_NIXL_ABORT_REQUEST_TIMEOUT`).
    package var keepTimeout = 480.0
    /// Engines serve by the priority that the decision gives, and pickers know that; else in order of arrival.
    package var enginePriority = false
    /// Tokens per step of prefill pods that mix chunks of prompts; nil: they compute whole prompts, one after another.
    package var prefillChunk: Int?
    package var faults: [Fault] = []
    package var blockReports = BlockReports()
    /// Points of the utilisation series.
    package var seriesPoints = 80

    package init() {}
}

/// What a policy is told beyond what a picker could know: nothing, but for the clairvoyant.
package struct PolicyKnowledge: Sendable, Hashable {
    package var trueLengths: Bool
    /// Exact state: the pods' true speeds, no control delay, a scrape every 10 ms.
    package var exactState: Bool

    package init(trueLengths: Bool = false, exactState: Bool = false) {
        self.trueLengths = trueLengths
        self.exactState = exactState
    }

    package static let clairvoyant = PolicyKnowledge(trueLengths: true, exactState: true)
}

/// A promise that the simulation could not keep. It stops instead of printing wrong numbers.
package enum SimulationError: Error, Sendable, Hashable, CustomStringConvertible {
    case timeRanBackwards(from: Double, to: Double)
    case negativeLedger(pod: String)
    case notEligible(request: Int, reason: String)
    case unknownRequest(UInt64)
    case stalled(at: Double, waiting: Int)
    /// The fleet cannot serve at all.
    case impossibleFleet(String)

    package var description: String {
        switch self {
        case .timeRanBackwards(let from, let to): "time ran backwards, from \(from) s to \(to) s"
        case .negativeLedger(let pod): "the memory that \(pod) uses became negative"
        case .notEligible(let request, let reason): "the policy sent request \(request) where it cannot go: \(reason)"
        case .unknownRequest(let id): "the policy spoke of request \(id), which there is not"
        case .stalled(let at, let waiting): "at \(at) s \(waiting) requests were there, none had ended for two hours"
        case .impossibleFleet(let reason): reason
        }
    }
}
