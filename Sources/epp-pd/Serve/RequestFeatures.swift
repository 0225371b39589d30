// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

import CostModel
import Gateway
import PrefixIndex
import Router

/// Turns what the wire said into what the decision needs: bytes become tokens by what was learned of the model.
enum RequestFeatures {
    static func request(
        from parsed: ParsedRequest,
        priority: Int,
        lengths: borrowing Router
    ) -> InferenceRequest {
        let isInference = parsed.api != .other
        let tokensPerByte = lengths.promptLengths.tokensPerByte(model: parsed.model)
        let promptTokens =
            parsed.promptTokens
            ?? PromptLengths.tokens(promptBytes: parsed.promptBytes, tokensPerByte: tokensPerByte)
        var keys = parsed.textKeys
        keys.tokensPerBlock = Double(TextKeyHasher.defaultBytesPerBlock) * tokensPerByte
        return InferenceRequest(
            id: parsed.id,
            model: parsed.model,
            promptTokens: promptTokens,
            outputTokens: outputTokens(parsed, promptTokens, lengths),
            streams: parsed.streams,
            showsFirstToken: parsed.showsFirstToken,
            priority: priority,
            serviceLevel: parsed.serviceLevel,
            prefix: keys,
            subset: parsed.subset,
            isInference: isInference,
            bodyBytes: parsed.bodyBytes,
            promptBytes: parsed.promptTokens == nil ? parsed.promptBytes : 0,
            externalID: parsed.externalID,
            tokenPrefix: parsed.tokenKeys,
            shadow: parsed.shadow
        )
    }

    /// Embeddings end with the prompt.
    private static func outputTokens(
        _ parsed: ParsedRequest,
        _ promptTokens: Int,
        _ lengths: borrowing Router
    ) -> Int {
        guard parsed.api != .embeddings else { return 1 }
        return lengths.outputLengths.expected(
            model: parsed.model,
            promptTokens: promptTokens,
            limit: parsed.maxOutputTokens
        )
    }
}
