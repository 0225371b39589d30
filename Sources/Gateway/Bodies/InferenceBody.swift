// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import PrefixIndex

/// What one inference body says.
struct InferenceBody: Sendable, Hashable {
    var model: String
    var streams = false
    var maxOutputTokens: Int?
    var cacheSalt: String?
    var promptCacheKey: String?
    var user: String?
    var promptBytes = 0
    var promptTokens: Int?
    var textKeys = PrefixKeys.none
    var tokenKeys: PrefixKeys?
    /// The client sent a priority of its own for the model server.
    var hasPriority = false
}

/// Reads inference bodies. Confined to one loop.
struct InferenceBodyReader: ~Copyable {
    /// Longest model name taken: four times the longest that a pod's model list is believed. Names are kept per kind of
    /// request, and are told back to clients.
    static let maxModelBytes = 1024
    /// Longest cache key or user taken: OpenAI allows 64 characters. Longer ones are as none.
    static let maxKeyBytes = 1024

    var parser: JSONParser
    private let bytesPerBlock: Int
    private let tokensPerBlock: Int

    init(_ options: ExchangeOptions) {
        parser = JSONParser(maxBytes: options.bodyLimit)
        bytesPerBlock = options.textBytesPerBlock
        tokensPerBlock = options.tokensPerBlock
    }

    private static func key(_ value: JSONValue?) -> String? {
        value?.string.flatMap { !$0.isEmpty && $0.utf8.count <= maxKeyBytes ? $0 : nil }
    }

    /// Reads the body of a request to `api`.
    mutating func read(_ body: borrowing PaddedBytes, of api: InferenceAPI) throws(APIError) -> InferenceBody {
        let (bytesPerBlock, tokensPerBlock, expectedBytes) = (bytesPerBlock, tokensPerBlock, body.count)
        do throws(JSONReadError) {
            return try parser.parse(body) { root throws(APIError) in
                guard root.isObject else { throw APIError(status: 400, message: "the request body is no JSON object") }
                let fields = BodyFields(root)
                guard let model = fields.model?.string, !model.isEmpty else {
                    throw APIError(status: 400, message: "the request names no model", param: "model")
                }
                guard model.utf8.count <= Self.maxModelBytes else {
                    throw APIError(
                        status: 400,
                        message: "the model's name is longer than \(Self.maxModelBytes) bytes",
                        param: "model"
                    )
                }
                // What may have to be replaced must be found again, in every place.
                guard fields.models <= JSONParser.mostRanges, fields.priorities <= JSONParser.mostRanges else {
                    throw APIError(status: 400, message: "the request repeats its model or priority too often")
                }
                let salt = fields.cacheSalt?.string
                var prompt = PromptReader(
                    text: TextKeyHasher(
                        model: model,
                        cacheSalt: salt,
                        bytesPerBlock: bytesPerBlock,
                        expectedBytes: expectedBytes
                    ),
                    tokens: TokenKeyHasher(model: model, cacheSalt: salt, tokensPerBlock: tokensPerBlock)
                )
                prompt.read(fields, of: api)
                return InferenceBody(
                    model: model,
                    streams: fields.stream?.bool ?? false,
                    maxOutputTokens: fields.outputLimit(of: api),
                    cacheSalt: salt,
                    promptCacheKey: Self.key(fields.promptCacheKey),
                    user: Self.key(fields.user),
                    promptBytes: prompt.textBytes,
                    promptTokens: prompt.promptTokens,
                    textKeys: prompt.text.finish(),
                    tokenKeys: prompt.tokenKeys,
                    hasPriority: fields.priorities > 0
                )
            }
        } catch {
            switch error {
            case .refused(let refusal): throw refusal
            case .bad(.tooDeep): throw APIError(status: 400, message: "the request body is nested too deeply")
            case .bad(.outOfMemory): throw APIError(status: 503, message: "no memory to read the request body")
            case .bad(.invalid), .bad(.tooLarge):
                throw APIError(status: 400, message: "the request body is not valid JSON")
            }
        }
    }
}
