// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel

/// How a request is served.
package enum Placement: Sendable, Hashable, Codable {
    /// `prefill` computes the prompt, its KV moves to `decode`.
    case pair(prefill: EndpointID, decode: EndpointID)
    /// A decode pod computes the prompt itself.
    case local(EndpointID)
    /// A pod of both roles does all.
    case both(EndpointID)

    /// Where the gateway sends the request.
    package var destination: EndpointID {
        switch self {
        case .pair(_, let decode): decode
        case .local(let id), .both(let id): id
        }
    }

    package var isPair: Bool {
        if case .pair = self { return true }
        return false
    }

    /// The pod that computes the prompt.
    package var prefiller: EndpointID {
        switch self {
        case .pair(let prefill, _): prefill
        case .local(let id), .both(let id): id
        }
    }
}

/// Where a request goes, and what was predicted when it was sent there.
package struct Decision: Sendable, Hashable, Codable {
    package var placement: Placement
    /// Third pod from which the prefiller pulls a prefix, where that pays.
    package var pullFrom: EndpointID?
    /// Further destinations in order of preference, for gateways that take a list.
    package var fallbacks: [EndpointID]
    /// From the request's arrival at the Router to its first token.
    package var predictedTTFT: Seconds
    package var predictedTPOT: Seconds
    package var predictedDollars: Dollars
    /// Prompt tokens expected to be found cached at the prefiller.
    package var predictedCachedTokens: Int
    /// For engines that serve by priority: lower is sooner. nil: leave the body as it is.
    package var enginePriority: Int?

    package init(
        placement: Placement,
        pullFrom: EndpointID? = nil,
        fallbacks: [EndpointID] = [],
        predictedTTFT: Seconds,
        predictedTPOT: Seconds,
        predictedDollars: Dollars,
        predictedCachedTokens: Int,
        enginePriority: Int? = nil
    ) {
        self.placement = placement
        self.pullFrom = pullFrom
        self.fallbacks = fallbacks
        self.predictedTTFT = predictedTTFT
        self.predictedTPOT = predictedTPOT
        self.predictedDollars = predictedDollars
        self.predictedCachedTokens = predictedCachedTokens
        self.enginePriority = enginePriority
    }
}

/// Why a request was not placed. The gateway side turns it into an HTTP answer.
package enum Refusal: Sendable, Hashable, Codable {
    /// 503: no endpoint can take it.
    case noEndpoint(reason: String)
    /// 404: every model list is fresh and none names the model.
    case unknownModel(String)
    /// 429: sheddable, and it can no longer meet its service level, or the queue is full.
    case shed(reason: String, retryAfter: Seconds)
}
