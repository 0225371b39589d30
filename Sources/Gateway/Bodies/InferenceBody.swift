// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import PrefixIndex

/// What one inference body says.
struct InferenceBody: Sendable, Hashable {
    var model: String
    var streams = false
    var maxOutputTokens: Int?
    var cacheSalt: String?
    var promptBytes = 0
    var promptTokens: Int?
    var textKeys = PrefixKeys.none
    var tokenKeys: PrefixKeys?
}

/// Reads inference bodies. Confined to one loop.
struct InferenceBodyReader: ~Copyable {
    /// Longest model name taken: four times the longest that a pod's model list is believed. Names are kept per kind of
    /// request, and are told back to clients.
    static let maxModelBytes = 1024

    private var parser: JSONParser
    private let bytesPerBlock: Int
    private let tokensPerBlock: Int

    init(_ options: ExchangeOptions) {
        parser = JSONParser(maxBytes: options.bodyLimit)
        bytesPerBlock = options.textBytesPerBlock
        tokensPerBlock = options.tokensPerBlock
    }

    /// Reads the body of a request to `api`.
    mutating func read(_ body: borrowing PaddedBytes, of api: InferenceAPI) throws(APIError) -> InferenceBody {
        let (bytesPerBlock, tokensPerBlock) = (bytesPerBlock, tokensPerBlock)
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
                let salt = fields.cacheSalt?.string
                var prompt = PromptReader(
                    text: TextKeyHasher(model: model, cacheSalt: salt, bytesPerBlock: bytesPerBlock),
                    tokens: TokenKeyHasher(model: model, cacheSalt: salt, tokensPerBlock: tokensPerBlock)
                )
                prompt.read(fields, of: api)
                return InferenceBody(
                    model: model,
                    streams: fields.stream?.bool ?? false,
                    maxOutputTokens: fields.outputLimit(of: api),
                    cacheSalt: salt,
                    promptBytes: prompt.textBytes,
                    promptTokens: prompt.promptTokens,
                    textKeys: prompt.text.finish(),
                    tokenKeys: prompt.tokenKeys
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

    /// Replaces the value of every top-level `model`, and leaves every other byte as it is.
    ///
    /// - Returns: nil where there is nothing to replace.
    mutating func replaceModel(of body: borrowing PaddedBytes, by model: String) -> PaddedBytes? {
        guard let ranges = parser.ranges(of: "model", in: body), !ranges.isEmpty else { return nil }
        var name = APIError.quoted(model)
        var result = PaddedBytes()
        result.reserve(body.count + ranges.count * name.utf8.count)
        var end = 0
        for range in ranges {
            guard range.lowerBound >= end, range.upperBound <= body.count else { return nil }
            unsafe result.append(UnsafeRawBufferPointer(rebasing: body.bytes[end..<range.lowerBound]))
            name.withUTF8 { unsafe result.append(UnsafeRawBufferPointer($0)) }
            end = range.upperBound
        }
        unsafe result.append(UnsafeRawBufferPointer(rebasing: body.bytes[end...]))
        return result
    }
}
