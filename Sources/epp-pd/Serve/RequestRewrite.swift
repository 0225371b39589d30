// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import Gateway
import PrefixIndex
import Router

/// Puts a request on the model that serves it, where the cluster's rules name another than it asks for.
enum RequestRewrite {
    /// `rewritten` is called with the new model's name, where there is one.
    static func apply(_ rules: RequestRules, to request: ParsedRequest, rewritten: (String) -> Void) -> ParsedRequest {
        guard !rules.splits.isEmpty, let model = request.model,
            let target = rules.target(for: model, draw: draw(for: request))
        else { return request }
        rewritten(target)
        var request = request
        request.model = target
        // The keys of text hold the model asked for; caches are the served one's. Its name goes where that stands: in the first.
        if let first = request.textKeys.hashes.first {
            request.textKeys.hashes[0] = first ^ RequestRules.draw(of: target)
        }
        request.tokenKeys?.model = target
        return request
    }

    /// Requests of one session, of one cache key or of one user are served by one model, so that an A/B test compares whole
    /// conversations. The narrowest that is said counts; a salt parts tenants, and so comes last.
    private static func draw(for request: ParsedRequest) -> UInt64 {
        if let session = request.session { return RequestRules.draw(of: "session " + session) }
        if let key = request.promptCacheKey { return RequestRules.draw(of: "key " + key) }
        if let user = request.user { return RequestRules.draw(of: "user " + user) }
        if let salt = request.cacheSalt { return RequestRules.draw(of: "salt " + salt) }
        return RequestRules.draw(of: request.id.rawValue, seed: 0)
    }
}
