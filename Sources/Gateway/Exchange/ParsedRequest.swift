// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

package import PrefixIndex
package import Router

/// Which API a request speaks, by its path.
package enum InferenceAPI: String, Sendable, Hashable, Codable {
    case chatCompletions, completions, responses, messages, embeddings
    /// Any other path, or no body: routed by load.
    case other

    /// vLLM and SGLang read a `priority` in the bodies of OpenAI's APIs; Anthropic's has no such member.
    var takesPriority: Bool { self != .messages && self != .other }
}

/// What the gateway side read from one request: facts from the wire, nothing estimated but the keys.
package struct ParsedRequest: Sendable, Hashable {
    package var id: RequestID
    package var api: InferenceAPI
    /// The client's `x-request-id`; empty where it gave none, or nobody asks.
    package var externalID: String
    package var model: String?
    package var streams: Bool
    /// Whether the first bytes of the response will be seen.
    package var showsFirstToken: Bool
    /// The request's own limit on output tokens.
    package var maxOutputTokens: Int?
    /// Bytes of the body that the exchange holds until the request is routed.
    package var bodyBytes: Int
    /// Bytes of prompt text after unescaping (messages, prompt, tools): what token counts are estimated from.
    package var promptBytes: Int
    /// Number of prompt tokens where the request carried token ids.
    package var promptTokens: Int?
    package var textKeys: PrefixKeys
    package var tokenKeys: PrefixKeys?
    package var cacheSalt: String?
    /// The body's `prompt_cache_key` and `user`.
    package var promptCacheKey: String?
    package var user: String?
    /// The body as it came, where `ExchangeOptions.keptBodyBytes` asks for it and the prompt is text: for an engine that
    /// shall cut it into tokens.
    package var body: [UInt8] = []
    /// From `x-llm-d-slo-ttft-ms`, `x-llm-d-slo-tpot-ms` and their older aliases.
    package var serviceLevel: ServiceLevel
    /// Name of the objective, from `x-llm-d-inference-objective` and its alias.
    package var objective: String?
    /// What the client's session is called, from `x-session-id` and its alias. nil: it does not say.
    package var session: String?
    /// Whom the gateway asked: the `:authority` of its call. Empty where it does not say.
    package var authority: String = ""
    /// From the metadata `envoy.lb.subset_hint`. nil: no hint. Empty: nothing is allowed.
    package var subset: [String]?
    /// Set where another picker places the request, and this one only watches.
    package var shadow: Shadow?
}

extension ParsedRequest {
    // By way of the memberwise initializer: one that sets member by member copies the whole at its end.
    package init(
        id: RequestID,
        api: InferenceAPI,
        externalID: String = "",
        model: String? = nil,
        streams: Bool = false,
        showsFirstToken: Bool = true,
        maxOutputTokens: Int? = nil,
        bodyBytes: Int = 0,
        promptBytes: Int = 0,
        promptTokens: Int? = nil,
        textKeys: PrefixKeys = .none,
        tokenKeys: PrefixKeys? = nil,
        cacheSalt: String? = nil,
        promptCacheKey: String? = nil,
        user: String? = nil,
        serviceLevel: ServiceLevel = ServiceLevel(),
        objective: String? = nil,
        session: String? = nil,
        subset: [String]? = nil,
        shadow: Shadow? = nil
    ) {
        self.init(
            id: id,
            api: api,
            externalID: externalID,
            model: model,
            streams: streams,
            showsFirstToken: showsFirstToken,
            maxOutputTokens: maxOutputTokens,
            bodyBytes: bodyBytes,
            promptBytes: promptBytes,
            promptTokens: promptTokens,
            textKeys: textKeys,
            tokenKeys: tokenKeys,
            cacheSalt: cacheSalt,
            promptCacheKey: promptCacheKey,
            user: user,
            body: [],
            serviceLevel: serviceLevel,
            objective: objective,
            session: session,
            authority: "",
            subset: subset,
            shadow: shadow
        )
    }
}
