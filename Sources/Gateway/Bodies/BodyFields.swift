// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

/// The members of an inference body that are read, wherever they stand in it. Of duplicates the last one counts, as
/// model servers' parsers take it.
struct BodyFields {
    var model, stream, cacheSalt, promptCacheKey, user: JSONValue?
    var maxTokens, maxCompletionTokens, maxOutputTokens: JSONValue?
    var tools, system, instructions, messages, prompt, input: JSONValue?
    /// How often the members that may be rewritten occur.
    private(set) var models = 0
    private(set) var priorities = 0

    init(_ root: JSONValue) {
        unsafe root.forEachMember { key, value in unsafe take(key, value) }
    }

    private mutating func take(_ key: UnsafeRawBufferPointer, _ value: JSONValue) {
        // By length first: most members of a body are none of these.
        switch key.count {
        case 4: if unsafe key.equals("user") { user = value }
        case 5:
            if unsafe key.equals("model") {
                model = value
                models += 1
            }
            if unsafe key.equals("tools") { tools = value }
            if unsafe key.equals("input") { input = value }
        case 6:
            if unsafe key.equals("stream") { stream = value }
            if unsafe key.equals("prompt") { prompt = value }
            if unsafe key.equals("system") { system = value }
        case 8:
            if unsafe key.equals("messages") { messages = value }
            if unsafe key.equals("priority") { priorities += 1 }
        case 10:
            if unsafe key.equals("max_tokens") { maxTokens = value }
            if unsafe key.equals("cache_salt") { cacheSalt = value }
        case 12: if unsafe key.equals("instructions") { instructions = value }
        case 16: if unsafe key.equals("prompt_cache_key") { promptCacheKey = value }
        case 17: if unsafe key.equals("max_output_tokens") { maxOutputTokens = value }
        case 21: if unsafe key.equals("max_completion_tokens") { maxCompletionTokens = value }
        default: break
        }
    }

    /// The request's own limit on output tokens. A limit that is no natural number is the model server's to refuse.
    func outputLimit(of api: InferenceAPI) -> Int? {
        switch api {
        case .chatCompletions: maxCompletionTokens?.natural ?? maxTokens?.natural
        case .completions, .messages: maxTokens?.natural
        case .responses: maxOutputTokens?.natural
        case .embeddings, .other: nil
        }
    }
}
