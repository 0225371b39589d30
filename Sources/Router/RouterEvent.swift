// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// How a placed request ended.
package struct Outcome: Sendable, Hashable, Codable {
    package enum Kind: String, Sendable, Hashable, Codable {
        /// The whole answer was seen.
        case completed
        /// The client left, or the stream ended before its answer did.
        case cancelled
        /// An answer of 4xx or 5xx from the model server.
        case failed
        /// Envoy's own local answer: it could not reach the pod.
        case unreachable
        /// The picker's own deadline passed.
        case timedOut
    }

    package var kind: Kind
    package var status: Int?
    /// From the answer's usage, nil where not reported.
    package var promptTokens: Int?
    package var cachedTokens: Int?
    package var outputTokens: Int?
    /// True where the gateway's mode ends the exchange before the answer ends (Envoy's response modes without bodies and
    /// trailers): the answer is still on its way, and nothing more will be heard of it.
    package var isEarly: Bool

    package init(
        kind: Kind,
        status: Int? = nil,
        promptTokens: Int? = nil,
        cachedTokens: Int? = nil,
        outputTokens: Int? = nil,
        isEarly: Bool = false
    ) {
        self.kind = kind
        self.status = status
        self.promptTokens = promptTokens
        self.cachedTokens = cachedTokens
        self.outputTokens = outputTokens
        self.isEarly = isEarly
    }
}

/// Growth of the sums and counts of one endpoint's histograms of prefill and decode time per request.
package struct PhaseGrowth: Sendable, Hashable, Codable {
    package var prefillSeconds: Seconds
    package var prefills: Int
    package var decodeSeconds: Seconds
    package var decodes: Int
    /// Some of them may have been preempted: their time then holds a recompute.
    package var hadPreemptions: Bool

    package init(
        prefillSeconds: Seconds = .zero,
        prefills: Int = 0,
        decodeSeconds: Seconds = .zero,
        decodes: Int = 0,
        hadPreemptions: Bool = false
    ) {
        self.prefillSeconds = prefillSeconds
        self.prefills = prefills
        self.decodeSeconds = decodeSeconds
        self.decodes = decodes
        self.hadPreemptions = hadPreemptions
    }
}

/// What happened. The Router hears of the world through these alone.
package enum RouterEvent: Sendable {
    case arrived(InferenceRequest)
    /// The first bytes of the answer's body were seen.
    case firstToken(RequestID)
    case ended(RequestID, Outcome)
    /// Where another picker sent a request that arrived as a shadow and did not say so.
    case served(RequestID, Served)
    case fleetChanged(FleetSnapshot)
    /// A newer scrape of one endpoint, between snapshots. Cheaper than a snapshot when nothing else changed.
    case loadObserved(EndpointID, EndpointLoad)
    /// How an endpoint's histograms grew since they were last read.
    case phasesObserved(EndpointID, PhaseGrowth)
    /// Another picker told what it did.
    case peer(PeerNotice)
    case tick
}

/// What the shell must now do.
package enum RouterAction: Sendable, Hashable {
    case dispatch(RequestID, Decision)
    case refuse(RequestID, Refusal)
    /// Send `.tick` at this time, unless an earlier wake is outstanding: each tick asks for the next. Of several wakes only
    /// the earliest becomes a tick; if the others did too, each would ask for one more.
    case wake(at: Instant)
}
