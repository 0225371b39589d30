// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import PrefixIndex
package import Router

/// What a baseline may look at when it places a request: what its original sees, no more.
package struct BaselineView {
    /// One pod as a baseline knows it.
    package struct Pod {
        package var endpoint: Endpoint
        /// The last scrape; zeros before the first.
        package var waiting = 0
        package var running = 0
        package var kvUse = 0.0
        package var isAvailable = true
        /// Own requests sent here and not ended; on a prefill pod, those without a first token yet.
        package var inFlight = 0
        /// Own prompts whose first token has not been seen: tokens not cached at dispatch, and all tokens.
        package var pendingTokens = 0
        package var pendingPromptTokens = 0
        /// Own requests decoding here or sent here to decode, and their prompts' tokens.
        package var decoding = 0
        package var decodingTokens = 0
        /// Tokens of this request's prompt that the pod holds.
        package var held = 0

        package init(endpoint: Endpoint) { self.endpoint = endpoint }
    }

    package var pods: [Pod]
    package var request: InferenceRequest

    /// Prompt tokens that the pod would have to compute.
    package func uncached(_ pod: Int) -> Int { max(request.promptTokens - pods[pod].held, 0) }

    /// Blocks of a number of tokens, at the index's block size.
    package func blocks(_ tokens: Int) -> Double {
        (Double(tokens) / max(request.prefix.tokensPerBlock, 1)).rounded(.up)
    }
}

/// What a pod is chosen for.
package enum BaselinePhase: Sendable, Hashable {
    /// To compute the prompt for another pod.
    case prefill
    /// To decode what another computed.
    case decode
    /// To do all: the fleet has pods of both roles only.
    case whole
}

/// A published rule for choosing pods. `choose` is asked among available candidates, which are never empty.
package protocol BaselineRule {
    mutating func choose(
        _ phase: BaselinePhase,
        among candidates: [Int],
        _ view: BaselineView,
        _ draw: inout RandomStream
    ) -> Int
    /// True where the rule chooses the decode pod before the prefill pod.
    var choosesDecodeFirst: Bool { get }
    /// Whether a request whose decode pod is chosen shall still be disaggregated.
    func disaggregates(_ view: BaselineView, decode: Int) -> Bool
    var parameters: [String: String] { get }
}

extension BaselineRule {
    package var choosesDecodeFirst: Bool { false }
    package func disaggregates(_ view: BaselineView, decode: Int) -> Bool { true }
    package var parameters: [String: String] { [:] }
}

/// The candidate of least cost; one of the equals, by draw.
func leastCost(_ candidates: [Int], _ draw: inout RandomStream, _ cost: (Int) -> Double) -> Int {
    var best: [Int] = []
    var least = Double.infinity
    for candidate in candidates {
        let value = cost(candidate)
        if value < least {
            least = value
            best = [candidate]
        } else if value == least {
            best.append(candidate)
        }
    }
    guard best.count > 1 else { return best.first ?? candidates[0] }
    return best[Int(draw.next() % UInt64(best.count))]
}
