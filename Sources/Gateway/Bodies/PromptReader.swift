// SPDX-License-Identifier: Apache-2.0
// Copyright the epp-pd authors

internal import PrefixIndex

/// Reads the prompt out of a body: its size, and the keys of its text or tokens.
///
/// Parts come in the order in which chat templates render them, tools first, so that what requests share stands in front.
/// Chat templates themselves are not applied: the keys of text are a stand-in for tokens, and only need to agree between
/// requests that share a prefix.
struct PromptReader {
    private(set) var text: TextKeyHasher
    private(set) var tokens: TokenKeyHasher
    /// Bytes of text and tools; media and roles are not counted.
    private(set) var textBytes = 0
    private var sawTokens = false

    init(text: TextKeyHasher, tokens: TokenKeyHasher) {
        self.text = text
        self.tokens = tokens
    }

    /// The number of prompt tokens where the request carried token ids.
    var promptTokens: Int? { sawTokens ? tokens.tokenCount : nil }
    var tokenKeys: PrefixKeys? { sawTokens ? tokens.finish() : nil }

    mutating func read(_ fields: BodyFields, of api: InferenceAPI) {
        if let tools = fields.tools, tools.isArray { readWhole(tools) }
        switch api {
        case .chatCompletions:
            readMessages(fields.messages)
        case .messages:
            readContent(fields.system)
            readMessages(fields.messages)
        case .completions:
            readPrompt(fields.prompt)
        case .embeddings:
            readPrompt(fields.input)
        case .responses:
            readContent(fields.instructions)
            if let input = fields.input, input.isArray { readMessages(input) } else { readContent(fields.input) }
        case .other:
            break
        }
    }

    /// `messages`, or the items of a response's `input`.
    private mutating func readMessages(_ messages: JSONValue?) {
        messages?.forEachElement { message in
            if let content = message["content"] {
                readName(message["role"])
                readContent(content)
                if let calls = message["tool_calls"], calls.isArray { readWhole(calls) }
            } else {
                // Calls of functions and their results, among others: all of them is prompt.
                readWhole(message)
            }
            return true
        }
    }

    /// A string, or parts: text, and references to media.
    private mutating func readContent(_ content: JSONValue?) {
        guard let content else { return }
        if let string = unsafe content.utf8 { return unsafe readText(string) }
        content.forEachElement { part in
            if let string = unsafe part.utf8 ?? part["text"]?.utf8 {
                unsafe readText(string)
            } else {
                readName(part["type"])
                readMedia(part)
            }
            return true
        }
    }

    /// `prompt` or an embedding's `input`: a string, strings, token ids, or lists of token ids.
    private mutating func readPrompt(_ prompt: JSONValue?) {
        guard let prompt else { return }
        if let string = unsafe prompt.utf8 { return unsafe readText(string) }
        var ids: [UInt32] = []
        prompt.forEachElement { element in
            if let string = unsafe element.utf8 {
                unsafe readText(string)
            } else if let id = element.natural, let id = UInt32(exactly: id) {
                ids.append(id)
            } else {
                var inner: [UInt32] = []
                element.forEachElement { element in
                    if let id = element.natural, let id = UInt32(exactly: id) { inner.append(id) }
                    return true
                }
                readTokens(inner)
            }
            return true
        }
        readTokens(ids)
    }

    private mutating func readTokens(_ ids: [UInt32]) {
        guard !ids.isEmpty else { return }
        sawTokens = true
        tokens.update(ids)
        // Also as text, so that an index that learns from routing knows them: four bytes to the token, as text has.
        unsafe ids.withUnsafeBytes { unsafe text.update($0) }
        text.separate()
    }

    private mutating func readText(_ bytes: UnsafeRawBufferPointer) {
        textBytes += bytes.count
        unsafe text.update(bytes)
        text.separate()
    }

    private mutating func readName(_ name: JSONValue?) {
        guard let name = unsafe name?.utf8 else { return }
        unsafe text.update(name)
        text.separate()
    }

    private mutating func readWhole(_ value: JSONValue) {
        unsafe value.withText { unsafe readText($0) }
    }

    /// Media are told apart by a digest: a picture of a megabyte would fill thousands of blocks, and be none of the prompt.
    private mutating func readMedia(_ part: JSONValue) {
        unsafe part.withText { bytes in
            let digest = unsafe digest(of: bytes)
            unsafe withUnsafeBytes(of: digest) { unsafe text.update($0) }
            text.separate()
        }
    }

    /// Multiplies and folds eight bytes at a time: enough to tell media apart, at some gigabytes a second.
    private func digest(of bytes: UnsafeRawBufferPointer) -> UInt64 {
        var hash = UInt64(truncatingIfNeeded: bytes.count) ^ 0x9E37_79B9_7F4A_7C15
        var offset = 0
        while bytes.count - offset >= 8 {
            hash = unsafe mixed(hash ^ bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
            offset += 8
        }
        for index in offset..<bytes.count { hash = unsafe mixed(hash ^ UInt64(bytes[index])) }
        return hash
    }

    private func mixed(_ value: UInt64) -> UInt64 {
        let wide = value.multipliedFullWidth(by: 0xD6E8_FEB8_6659_FD93)
        return wide.high ^ wide.low
    }
}
