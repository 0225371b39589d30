// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import CostModel
package import PrefixIndex

/// Names one request for as long as the process lives.
package struct RequestID: Sendable, Hashable, Comparable, Codable {
    package var rawValue: UInt64

    package init(_ rawValue: UInt64) { self.rawValue = rawValue }
    package static func < (a: RequestID, b: RequestID) -> Bool { a.rawValue < b.rawValue }

    /// Numbers that the process gives out itself: no client can choose ones that collide, so a multiplication is enough.
    package func _rawHashValue(seed: Int) -> Int { ScatteredNumber.hash(rawValue, seed: seed) }

    package init(from decoder: any Decoder) throws {
        rawValue = try decoder.singleValueContainer().decode(UInt64.self)
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(rawValue)
    }
}

/// What a request must achieve. A missing bound is no bound.
package struct ServiceLevel: Sendable, Hashable, Codable {
    package var ttft: Seconds?
    package var tpot: Seconds?

    package init(ttft: Seconds? = nil, tpot: Seconds? = nil) {
        self.ttft = ttft
        self.tpot = tpot
    }
}

/// All that the decision may know about one request.
package struct InferenceRequest: Sendable, Hashable, Codable {
    package var id: RequestID
    /// The model that the pods shall serve it as. nil: a path without a model, routed by load.
    package var model: String?
    /// Prompt length in tokens; an estimate unless the request carried token ids.
    package var promptTokens: Int
    /// Output length expected: a learned quantile capped by the request's own limit.
    package var outputTokens: Int
    /// True when the answer is a stream, so that a first token can be seen.
    package var streams: Bool
    /// Whether anybody will see that first token: where response bodies are not shown, decoding begins as predicted.
    package var showsFirstToken: Bool
    /// Higher is served first. Below zero: may be refused under load.
    package var priority: Int
    package var serviceLevel: ServiceLevel
    package var prefix: PrefixKeys
    /// Keys of the prompt's token ids, where they are known: exact against engines' own events.
    package var tokenPrefix: PrefixKeys?
    /// Destinations that the gateway allows, as `ip:port` or `ip`. nil = all.
    package var subset: [String]?
    /// False for bodies without an inference to place (GET, unknown paths): routed by load alone.
    package var isInference: Bool
    /// The pool that was asked for. nil = any.
    package var pool: String?
    /// The pool whose rules hold: the one asked for, else the one that all endpoints belong to which may serve it. nil where
    /// they are of several. The Router sets it.
    package var ruledBy: String?
    /// Bytes that the gateway holds while the request waits: what the queue is bounded by.
    package var bodyBytes: Int
    /// Bytes of prompt text that `promptTokens` was estimated from. 0 where the tokens were counted.
    package var promptBytes: Int
    /// The client's `x-request-id`, or empty: joins the decision log with others. Decides nothing.
    package var externalID: String
    /// Set where another picker places the request, and this one only watches.
    package var shadow: Shadow?

    /// Whether a first token is to be waited for.
    package var reportsFirstToken: Bool { streams && showsFirstToken }

    package var isSheddable: Bool { priority < 0 }
}

extension InferenceRequest {
    // By way of the memberwise initializer: one that sets member by member copies the whole at its end.
    package init(
        id: RequestID,
        model: String?,
        promptTokens: Int,
        outputTokens: Int,
        streams: Bool,
        showsFirstToken: Bool = true,
        priority: Int = 0,
        serviceLevel: ServiceLevel = ServiceLevel(),
        prefix: PrefixKeys = .none,
        subset: [String]? = nil,
        isInference: Bool = true,
        pool: String? = nil,
        bodyBytes: Int = 0,
        promptBytes: Int = 0,
        externalID: String = "",
        tokenPrefix: PrefixKeys? = nil,
        shadow: Shadow? = nil
    ) {
        self.init(
            id: id,
            model: model,
            promptTokens: promptTokens,
            outputTokens: outputTokens,
            streams: streams,
            showsFirstToken: showsFirstToken,
            priority: priority,
            serviceLevel: serviceLevel,
            prefix: prefix,
            tokenPrefix: tokenPrefix,
            subset: subset,
            isInference: isInference,
            pool: pool,
            ruledBy: pool,
            bodyBytes: bodyBytes,
            promptBytes: promptBytes,
            externalID: externalID,
            shadow: shadow
        )
    }
}
